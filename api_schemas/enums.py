"""Closed vocabularies. Each name is the one used in the database, in JSON and in the documentation."""

from enum import StrEnum


class JobState(StrEnum):
    """State of a job. docs/states.md lists the transitions."""

    QUEUED = "queued"
    RUNNING = "running"
    CANCELLING = "cancelling"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


TERMINAL_STATES = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})


class SweepState(StrEnum):
    """State of a sweep, derived from its jobs (docs/states.md)."""

    QUEUED = "queued"
    """No job has started."""
    RUNNING = "running"
    """Some jobs have started or are about to, and not all have ended."""
    PAUSED = "paused"
    """No job is running or queued, and some are paused."""
    ENDED = "ended"
    """All jobs have ended; `jobs` counts how."""


class Phase(StrEnum):
    """What a running job is doing; a field besides the state."""

    STARTING = "starting"
    """From the worker's claim to the engine's first phase: inputs are fetched, the engine starts and reads the model."""
    PREPARING = "preparing"
    SCORING = "scoring"
    ANALYSING = "analysing"
    PRUNING = "pruning"
    FINETUNING = "finetuning"
    EVALUATING = "evaluating"
    PACKAGING = "packaging"


class DeviceKind(StrEnum):
    """The device that a worker's engines run on."""

    CPU = "cpu"
    CUDA = "cuda"


class TextNormalizer(StrEnum):
    """How texts are normalised before word errors are counted."""

    WHISPER_ENGLISH = "whisper_english"
    """Ignores case, punctuation, fillers and spelling variants; numbers are written as digits."""
    WHISPER_BASIC = "whisper_basic"
    """Ignores case and punctuation."""
    WHISPER_LETTERS = "whisper_letters"
    """As basic, with every character a word: for languages without spaces between words."""


class StopReason(StrEnum):
    """Why a job ended before it reached its target."""

    MAX_DROP = "max_drop"


class UploadState(StrEnum):
    """An upload is `open` until it is completed; jobs can use only `ready` uploads.

    A dataset is `checking` while its rows are read, and `open` again if they are rejected. An `expired` upload has lost its
    files; a `deleted` one was removed by its owner.
    """

    OPEN = "open"
    CHECKING = "checking"
    READY = "ready"
    EXPIRED = "expired"
    DELETED = "deleted"


class KeyScope(StrEnum):
    """What a key permits. No scope includes another; docs/api.md says which call needs which."""

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
    """`done`: the change was made, and recorded in the same transaction. `forbidden`: the key lacked the scope, nothing was
    changed."""

    DONE = "done"
    FORBIDDEN = "forbidden"


class Granularity(StrEnum):
    """The structures that are removed as a unit (docs/method.md)."""

    ENTIRE_HEAD = "entire_head"
    SAME_CHANNEL = "same_channel"
    PER_HEAD = "per_head"
    RAGGED = "ragged"
    HEAD_AND_CHANNEL = "head_and_channel"
    HEAD_AND_WIDTH = "head_and_width"


class FinetuneMethod(StrEnum):
    """The weights that recovery trains (docs/method.md)."""

    LORA = "lora"
    FULL = "full"


class Criterion(StrEnum):
    """How structures are scored; those with the lowest scores are removed (docs/method.md has the formulas)."""

    MAGNITUDE = "magnitude"
    FISHER = "fisher"
    FISHER_SALIENCY = "fisher_saliency"
    FISHER_GATE = "fisher_gate"
    TAYLOR = "taylor"
    ENERGY = "energy"
    FISHER_ENERGY = "fisher_energy"
    RANDOM = "random"


class Normalization(StrEnum):
    """How scores are normalised before layers are compared."""

    NONE = "none"
    LAYER = "layer"
    PARAMETERS = "parameters"


class Basis(StrEnum):
    """The channels that are ranked: the model's own, or, after a rotation, the principal axes of each head."""

    NATIVE = "native"
    PRINCIPAL = "principal"


