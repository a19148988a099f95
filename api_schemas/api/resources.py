"""What the API answers with: models, datasets, jobs, checkpoints, and pages of them."""

from datetime import datetime
from typing import Generic, TypeVar

from pydantic import ConfigDict, Field

from api_schemas.base import FrozenModel, StrictModel
from api_schemas.enums import ColumnKind, Granularity, Head, JobState, KeyScope, Modality, Phase, UploadState
from api_schemas.errors import ErrorCode, ErrorItem, SecateurError
from api_schemas.ids import FileName, FolderFileName, Name, Sha256
from api_schemas.results.metrics import DataSummary, JobResult, JobWarning, StepMetrics, UnfinishedEpoch
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
    """A file that the client will upload."""

    name: FileName
    size: int = Field(ge=0)
    sha256: Sha256


class DeclaredModelFile(DeclaredFile):
    """A file of a model, named by its path in the model's folder."""

    name: FolderFileName


class UploadRequest(StrictModel):
    """`POST /v1/datasets`: the files that will be uploaded."""

    name: Name | None = None
    files: tuple[DeclaredFile, ...] = Field(min_length=1)
    """At most as many as `max_files` of `GET /v1/limits`."""


class ModelUploadRequest(UploadRequest):
    """`POST /v1/models`: the files of a folder. Files that no checkpoint needs are skipped; upload those in `files` of the
    response."""

    files: tuple[DeclaredModelFile, ...] = Field(min_length=1)
    """At most as many as `max_files` of `GET /v1/limits`."""


class DatasetCompletion(StrictModel):
    """Body of `POST /v1/datasets/{id}/complete`; optional if the columns have their usual names."""

    columns: Columns = Columns()


class UploadedFile(FrozenModel):
    name: str
    size: int
    sha256: str
    uploaded: bool


class ResumableFile(FrozenModel):
    """A declared file that is uploaded in pieces: the server has `offset` of its `size` bytes."""

    id: str
    upload: str
    """The model or dataset that the file belongs to."""
    name: str
    size: int
    offset: int
    expires_at: datetime


class ModelLayout(FrozenModel):
    """What `complete` read from the checkpoint's config and safetensors headers."""

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
    """For one input: an image or spectrogram of the model's size, five seconds of a waveform, a text of 128 tokens, or a
    question with its context of 384 tokens."""
    weight_bytes: int
    max_sparsity: dict[Granularity, float]
    """The largest share that each granularity can remove while one head and one channel remain."""
    pooling: tuple[str, ...] = ()
    """How the tokens of a text are pooled into its embedding, as configured in the sentence-transformers folder; several
    results are concatenated. Empty if nothing is configured: the mean."""
    dense: tuple[int, ...] = ()
    """The width of the embedding after each Dense module that follows the pooling."""


class ModelResource(FrozenModel):
    id: str
    name: str | None
    state: UploadState
    created_at: datetime
    expires_at: datetime | None = None
    """When it expires: an open upload if it is not completed, a ready one by the server's settings unless an unfinished job
    needs it. Null if never."""
    files: tuple[UploadedFile, ...]
    layout: ModelLayout | None = None
    """Null until `complete`."""
    warnings: tuple[JobWarning, ...] = ()
    """Which declared files are skipped and, once complete, which files or settings are ignored and what the model does not
    support. The model is accepted nevertheless."""


class JobError(FrozenModel):
    code: ErrorCode
    detail: str
    errors: tuple[ErrorItem, ...] = ()

    @classmethod
    def of(cls, error: SecateurError) -> "JobError":
        """The same, to be kept."""
        return cls(code=error.code, detail=error.detail, errors=error.errors)


class LabelColumn(FrozenModel):
    """A column that a job can name in `columns.label`."""

    labels: dict[str, tuple[str, ...]]
    """The label names in use, by split; about a hundred at most."""
    complete: bool
    """Whether `labels` lists all of them."""
    unusable: dict[str, str] = Field(default_factory=dict)
    """By split, the error in the first row whose value is not a label."""
    unlabelled: tuple[str, ...] = ()
    """Splits in which no row has a label: all values are null, empty or -1, or the column is missing. Jobs that need labels
    skip them."""
    highest_id: int | None = None
    """For a ClassLabel, the highest id in use among the rows that were read."""
    repeated: tuple[str, ...] = ()
    """Names in use that the ClassLabel assigns to several ids."""
    names_sha256: str | None = None
    """If a ClassLabel assigns a name to several ids: the SHA-256 of its whole list of names as JSON. A checkpoint with the same
    list uses the same numbers."""
    context: str | None = None
    """For answers to questions, the text column in which they were looked up; null for labels."""


class BlankTexts(FrozenModel):
    """Rows of a split that have no text."""

    rows: int
    """Rows whose text is null, empty or only white space. Jobs that need no labels skip them."""
    missing: int | None = None
    """Index of the first row whose text is null or empty, from 0. If there is one, jobs that need labels are rejected."""


