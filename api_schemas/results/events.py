"""Events: written by the engine as JSON lines, stored by the supervisor, sent to clients. One schema for all three."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from api_schemas.base import FrozenModel
from api_schemas.enums import JobState, Phase
from api_schemas.errors import ErrorCode, ErrorItem
from api_schemas.results.metrics import DataSummary, JobResult, Memory, StepMetrics


class Started(FrozenModel):
    """The engine has read its spec and its model."""

    type: Literal["started"] = "started"
    device: str
    threads: int
    """Of each of its processes."""
    processes: int = 1
    steps: int
    resumed_from: int | None = None
    versions: dict[str, str]
    family: str | None = None
    memory: Memory | None = None
    """Before the model is read."""
    tensor_bytes: int | None = None
    """What the memory above that grows with: copies of the weights, and the activations of a batch."""


class DataReady(FrozenModel):
    """The dataset is read, its labels matched and its features computed."""

    type: Literal["data"] = "data"
    data: DataSummary


class PhaseChanged(FrozenModel):
    type: Literal["phase"] = "phase"
    phase: Phase
    step: int
    steps: int


class Progress(FrozenModel):
    """At most twice a second. `fraction` is of the whole job, in [0, 1]."""

    type: Literal["progress"] = "progress"
    phase: Phase
    step: int
    steps: int
    done: int
    total: int
    fraction: float
    eta_seconds: float | None = None


class Loss(FrozenModel):
    """Mean training loss of an epoch of recovery."""

    type: Literal["loss"] = "loss"
    step: int
    epoch: int
    epochs: int
    train_loss: float


class TrainingSaved(FrozenModel):
    """A long recovery can go on from here: `file`, relative to the output folder, is complete and flushed to disk."""

    type: Literal["training"] = "training"
    step: int
    epoch: int
    """Epochs of the step's recovery that are done."""
    epochs: int
    file: str


class StepDone(FrozenModel):
    """A step's folder is complete and flushed to disk; `folder` is relative to the output folder."""

    type: Literal["step"] = "step"
    folder: str
    metrics: StepMetrics


class Warned(FrozenModel):
    """Something a user should know that does not stop the job."""

    type: Literal["warning"] = "warning"
    code: str
    detail: str


class Failed(FrozenModel):
    """The engine ends without a result. `traceback` is for the log, never for a client."""

    type: Literal["failed"] = "failed"
    code: ErrorCode
    detail: str
    errors: tuple[ErrorItem, ...] = ()
    traceback: str | None = None


class Finished(FrozenModel):
    """All steps are done, or `stop` ended the job. `steps` counts those taken, the original left out."""

    type: Literal["finished"] = "finished"
    steps: int
    result: JobResult | None = None


EngineEvent = Annotated[
    Started | DataReady | PhaseChanged | Progress | Loss | TrainingSaved | StepDone | Warned | Failed | Finished,
    Field(discriminator="type"),
]
ENGINE_EVENT: TypeAdapter[EngineEvent] = TypeAdapter(EngineEvent)


class StateChanged(FrozenModel):
    """Written by the service and the worker at every transition of the job."""

    type: Literal["state"] = "state"
    state: JobState
    detail: str | None = None


JobEventBody = Annotated[
    Started
    | DataReady
    | PhaseChanged
    | Progress
    | Loss
    | TrainingSaved
    | StepDone
    | Warned
    | Failed
    | Finished
    | StateChanged,
    Field(discriminator="type"),
]
JOB_EVENT_BODY: TypeAdapter[JobEventBody] = TypeAdapter(JobEventBody)


class JobEvent(FrozenModel):
    """An event as the API returns it. `seq` rises by one a job and is the SSE event id."""

    seq: int
    created_at: datetime
    body: JobEventBody
