"""Closed vocabularies. Each name is the one used in the database, in JSON and in the documentation."""

from enum import StrEnum


class JobState(StrEnum):
    """Where a job stands. Its transitions are listed in docs/states.md."""

    QUEUED = "queued"
    RUNNING = "running"
    CANCELLING = "cancelling"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


TERMINAL_STATES = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})


class SweepState(StrEnum):
    """Where a sweep stands, which follows from its jobs (docs/states.md)."""

    QUEUED = "queued"
    """None has begun."""
    RUNNING = "running"
    """Some have begun, or are to begin, and not all have ended."""
    PAUSED = "paused"
    """None runs or waits for a worker, and some are paused."""
    ENDED = "ended"
    """All have; the counts say how."""


class Phase(StrEnum):
    """What a running job is doing; a field beside the state."""

    STARTING = "starting"
    """From a worker's claim to the engine's first phase: inputs are fetched, the engine starts and reads the model."""
    PREPARING = "preparing"
    SCORING = "scoring"
    ANALYSING = "analysing"
    PRUNING = "pruning"
    FINETUNING = "finetuning"
    EVALUATING = "evaluating"
    PACKAGING = "packaging"


class DeviceKind(StrEnum):
    """Where a worker's engines compute."""

    CPU = "cpu"
    CUDA = "cuda"


class TextNormalizer(StrEnum):
    """How texts are made alike before words are counted as wrong."""

    WHISPER_ENGLISH = "whisper_english"
    """Case, punctuation, fillers and spellings are no errors, and numbers are figures."""
    WHISPER_BASIC = "whisper_basic"
    """Case and punctuation are no errors."""
    WHISPER_LETTERS = "whisper_letters"
    """As basic, and every letter is a word: of languages that put no space between words."""


class StopReason(StrEnum):
    """Why a job ended before its target was reached within its bounds."""

    MAX_DROP = "max_drop"


class UploadState(StrEnum):
    """An upload is `open` until it is complete; only `ready` ones can be used by a job.

    A dataset is `checking` while its rows are read, and `open` again where they were refused. An `expired` upload has lost its
    files, a `deleted` one was removed by its owner.
    """

    OPEN = "open"
    CHECKING = "checking"
    READY = "ready"
    EXPIRED = "expired"
    DELETED = "deleted"


class KeyScope(StrEnum):
    """What a key allows. None includes another; docs/api.md says which call needs which."""

    MODELS_WRITE = "models:write"
    JOBS_WRITE = "jobs:write"
    JOBS_READ = "jobs:read"
    ADMIN = "admin"


class AuditAction(StrEnum):
    """Every call that changes something, by its operation id."""

    CREATE_MODEL = "create_model"
    DELETE_MODEL = "delete_model"
    UPLOAD_MODEL_FILE = "upload_model_file"
    COMPLETE_MODEL = "complete_model"
    CREATE_DATASET = "create_dataset"
    DELETE_DATASET = "delete_dataset"
    UPLOAD_DATASET_FILE = "upload_dataset_file"
    COMPLETE_DATASET = "complete_dataset"
    CREATE_MODEL_FILE_UPLOAD = "create_model_file_upload"
    CREATE_DATASET_FILE_UPLOAD = "create_dataset_file_upload"
    APPEND_TO_FILE_UPLOAD = "append_to_file_upload"
    DELETE_FILE_UPLOAD = "delete_file_upload"
    CREATE_JOB = "create_job"
    DELETE_JOB = "delete_job"
    CANCEL_JOB = "cancel_job"
    PAUSE_JOB = "pause_job"
    RESUME_JOB = "resume_job"
    CREATE_SWEEP = "create_sweep"
    DELETE_SWEEP = "delete_sweep"
    CANCEL_SWEEP = "cancel_sweep"
    PAUSE_SWEEP = "pause_sweep"
    RESUME_SWEEP = "resume_sweep"
    CREATE_WEBHOOK = "create_webhook"
    UPDATE_WEBHOOK = "update_webhook"
    DELETE_WEBHOOK = "delete_webhook"
    PING_WEBHOOK = "ping_webhook"
    ROTATE_WEBHOOK_SECRET = "rotate_webhook_secret"
    REDELIVER_WEBHOOK_DELIVERY = "redeliver_webhook_delivery"
    CREATE_KEY = "create_key"
    REVOKE_KEY = "revoke_key"


class AuditOutcome(StrEnum):
    """`done` was written together with the change itself; `forbidden`: the key lacked the scope, nothing was changed."""

    DONE = "done"
    FORBIDDEN = "forbidden"


class Granularity(StrEnum):
    """Which structure is removed as one (docs/method.md)."""

    ENTIRE_HEAD = "entire_head"
    SAME_CHANNEL = "same_channel"
    PER_HEAD = "per_head"
    RAGGED = "ragged"
    HEAD_AND_CHANNEL = "head_and_channel"
    HEAD_AND_WIDTH = "head_and_width"


class FinetuneMethod(StrEnum):
    """What recovery trains (docs/method.md)."""

    LORA = "lora"
    FULL = "full"


