"""What the API answers with: models, datasets, jobs, checkpoints, and pages of them."""

from datetime import datetime
from typing import Generic, TypeVar

from pydantic import ConfigDict, Field

from api_schemas.base import FrozenModel, StrictModel
from api_schemas.enums import ColumnKind, Granularity, Head, JobState, KeyScope, Modality, Phase, UploadState
from api_schemas.errors import ErrorCode, ErrorItem, SecateurError
from api_schemas.ids import FileName, FolderFileName, Name, Sha256
from api_schemas.results.metrics import DataSummary, JobResult, JobWarning, StepMetrics
from api_schemas.results.widths import AttentionWidths
from api_schemas.spec.inputs import Columns
from api_schemas.spec.job import JobRequest

T = TypeVar("T")


class Page(FrozenModel, Generic[T]):
    """Newest first. `next_cursor` is null on the last page."""

    # For every `Page[…]` pydantic would look through all modules for docstrings of these fields, which have none: seconds, where
    # torch has been imported.
    model_config = ConfigDict(use_attribute_docstrings=False)

    items: tuple[T, ...]
    next_cursor: str | None = None


class DeclaredFile(StrictModel):
    """A file the client is going to upload."""

    name: FileName
    size: int = Field(ge=0)
    sha256: Sha256


class DeclaredModelFile(DeclaredFile):
    """A file of a model's folder, by its path there."""

    name: FolderFileName


class UploadRequest(StrictModel):
    """`POST /v1/datasets`: what will follow, file by file."""

    name: Name | None = None
    files: tuple[DeclaredFile, ...] = Field(min_length=1)
    """At most as many as `max_files` of `GET /v1/limits`."""


class ModelUploadRequest(UploadRequest):
    """`POST /v1/models`: the files of a folder. What no checkpoint needs is left out; the answer's `files` are to follow."""

    files: tuple[DeclaredModelFile, ...] = Field(min_length=1)
    """At most as many as `max_files` of `GET /v1/limits`."""


class DatasetCompletion(StrictModel):
    """Body of `POST /v1/datasets/{id}/complete`; may be left out where columns have their usual names."""

    columns: Columns = Columns()


class UploadedFile(FrozenModel):
    name: str
    size: int
    sha256: str
    uploaded: bool


class ResumableFile(FrozenModel):
    """A declared file that comes in pieces: `offset` of its `size` bytes are kept."""

    id: str
    upload: str
    """The model or dataset it is a file of."""
    name: str
    size: int
    offset: int
    expires_at: datetime


class ModelLayout(FrozenModel):
    """What `complete` found in the checkpoint's config and safetensors header."""

    family: str
    architecture: str
    task: str
    modality: Modality = Modality.AUDIO
    head: Head = Head.CLASSIFICATION
    labels: tuple[str, ...]
    multi_label: bool
    widths: AttentionWidths
    attention_parameters: int
    feed_forward_parameters: int = 0
    total_parameters: int
    flops: int
    """Of one input: an image or spectrogram of the model's size, five seconds of a waveform, a text of 128 tokens, a question
    with its context of 384."""
    weight_bytes: int
    max_sparsity: dict[Granularity, float]
    """The most each granularity can remove with one head and one channel kept."""
    pooling: tuple[str, ...] = ()
    """How a text's tokens become its embedding, as the folder of sentence-transformers says it; several are put one after the
    other. Empty where it says nothing: the mean."""
    dense: tuple[int, ...] = ()
    """How wide the embedding is after each Dense module that follows the pooling."""


class ModelResource(FrozenModel):
    id: str
    name: str | None
    state: UploadState
    created_at: datetime
    expires_at: datetime | None = None
    """When it goes by itself: an open one that is not completed, a ready one by the server's settings unless a job that has
    not ended needs it. Null: never."""
    files: tuple[UploadedFile, ...]
    layout: ModelLayout | None = None
    """Null until `complete`."""
    warnings: tuple[JobWarning, ...] = ()
    """Which declared files are left out, and once complete what is not used and what cannot be had for it: the model is taken all
    the same."""


