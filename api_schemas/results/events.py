"""Events: written by the engine as JSON lines, stored by the supervisor, sent to clients. One schema for all three."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from api_schemas.base import FrozenModel
from api_schemas.enums import JobState, Phase
from api_schemas.errors import ErrorCode, ErrorItem
from api_schemas.results.metrics import DataSummary, JobResult, Memory, StepMetrics, UnfinishedEpoch


class Started(FrozenModel):
    """The engine has read its spec and its model."""

    type: Literal["started"] = "started"
    device: str
    threads: int
    """Threads of each of its processes."""
    processes: int = 1
    steps: int
    resumed_from: int | None = None
    versions: dict[str, str]
    family: str | None = None
    memory: Memory | None = None
    """Memory before the model is read."""
    tensor_bytes: int | None = None
    """Memory use beyond `memory` grows with this: bytes of copies of the weights and of a batch's activations."""


class DataReady(FrozenModel):
    """The dataset has been read, its labels matched and its features computed."""

    type: Literal["data"] = "data"
    data: DataSummary


class PhaseChanged(FrozenModel):
    type: Literal["phase"] = "phase"
    phase: Phase
    step: int
    steps: int


class Progress(FrozenModel):
    """Sent at most twice a second. `fraction` is of the whole job, in [0, 1]."""

    type: Literal["progress"] = "progress"
    phase: Phase
    step: int
    steps: int
    done: int
    total: int
    fraction: float
    eta_seconds: float | None = None
    training: UnfinishedEpoch | None = None
    """Set during recovery once a part of the current epoch is known."""


class Loss(FrozenModel):
    """Mean training loss of an epoch of recovery."""

    type: Literal["loss"] = "loss"
    step: int
    epoch: int
    epochs: int
    train_loss: float
    points: tuple[float, ...] = ()
    """Mean training loss of the parts of the epoch, as in EpochLoss."""


class TrainingSaved(FrozenModel):
    """A long recovery can continue from here: `file`, relative to the output folder, is complete and flushed to disk."""

    type: Literal["training"] = "training"
    step: int
    epoch: int
    """Completed epochs of the step's recovery."""
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
    """The engine ended without a result. `traceback` is written to the log and never sent to clients."""

    type: Literal["failed"] = "failed"
    code: ErrorCode
    detail: str
    errors: tuple[ErrorItem, ...] = ()
    traceback: str | None = None


class Finished(FrozenModel):
    """All steps are done, or `stop` ended the job. `steps` is the number of steps taken, without the original."""

    type: Literal["finished"] = "finished"
    steps: int
    result: JobResult | None = None


EngineEvent = Annotated[
    Started | DataReady | PhaseChanged | Progress | Loss | TrainingSaved | StepDone | Warned | Failed | Finished,
    Field(discriminator="type"),
]
ENGINE_EVENT: TypeAdapter[EngineEvent] = TypeAdapter(EngineEvent)


class StateChanged(FrozenModel):
    """Written by the service and the worker at every state transition of the job."""

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
    """An event as returned by the API. `seq` increases by one within a job and is the SSE event id."""

    seq: int
    created_at: datetime
    body: JobEventBody
