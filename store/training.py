"""What a job's row knows of the recovery it is in the middle of."""

from pydantic import BaseModel, ConfigDict


class TrainingFile(BaseModel):
    """The newest state of a step's recovery; durable under `key`, forgotten once the step is committed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: int
    epoch: int
    """Epochs of the recovery that are done."""
    key: str
    size: int
    sha256: str