class JobError(FrozenModel):
    code: ErrorCode
    detail: str
    errors: tuple[ErrorItem, ...] = ()

    @classmethod
    def of(cls, error: SecateurError) -> "JobError":
        """The same, to be kept."""
        return cls(code=error.code, detail=error.detail, errors=error.errors)


class LabelColumn(FrozenModel):
    """A column that a job may name in `columns.label`."""

    labels: dict[str, tuple[str, ...]]
    """By split, the names in use: some hundred of them at most."""
    complete: bool
    """Whether these are all."""
    unusable: dict[str, str] = Field(default_factory=dict)
    """By split, what is wrong with the first row whose value is no label."""
    unlabelled: tuple[str, ...] = ()
    """Splits without a label in any row: null, empty or -1 everywhere, or no such column. Where labels are needed they are left
    out."""
    highest_id: int | None = None
    """Of a ClassLabel, the highest id in use, as far as it was looked at."""
    repeated: tuple[str, ...] = ()
    """Names in use that a ClassLabel gives to several ids."""
    names_sha256: str | None = None
    """Where a ClassLabel gives a name to several ids, of its whole list as JSON: a checkpoint with the same list counts alike."""
    context: str | None = None
    """Of answers to questions, the column of the texts in which they were looked for; null for labels."""


class BlankTexts(FrozenModel):
    """Rows of a split without a text."""

    rows: int
    """Null, empty or of white space alone: left out where a checkpoint needs no labels."""
    missing: int | None = None
    """The first that is null or empty, by its number from 0. Where labels are needed it is refused."""


class DatasetContents(FrozenModel):
    """What `complete` found in the shards."""

    rows: dict[str, int]
    """By split."""
    modality: Modality = Modality.AUDIO
    """What `input_column` holds."""
    labels: tuple[str, ...]
    """Names in use in `label_column`; none where there is no such column, or where it holds texts that were spoken."""
    multi_label: bool
    columns: tuple[str, ...]
    kinds: dict[str, ColumnKind] = Field(default_factory=dict)
    """By column. A job may use others than the two that were inspected."""
    differing: dict[str, str] = Field(default_factory=dict)
    """By column, why it cannot be read: it has several types or label names, or is not in all shards of a split."""
    lacking: dict[str, str] = Field(default_factory=dict)
    """By column, which shards are without it, where whole splits are. It cannot be an input; as labels those splits have none."""
    input_column: str
    pair_column: str | None = None
    """The second text of every row, where texts are read in pairs."""
    label_column: str | None
    """Null where there is neither a label column nor a transcript: data for checkpoints that give embeddings."""
    label_error: JobError | None = None
    """What is wrong with `label_column`, where nobody named it: raised when a job is submitted that reads it. Null of what was
    completed before, which would have been refused."""
    label_columns: dict[str, LabelColumn] = Field(default_factory=dict)
    """By name, `label_column` and others of texts or ClassLabel, sixteen at most. None of what was completed by version 1.0.
    Beside them columns of answers to questions, four at most."""
    shared_rows: dict[str, dict[str, int]] | None = None
    """How many rows have an input that another split has, too: `shared_rows.test.train` of those of test are also in train, and
    `shared_rows.train.train` of train's repeat an earlier one; none where it is not named. Null where they were not compared."""
    seconds: float
    """Total duration of the audio."""
    sampling_rates: tuple[int, ...]
    clip_flaws: dict[str, dict[str, int]] = Field(default_factory=dict)
    """By split, how many clips end before their headers say (`clips_cut_short`), and of how many the channels cancel out when
    they are averaged (`clips_cancelled`); none where it is not named."""
    blank_texts: dict[str, BlankTexts] = Field(default_factory=dict)
    """By split, how many of `rows` have no text in `input_column`, or in one of the two; none where it is not named."""

    @property
    def column_kinds(self) -> dict[str, ColumnKind]:
        """`kinds`; what was completed before they were written down held audio with labels."""
        known = {self.input_column: ColumnKind.AUDIO, self.label_column: ColumnKind.LABEL}
        return self.kinds or {name: known.get(name, ColumnKind.OTHER) for name in self.columns}


