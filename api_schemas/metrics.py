"""What is measured at step 0 (the model as it came) and after every step. In events, in pruning.json, in the API."""

from pydantic import Field

from api_schemas.base import Output
from api_schemas.enums import ExportFormat, StopReason, TargetKind
from api_schemas.widths import AttentionWidths


class Scores(Output):
    """One split. Which fields are set depends on the task: accuracy for one label a clip, mAP for several."""

    samples: int
    cross_entropy: float
    accuracy: float | None = None
    mean_average_precision: float | None = None

    @property
    def metric(self) -> float | None:
        """The task's own: accuracy or mAP, in [0, 1]. None where no clip has a label (mAP is then undefined)."""
        return self.accuracy if self.mean_average_precision is None else self.mean_average_precision


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


class TargetMet(Output):
    """The job's target in its own unit, asked for and met at this step, as shares of the original."""

    kind: TargetKind
    requested: float
    achieved: float


class LayerSensitivity(Output):
    """One layer cut alone: the task's metric and the cross entropy on validation, by share removed."""

    layer: int
    removed: tuple[float, ...]
    """Share of the layer's attention parameters that was really removed for each of `shares`, to the nearest structure."""
    metric: tuple[float | None, ...]
    """None where no sample has a label."""
    cross_entropy: tuple[float, ...]


class Sensitivity(Output):
    """What each layer alone would cost, before any step. `dense_metric` is on the same samples."""

    samples: int
    shares: tuple[float, ...]
    """Asked for, of each layer's own attention parameters."""
    dense_metric: float | None
    dense_cross_entropy: float
    layers: tuple[LayerSensitivity, ...]


class ExportMetrics(Output):
    """One exported file, run by onnxruntime on the CPU beside torch."""

    format: ExportFormat
    file: str
    file_bytes: int
    samples: int
    max_abs_error: float
    """Largest difference to torch's logits."""
    agreement: float
    """Share of samples on which the first class (several labels: every decision at 0.5) is torch's."""
    scores: Scores
    latency: tuple[Latency, ...] = ()
    """`dense_*` and `speedup` compare with the cut model in torch on the same CPU."""


class EpochLoss(Output):
    """Mean training loss of one epoch of recovery; with distillation, of the whole sum that was trained on."""

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
    rejected_recovery: Scores | None = None
    """What recovery came to on validation where that was worse than before and the cut model stayed as it was
    (`finetune.only_if_better`); null where it was kept."""
    test: Scores | None = None
    """On step 0 and on the step that reaches the target within bounds: the test split is reported once. A job that `stop`
    ended has the test scores of its result in JobResult."""
    latency: tuple[Latency, ...] = ()
    target: TargetMet | None = None
    """Null on step 0."""
    losses: tuple[EpochLoss, ...] = ()
    lora_ranks: dict[str, int] = Field(default_factory=dict)
    """Adapter rank by module name, after capping at the projection's width."""
    calibration_samples: int = 0
    stock_layout: bool = False
    """True where the folder loads without custom code."""
    reload_max_abs_error: float | None = None
    """Largest difference between the engine's logits and those of a fresh process that loaded the packaged folder."""
    sensitivity: Sensitivity | None = None
    """Only on step 0, where asked for."""
    exports: tuple[ExportMetrics, ...] = ()
    seconds: dict[str, float] = Field(default_factory=dict)
    """Wall time by phase."""


class JobResult(Output):
    """What a job that ended well comes to: which step to take, and how it does on test."""

    step: int
    """The last step within `stop`, or the last step where there is no bound. 0 where no step was within it: then the
    original is the best there is, which is not kept again."""
    stopped: StopReason | None
    """Why this is not the step that reaches the target; null where it is."""
    detail: str
    """The same in a sentence."""
    test: Scores | None
    """Of the result's own step; of the original where `step` is 0."""


class DataSummary(Output):
    """Which data was used for what."""

    samples: dict[str, int]
    """By role: train, validation, test."""
    held_out: tuple[str, ...] = ()
    """Roles the dataset did not have and that were held out of train by seed."""
    grouped_by: str | None = None
    multi_label: bool = False
    labels: tuple[str, ...] = ()
    unknown_characters: float = 0.0
    """Share of the transcripts' characters that the checkpoint's vocabulary lacks and that became its unknown token."""
