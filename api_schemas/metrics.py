"""What is measured at step 0 (the model as it came) and after every step. In events, in pruning.json, in the API."""

from pydantic import Field

from api_schemas.base import Output
from api_schemas.widths import AttentionWidths


class Scores(Output):
    """One split. Which fields are set depends on the task: accuracy for one label a clip, mAP for several."""

    samples: int
    cross_entropy: float
    accuracy: float | None = None
    mean_average_precision: float | None = None


class Latency(Output):
    """Forward passes on the worker's device; dense and cut were timed in turn, so `speedup` is a ratio from one run."""

    batch_size: int
    runs: int
    p50_ms: float
    p95_ms: float
    throughput: float
    """Inputs a second, from the median."""
    dense_p50_ms: float
    dense_p95_ms: float
    speedup: float
    """dense_p50_ms / p50_ms."""


class Size(Output):
    """Exact counts, from api_schemas.accounting and the file itself."""

    attention_parameters: int
    total_parameters: int
    flops: int
    file_bytes: int


class EpochLoss(Output):
    """Mean training loss of one epoch of recovery, and the validation scores after it where they were taken."""

    epoch: int
    train_loss: float
    learning_rate: float


class StepMetrics(Output):
    """One committed step. Step 0 is the original model, with no cut and no recovery."""

    step: int
    requested_sparsity: float
    achieved_sparsity: float
    widths: AttentionWidths
    size: Size
    validation: Scores
    """After recovery."""
    validation_before_recovery: Scores | None = None
    test: Scores | None = None
    """Only on the last step, and on step 0 then: the test split is reported once."""
    latency: tuple[Latency, ...] = ()
    losses: tuple[EpochLoss, ...] = ()
    lora_ranks: dict[str, int] = Field(default_factory=dict)
    """Adapter rank by module name, after capping at the projection's width."""
    calibration_samples: int = 0
    stock_layout: bool = False
    """True where the folder loads without custom code."""
    reload_max_abs_error: float | None = None
    """Largest difference between the engine's logits and those of a fresh process that loaded the packaged folder."""
    seconds: dict[str, float] = Field(default_factory=dict)
    """Wall time by phase."""


class DataSummary(Output):
    """Which data was used for what."""

    samples: dict[str, int]
    """By role: train, validation, test."""
    held_out: tuple[str, ...] = ()
    """Roles the dataset did not have and that were held out of train by seed."""
    grouped_by: str | None = None
    multi_label: bool = False
    labels: tuple[str, ...] = ()