class DatasetResource(FrozenModel):
    id: str
    name: str | None
    state: UploadState
    created_at: datetime
    expires_at: datetime | None = None
    """When it goes by itself: an open one that is not completed, a ready one by the server's settings unless a job that has
    not ended needs it. Null: never."""
    files: tuple[UploadedFile, ...]
    contents: DatasetContents | None = None
    """Null until it is `ready`."""
    error: JobError | None = None
    """Of an `open` one that was completed: what is wrong with it. Send its files again, or complete it with other columns."""
    warnings: tuple[JobWarning, ...] = ()
    """What is wrong with a ready one for some jobs: `label_column`, those that read labels."""


class JobProgress(FrozenModel):
    """Where a running job is. `done` of `total` count samples of the phase; `fraction` is of the whole job."""

    phase: Phase
    step: int
    steps: int
    done: int
    total: int
    fraction: float
    eta_seconds: float | None


class JobResource(FrozenModel):
    id: str
    name: str | None
    sweep_id: str | None = None
    """The sweep that it is of; null for one that was submitted by itself."""
    state: JobState
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    request: JobRequest
    attempts: int
    """How often a worker has claimed the job."""
    ran_seconds: float = 0.0
    """How long workers have run it, its attempts added up; counts against `limits.max_runtime`."""
    pause_requested: bool = False
    """The job is to be paused after the step that runs."""
    preempt_requested: bool = False
    """The job is to hand its worker to one of higher priority after the step that runs, or the next saved epoch."""
    preemptions: int = 0
    """How often it has done so; each time it went on from there later."""
    queue_position: int | None = None
    """How many jobs a free worker would take before this one is its, itself included: 1 is the next. Null where the job does
    not wait, or waits for its time after an unplanned end."""
    waiting_reason: str | None = None
    """Why no worker that lives now would take a queued job, however long it waits: `needs 22 GiB on a GPU; the largest worker has
    16`. It begins once one comes that can hold it. Or why one that ran waits again: it handed its worker to a job of higher
    priority, and goes on when its turn comes."""
    expires_at: datetime | None = None
    """When the checkpoints of a job that has ended go by themselves; its metrics stay. Null: never."""
    progress: JobProgress | None
    warnings: tuple[JobWarning, ...] = ()
    """What is wrong with its inputs and does not stop it: known at submission, or found by the worker."""
    data: DataSummary | None
    metrics: tuple[StepMetrics, ...]
    """One entry for step 0 (the original model) and for every committed step."""
    result: JobResult | None
    """Which step to take and how it does on test, once the job has succeeded. Every step can be downloaded."""
    error: JobError | None


class CheckpointFile(FrozenModel):
    name: str
    size: int
    sha256: str
    url: str


class CheckpointResource(FrozenModel):
    """One step's model, ready for download."""

    step: int
    created_at: datetime
    expires_at: datetime | None = None
    """When its files go by themselves. Null: not while the job goes on, or never."""
    metrics: StepMetrics
    files: tuple[CheckpointFile, ...]
    archive_url: str


class Quota(FrozenModel):
    limit: int | None
    """Null: without bound."""
    used: int | None
    """Null where it is not counted."""


class Quotas(FrozenModel):
    """Of the tenant of the key that asks."""

    requests_per_minute: Quota
    stored_bytes: Quota
    """Uploads, announced ones included, and checkpoints."""
    waiting_jobs: Quota
    """Queued or paused."""
    running_jobs: Quota
    """Over the limit jobs are not refused: they wait."""


class Limits(FrozenModel):
    """`GET /v1/limits`: what this server accepts."""

    max_file_bytes: int
    max_files: int
    max_json_bytes: int
    model_file_suffixes: tuple[str, ...]
    dataset_file_suffixes: tuple[str, ...]
    families: tuple[str, ...]
    quotas: Quotas
    model_buckets: tuple[str, ...]
    """Names that a model reference of type `s3` may give."""
    scopes: tuple[KeyScope, ...]
    """What the key that asks allows; all where the service runs without keys."""


class Health(FrozenModel):
    status: str
    checks: dict[str, str] = Field(default_factory=dict)
