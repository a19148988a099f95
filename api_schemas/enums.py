"""Closed vocabularies. Each name is the one used in the database, in JSON and in the documentation."""

from enum import StrEnum


class JobState(StrEnum):
    """Where a job stands. Transitions are listed in docs/states.md and made in store/transitions.py only."""

    QUEUED = "queued"
    RUNNING = "running"
    CANCELLING = "cancelling"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


TERMINAL_STATES = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})


class Phase(StrEnum):
    """What a running job is doing; a field beside the state."""

    PREPARING = "preparing"
    SCORING = "scoring"
    PRUNING = "pruning"
    FINETUNING = "finetuning"
    EVALUATING = "evaluating"
    PACKAGING = "packaging"


class UploadState(StrEnum):
    """An upload is `open` until `complete` has checked it; only `ready` ones can be used by a job."""

    OPEN = "open"
    READY = "ready"


class Granularity(StrEnum):
    """Which structure is removed as one (docs/method.md)."""

    ENTIRE_HEAD = "entire_head"
    SAME_CHANNEL = "same_channel"
    PER_HEAD = "per_head"


class Criterion(StrEnum):
    """How a structure is scored; the lowest scores are removed."""

    MAGNITUDE = "magnitude"
    FISHER = "fisher"
    RANDOM = "random"


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
