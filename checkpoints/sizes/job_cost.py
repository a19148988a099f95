"""What a finished job took, and what that is proportional to: the ground that estimates stand on."""

from api_schemas.base import FrozenModel
from api_schemas.enums import Phase
from api_schemas.results.metrics import Memory


class PhaseTime(FrozenModel):
    """Wall time of a phase over a whole job, and its work as checkpoints/sizes/cost_model.py counts it."""

    seconds: float
    work: float


class JobCost(FrozenModel):
    """One finished job."""

    phases: dict[Phase, PhaseTime]
    outside_seconds: float
    """Time of the worker outside all phases: inputs fetched, the engine started, files stored."""
    base: Memory
    """Before the job's own model and data: libraries, a GPU's context."""
    peak: Memory
    tensor_bytes: int
    """What the memory above the base is taken to be proportional to (checkpoints/sizes/cost_model.py)."""