class Compensation(StrEnum):
    """How the remaining weights are adjusted after a cut, before training."""

    NONE = "none"
    BIAS = "bias"
    LEAST_SQUARES = "least_squares"
    LEAST_SQUARES_FEED_FORWARD = "least_squares_feed_forward"


class NeuronSelection(StrEnum):
    """How neurons of feed-forward blocks are selected: by the lowest scores, or by how well the others can replace them."""

    RANKED = "ranked"
    BRAIN_SURGEON = "brain_surgeon"


class PartShares(StrEnum):
    """How one target is divided between attention and feed-forward blocks: by a single ranking, or by a search that starts from
    it."""

    RANKED = "ranked"
    SEARCHED = "searched"


class Modality(StrEnum):
    """The type of one input of a model."""

    AUDIO = "audio"
    IMAGE = "image"
    TEXT = "text"


class Head(StrEnum):
    """The model's output head, which determines its loss and its metrics."""

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
    """The type of a dataset's column, as far as its schema tells."""

    AUDIO = "audio"
    IMAGE = "image"
    EMBEDDED = "embedded"
    """Bytes of files of an unknown type."""
    TEXT = "text"
    TEXTS = "texts"
    """A list of texts per row, for example words or several labels."""
    LABEL = "label"
    """The number of a label whose name is known."""
    LABELS = "labels"
    """A list of such numbers."""
    NUMBER = "number"
    """An integer without a name."""
    NUMBERS = "numbers"
    """A list of such numbers."""
    ANSWERS = "answers"
    """Answers to a question and their start positions in SQuAD's format: lists `text` and `answer_start`, or a list of
    structs."""
    OTHER = "other"


class ScheduleShape(StrEnum):
    """How the target is divided over the steps. `cubic` removes most in the first steps (Zhu and Gupta, arXiv 1710.01878)."""

    LINEAR = "linear"
    CUBIC = "cubic"


class LabelSource(StrEnum):
    """Where the labels for calibration come from: the data, or the model's own predictive distribution, which needs no labels."""

    DATA = "data"
    MODEL = "model"


class Part(StrEnum):
    """The part of a transformer layer that can be cut."""

    ATTENTION = "attention"
    FEED_FORWARD = "feed_forward"


class Side(StrEnum):
    """One of the two stacks of layers of a model that has both."""

    ENCODER = "encoder"
    DECODER = "decoder"


class TargetKind(StrEnum):
    """The quantity that the target's share refers to; the name of the field set in Target."""

    ATTENTION_SPARSITY = "attention_sparsity"
    FFN_SPARSITY = "ffn_sparsity"
    PARAMETERS = "parameters"
    FLOPS = "flops"
    LATENCY = "latency"


class SpeedVerdict(StrEnum):
    """Whether the pruned model is faster or slower than the original, given how much timings vary on the machine."""

    FASTER = "faster"
    SLOWER = "slower"
    NOT_MEASURABLE = "not_measurable"


class ExportFormat(StrEnum):
    """Additional files beside a step's safetensors."""

    ONNX = "onnx"
    ONNX_INT8 = "onnx_int8"
    TORCHAO_INT8 = "torchao_int8"
    TORCHAO_INT8_WEIGHTS = "torchao_int8_weights"


class Scope(StrEnum):
    """One threshold over all layers (`global`), or one per layer (`local`)."""

    GLOBAL = "global"
    LOCAL = "local"


class Balance(StrEnum):
    """QK and VO channels ranked in one list (`joint`), or given equal shares (`equal`)."""

    JOINT = "joint"
    EQUAL = "equal"


class Layout(StrEnum):
    """`stock` enforces equal heads and widths in all layers, and QK = VO: the result needs no custom code."""

    ANY = "any"
    STOCK = "stock"


class Split(StrEnum):
    """The three roles data plays: learn, decide, report once."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"