class DatasetContents(FrozenModel):
    """What `complete` found in the shards."""

    rows: dict[str, int]
    """Number of rows by split."""
    modality: Modality = Modality.AUDIO
    """The type of data in `input_column`."""
    labels: tuple[str, ...]
    """Label names in use in `label_column`; empty if there is no such column or if it contains transcripts."""
    multi_label: bool
    label_counts: dict[str, dict[str, int]] | None = None
    """By split, the number of rows with each label; of words, if the rows are lists of words. The 200 most frequent labels are
    counted. Null if there are no `labels`, and for datasets completed by earlier versions."""
    columns: tuple[str, ...]
    kinds: dict[str, ColumnKind] = Field(default_factory=dict)
    """Type by column. A job can use other columns than the two that were checked."""
    differing: dict[str, str] = Field(default_factory=dict)
    """Columns that cannot be used, with the reason: different types or label names, or missing in some shards of a split."""
    lacking: dict[str, str] = Field(default_factory=dict)
    """Columns that are missing in whole splits, with the shards that lack them. They cannot be inputs; as labels, those splits
    have none."""
    input_column: str
    pair_column: str | None = None
    """The second text of every row, if the rows are pairs of texts."""
    label_column: str | None
    """Null if there is neither a label column nor a transcript, as in data for embedding models."""
    label_error: JobError | None = None
    """What is wrong with `label_column` if it was chosen automatically; jobs that read it are rejected with this error. Null for
    datasets completed by earlier versions, which would have rejected them."""
    label_columns: dict[str, LabelColumn] = Field(default_factory=dict)
    """`label_column` and other text or ClassLabel columns by name, sixteen at most, and columns of answers to questions, four
    at most. Empty for datasets completed by version 1.0."""
    shared_rows: dict[str, dict[str, int]] | None = None
    """How many rows have an input that also occurs in another split: `shared_rows.test.train` rows of test also occur in train,
    and `shared_rows.train.train` rows of train repeat an earlier one. Missing entries are 0. Null if the splits were not
    compared."""
    seconds: float
    """Total duration of the audio."""
    sampling_rates: tuple[int, ...]
    clip_flaws: dict[str, dict[str, int]] = Field(default_factory=dict)
    """By split, the number of clips that end earlier than their headers say (`clips_cut_short`) and of clips whose channels
    cancel out when averaged (`clips_cancelled`). Missing entries are 0."""
    blank_texts: dict[str, BlankTexts] = Field(default_factory=dict)
    """By split, how many of `rows` have no text in `input_column`, or in one column of the pair. Missing splits have none."""
    characters: int | None = None
    """Total length of the texts in `input_column` and `pair_column`. Null for other data, and for datasets completed by earlier
    versions."""

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
    """When it expires: an open upload if it is not completed, a ready one by the server's settings unless an unfinished job
    needs it. Null if never."""
    files: tuple[UploadedFile, ...]
    contents: DatasetContents | None = None
    """Null until it is `ready`."""
    error: JobError | None = None
    """For an `open` dataset that failed its check: the reason. Upload its files again, or complete it with other columns."""
    warnings: tuple[JobWarning, ...] = ()
    """Problems of a ready dataset that affect some jobs: those of `label_column` affect jobs that read labels."""


class JobProgress(FrozenModel):
    """Progress of a running job. `done` of `total` counts the samples of the phase; `fraction` is of the whole job."""

    phase: Phase
    step: int
    steps: int
    done: int
    total: int
    fraction: float
    eta_seconds: float | None
    training: UnfinishedEpoch | None = None
    """Training loss of the current epoch of recovery so far; null in other phases. Completed epochs are in `loss` events, and
    in the metrics of completed steps."""


class JobResource(FrozenModel):
    id: str
    name: str | None
    sweep_id: str | None = None
    """The sweep that the job belongs to; null for a job submitted on its own."""
    state: JobState
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    request: JobRequest
    attempts: int
    """How many times a worker has claimed the job."""
    ran_seconds: float = 0.0
    """Total time that workers have run the job, over all attempts; counts towards `limits.max_runtime`."""
    pause_requested: bool = False
    """The job will pause after the current step."""
    preempt_requested: bool = False
    """The job will hand its worker to a job of higher priority after the current step or the next saved epoch."""
    preemptions: int = 0
    """How many times it has done so. Each time it continued later from that point."""
    queue_position: int | None = None
    """Position in the queue; 1 is the next job that a free worker claims. Null if the job is not queued, or is waiting to be
    retried after an unplanned end."""
    waiting_reason: str | None = None
    """Why no live worker can run a queued job, however long it waits: `needs 22 GiB on a GPU; the largest worker has 16`. The
    job starts once a suitable worker appears. Or why a job that ran is queued again: it handed its worker to a job of higher
    priority, and continues when its turn comes."""
    expires_at: datetime | None = None
    """When the checkpoints of a finished job expire; its metrics are kept. Null if never."""
    progress: JobProgress | None
    warnings: tuple[JobWarning, ...] = ()
    """Problems of the inputs that do not stop the job: known at submission, or found by the worker."""
    data: DataSummary | None
    metrics: tuple[StepMetrics, ...]
    """One entry for step 0 (the original model) and for every committed step."""
    result: JobResult | None
    """Which step to take and its test scores, once the job has succeeded. Every step can be downloaded."""
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
    """When its files expire. Null while the job is unfinished, or if never."""
    metrics: StepMetrics
    files: tuple[CheckpointFile, ...]
    archive_url: str


class Quota(FrozenModel):
    limit: int | None
    """Null if unlimited."""
    used: int | None
    """Null if usage is not counted."""


class Quotas(FrozenModel):
    """Quotas of the key's tenant."""

    requests_per_minute: Quota
    stored_bytes: Quota
    """Uploads, including declared ones, and checkpoints."""
    waiting_jobs: Quota
    """Jobs that are queued or paused."""
    running_jobs: Quota
    """Jobs over this limit are not rejected; they wait."""


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
    """Bucket names that a model reference of type `s3` can use."""
    scopes: tuple[KeyScope, ...]
    """The scopes of the calling key; all scopes if the service runs without keys."""


class Health(FrozenModel):
    status: str
    checks: dict[str, str] = Field(default_factory=dict)