class Criterion(StrEnum):
    """How a structure is scored; the lowest scores are removed (docs/method.md has the formulas)."""

    MAGNITUDE = "magnitude"
    FISHER = "fisher"
    FISHER_SALIENCY = "fisher_saliency"
    FISHER_GATE = "fisher_gate"
    TAYLOR = "taylor"
    ENERGY = "energy"
    FISHER_ENERGY = "fisher_energy"
    RANDOM = "random"


class Normalization(StrEnum):
    """What is done to scores before layers are compared."""

    NONE = "none"
    LAYER = "layer"
    PARAMETERS = "parameters"


class Basis(StrEnum):
    """The channels that are ranked: the model's own, or each head's principal axes, into which it is rotated first."""

    NATIVE = "native"
    PRINCIPAL = "principal"


class Compensation(StrEnum):
    """What is done at once for what was cut, before any training."""

    NONE = "none"
    BIAS = "bias"
    LEAST_SQUARES = "least_squares"
    LEAST_SQUARES_FEED_FORWARD = "least_squares_feed_forward"


class NeuronSelection(StrEnum):
    """Which neurons of feed-forward blocks go: those that score least, or those that the rest can best do without."""

    RANKED = "ranked"
    BRAIN_SURGEON = "brain_surgeon"


class PartShares(StrEnum):
    """How one target is divided between attention and feed-forward blocks: by one ranking, or by a search that begins there."""

    RANKED = "ranked"
    SEARCHED = "searched"


class Modality(StrEnum):
    """What one input of a model is made from."""

    AUDIO = "audio"
    IMAGE = "image"
    TEXT = "text"


class Head(StrEnum):
    """What a checkpoint answers with, and so what it is trained and measured by."""

    CLASSIFICATION = "classification"
    TOKEN_CLASSIFICATION = "token_classification"
    CTC = "ctc"
    SEQUENCE_TO_SEQUENCE = "sequence_to_sequence"
    EMBEDDING = "embedding"
    MASKED_LM = "masked_lm"
    HIDDEN_STATES = "hidden_states"
    QUESTION_ANSWERING = "question_answering"
    """Extractive: where in a text the answer to a question begins and ends."""
    CAUSAL_LM = "causal_lm"
    """The next token of a text, given those before it."""


class ColumnKind(StrEnum):
    """What the rows of a dataset's column hold, as far as its type says."""

    AUDIO = "audio"
    IMAGE = "image"
    EMBEDDED = "embedded"
    """Bytes of files; nothing says of which kind."""
    TEXT = "text"
    TEXTS = "texts"
    """A list of texts a row: words, say, or several labels."""
    LABEL = "label"
    """The number of a label whose name is known."""
    LABELS = "labels"
    """A list of such numbers."""
    NUMBER = "number"
    """A whole number without a name."""
    NUMBERS = "numbers"
    """A list of such numbers."""
    ANSWERS = "answers"
    """Answers to a question and where they begin, as SQuAD has them: lists `text` and `answer_start`, or a list of structs."""
    OTHER = "other"


class ScheduleShape(StrEnum):
    """How the target is approached over the steps. `cubic` removes most at first (Zhu and Gupta, arXiv 1710.01878)."""

    LINEAR = "linear"
    CUBIC = "cubic"


class LabelSource(StrEnum):
    """Where the labels of calibration come from: the data, or the model's own predictive distribution (none are needed)."""

    DATA = "data"
    MODEL = "model"


class Part(StrEnum):
    """What of a transformer layer may be cut."""

    ATTENTION = "attention"
    FEED_FORWARD = "feed_forward"


class TargetKind(StrEnum):
    """What the target's share is a share of; the field of Target that is set."""

    ATTENTION_SPARSITY = "attention_sparsity"
    FFN_SPARSITY = "ffn_sparsity"
    PARAMETERS = "parameters"
    FLOPS = "flops"
    LATENCY = "latency"


class SpeedVerdict(StrEnum):
    """What can be said of a cut model's speed beside the original's, given how much timings vary on the machine."""

    FASTER = "faster"
    SLOWER = "slower"
    NOT_MEASURABLE = "not_measurable"


class ExportFormat(StrEnum):
    """Further files beside a step's safetensors."""

    ONNX = "onnx"
    ONNX_INT8 = "onnx_int8"
    TORCHAO_INT8 = "torchao_int8"
    TORCHAO_INT8_WEIGHTS = "torchao_int8_weights"


class Scope(StrEnum):
    """One threshold over all layers, or one a layer."""

    GLOBAL = "global"
    LOCAL = "local"


class Balance(StrEnum):
    """QK and VO channels ranked in one list, or given equal shares."""

    JOINT = "joint"
    EQUAL = "equal"


class Layout(StrEnum):
    """`stock` forces equal heads and widths in all layers and QK = VO: no custom code in the result."""

    ANY = "any"
    STOCK = "stock"


class Split(StrEnum):
    """The three roles data plays: learn, decide, report once."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"
