"""The Python client of a Secateur service, and the `secateur` command.

    from secateur import Secateur, load

Names are imported only when they are used, because the programs that the command starts import this package, too.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from api_schemas.spec.inputs import BucketModel as BucketModel
    from api_schemas.spec.inputs import HubDataset as HubDataset
    from api_schemas.spec.inputs import HubModel as HubModel
    from api_schemas.spec.inputs import StepModel as StepModel
    from api_schemas.spec.job import JobRequest as JobRequest
    from secateur.client.async_client import AsyncSecateur as AsyncSecateur
    from secateur.client.async_job import AsyncCheckpoint as AsyncCheckpoint
    from secateur.client.async_job import AsyncJob as AsyncJob
    from secateur.client.async_sweep import AsyncSweep as AsyncSweep
    from secateur.client.blocking_client import Secateur as Secateur
    from secateur.client.job import Checkpoint as Checkpoint
    from secateur.client.job import Job as Job
    from secateur.client.job_request import JobFields as JobFields
    from secateur.client.progress import Progress as Progress
    from secateur.client.sweep import Sweep as Sweep
    from secateur.errors import SecateurError as SecateurError
    from secateur.loading import load as load

_WHERE = {
    "AsyncCheckpoint": "secateur.client.async_job",
    "AsyncJob": "secateur.client.async_job",
    "AsyncSecateur": "secateur.client.async_client",
    "AsyncSweep": "secateur.client.async_sweep",
    "BucketModel": "api_schemas.spec.inputs",
    "Checkpoint": "secateur.client.job",
    "HubDataset": "api_schemas.spec.inputs",
    "HubModel": "api_schemas.spec.inputs",
    "Job": "secateur.client.job",
    "JobFields": "secateur.client.job_request",
    "JobRequest": "api_schemas.spec.job",
    "Progress": "secateur.client.progress",
    "Secateur": "secateur.client.blocking_client",
    "SecateurError": "secateur.errors",
    "StepModel": "api_schemas.spec.inputs",
    "Sweep": "secateur.client.sweep",
    "load": "secateur.loading",
}
__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'secateur' has no attribute {name!r}")
    return getattr(importlib.import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *_WHERE]
