"""What is measured at step 0 (the model as it came) and after every step. In events, in pruning.json, in the API."""

from typing import NamedTuple

from pydantic import Field

from api_schemas.base import FrozenModel
from api_schemas.enums import ExportFormat, SpeedVerdict, StopReason, TargetKind, TextNormalizer
from api_schemas.results.widths import AttentionWidths


class Headline(NamedTuple):
    """A model on a split in one number: which it is, its value, and which way is better."""

    name: str
    value: float
    higher_is_better: bool

    @property
    def rate(self) -> bool:
        """Whether it is a share, and written in percent."""
        return self.name not in _NO_RATES

    @property
    def text(self) -> str:
        """The value as it is written: `91.8%`; what is no rate with four digits, `0.3891`."""
        return f"{100 * self.value:.1f}%" if self.rate else f"{self.value:.4f}"


class Scores(FrozenModel):
    """Scores on one split. Which fields are set depends on the model's task."""

    samples: int
    """Number of samples: questions for question answering, blocks of text for a causal language model, otherwise rows."""
    cross_entropy: float | None = None
    """The task's loss in nats, mean over samples: per label, per token (mean over a sample's tokens), per transcript for CTC
    (per label id), per masked word (mean over a sample's), per next token (mean over a block's), or for the first and last
    token of an answer (mean of the two, then over windows). Null for embeddings and hidden states, which have no labels."""
    accuracy: float | None = None
    """For one label per sample."""
    mean_average_precision: float | None = None
    """For several labels per sample; null if no sample has a label."""
    token_accuracy: float | None = None
    """For a label per token: share of all labelled tokens of the split that are correct."""
    macro_f1: float | None = None
    """For a label per token: F1 by class, averaged over the classes that occur in the labels or the predictions."""
    word_error_rate: float | None = None
    """For texts: word edits divided by reference words over the whole split; can exceed 1."""
    character_error_rate: float | None = None
    masked_accuracy: float | None = None
    """For masked words: share of all masked tokens of the split for which the most likely word is the original one."""
    next_token_accuracy: float | None = None
    """For causal language models: share of the split's tokens, except the first of each block, that were the most likely ones
    given the tokens before them."""
    perplexity: float | None = None
    """For masked words and causal language models: exp of the mean cross entropy over all predicted tokens of the split."""
    f1: float | None = None
    """For question answering: F1 over the words of the answer and of the closest reference answer, mean over questions,
    computed as in SQuAD's official script."""
    exact_match: float | None = None
    """For question answering: share of answers that equal a reference answer, ignoring case, punctuation, articles and white
    space."""
    cosine_similarity: float | None = None
    """For embeddings: cosine similarity to the original model's embedding of the same sample, mean over samples; 1 for the
    original. For hidden states: of every token's state, mean over a sample's tokens, then over samples."""
    similarity_correlation: float | None = None
    """For embeddings: Spearman's rank correlation between this model's and the original's similarities of samples, over pairs
    of at most a thousand samples."""
    explained_variance: float | None = None
    """For hidden states: 1 − squared distance to the original's states / variance of the original's states, over all tokens of
    the split. 1 for the original; at most 0 for a model with the same output for every token; can be negative."""

    @property
    def headline(self) -> Headline | None:
        """The task's own metric, and the loss only where that is undefined; None where nothing was measured."""
        for field, name, higher_is_better in _HEADLINES:
            value: float | None = getattr(self, field)
            if value is not None:
                return Headline(name, value, higher_is_better)
        return None

    @property
    def metric(self) -> float | None:
        """What steps are compared by, higher is better: the task's own metric, for texts 1 − min(1, WER); at most 1.

        None where it is undefined (no sample has a label, no word was wanted).
        """
        found = self.headline
        if found is None or found.name == LOSS:
            return None
        return found.value if found.higher_is_better else 1.0 - min(1.0, found.value)

    @property
    def rank(self) -> float:
        """By which of two the better is chosen, higher is better: the headline, with a bound on neither side. 0 without one."""
        found = self.headline
        if found is None:
            return 0.0
        return found.value if found.higher_is_better else -found.value


LOSS = "cross entropy"
ACCURACY = "accuracy"
COSINE = "cosine similarity"
_HEADLINES = (
    ("accuracy", ACCURACY, True),
    ("mean_average_precision", "mAP", True),
    ("token_accuracy", "token accuracy", True),
    ("masked_accuracy", "masked token accuracy", True),
    ("next_token_accuracy", "next token accuracy", True),
    ("f1", "F1", True),
    ("word_error_rate", "WER", False),
    ("cosine_similarity", COSINE, True),
    ("cross_entropy", LOSS, False),
)
"""Field of Scores, what it is called, and whether more of it is better; the first that is set counts."""
_NO_RATES = (COSINE, LOSS)


class PairedSpeedup(FrozenModel):
    """Speed relative to the dense model: the ratio of both times in the same round, over all rounds.

    Intervals are 95% confidence intervals of the median, whatever the distribution of the times.
    """

    ratio: float
    """Median over rounds of the dense model's time divided by the pruned model's."""
    low: float
    high: float
    noise_low: float
    """The interval of the dense model's time divided by that of its own copy, in the same rounds: the ratio that this machine
    measures for two equally fast models."""
    noise_high: float
    verdict: SpeedVerdict
    """`faster` or `slower` only if the interval of `ratio` lies entirely outside the noise interval."""


class Latency(FrozenModel):
    """Timing of forward passes on the worker's device. Every round runs the dense model, the pruned one and a copy of the dense
    one once each."""

    batch_size: int
    runs: int
    """Number of rounds."""
    p50_ms: float
    p95_ms: float
    throughput: float
    """Inputs per second, from the median."""
    dense_p50_ms: float
    dense_p95_ms: float
    speedup: float
    """dense_p50_ms / p50_ms, unreliable on a busy machine; use `paired` instead."""
    paired: PairedSpeedup | None = None
    """Null for jobs of versions that did not measure it."""


class Size(FrozenModel):
    """Exact counts, from the widths and the file itself."""

    attention_parameters: int
    feed_forward_parameters: int = 0
    total_parameters: int
    flops: int
    file_bytes: int


class TargetMet(FrozenModel):
    """The job's target in its own unit: requested and achieved at this step, as shares of the original."""

    kind: TargetKind
    requested: float
    achieved: float


class LayerSensitivity(FrozenModel):
    """A single layer cut: `Scores.metric` and the cross entropy on validation, by share removed."""

    layer: int
    removed: tuple[float, ...]
    """Share of the layer's attention parameters that was actually removed for each of `shares`, rounded to whole structures."""
    metric: tuple[float | None, ...]
    """Null if no sample has a label, and for models that write token by token, where it would take too long and the loss
    suffices."""
    cross_entropy: tuple[float | None, ...]
    """Null if the task has no cross entropy."""


class Sensitivity(FrozenModel):
    """What cutting each layer alone would cost, before any step. `dense_metric` is on the same samples."""

    samples: int
    shares: tuple[float, ...]
    """Requested shares of each layer's own attention parameters."""
    dense_metric: float | None
    dense_cross_entropy: float | None
    layers: tuple[LayerSensitivity, ...]


class TriedCut(FrozenModel):
    """One cut of the original, tried without recovery in a search for `max_drop`."""

    requested: float
    """Requested share of the original, in the unit of the target's `of`."""
    achieved: float
    """Achieved share; for latency from a table, not timed."""
    validation: Scores
    drop: float
    """How much lower `Scores.metric` is than the original's; negative if it is higher."""
    within: bool
    """Whether the drop is within the bound."""


class DropSearch(FrozenModel):
    """The cuts tried before the first step for a target with `max_drop`, in order."""

    of: TargetKind
    """The size that is minimised."""
    max_drop: float
    reach: float
    """The most that the spec can remove, in that unit."""
    tried: tuple[TriedCut, ...]


class ExportMetrics(FrozenModel):
    """One export, run on the CPU and compared with the step's model in torch: ONNX by onnxruntime, the others by torchao."""

    format: ExportFormat
    file: str
    """Path in the step's folder. For torchao, the weights in a folder that transformers loads."""
    inputs: tuple[str, ...] = ("input_values",)
    """Names of the graph's inputs; they are the model's keyword arguments."""
    output: str = "logits"
    """Name of its output, or of the first of two."""
    outputs: tuple[str, ...] = ()
    """Names of both outputs if there are two: `start_logits` and `end_logits` for question answering. Empty otherwise."""
    file_bytes: int
    samples: int
    max_abs_error: float
    """Largest absolute difference to torch's logits or embeddings."""
    agreement: float
    """Share of samples with the same answer as in torch: the same top class (several labels: the same decisions at 0.5), the
    same start and end for question answering, the same greedy text for transcripts. For labels per token, masked words and next
    tokens: the share of tokens. For embeddings and hidden states: the mean cosine similarity."""
    scores: Scores
    latency: tuple[Latency, ...] = ()
    """`dense_*`, `speedup` and `paired` compare with the pruned model in torch on the same CPU."""


class Memory(FrozenModel):
    """Peak memory of the engine's process in bytes."""

    host: int | None = None
    """Most memory held at once, without pages that the system can read again from a file; null if it does not say."""
    device: int | None = None
    """Peak memory allocated on the GPU; null on a CPU."""


class EpochLoss(FrozenModel):
    """Mean training loss of one epoch of recovery; with distillation, of the combined loss."""

    epoch: int
    train_loss: float
    learning_rate: float
    points: tuple[float, ...] = ()
    """Mean training loss of consecutive parts of the epoch, each of equally many batches (give or take one): at most 100 parts
    per epoch and 200 per recovery. Empty if the epoch is one part, and in metrics of earlier versions."""


class UnfinishedEpoch(FrozenModel):
    """The epoch of recovery that is running, and its training loss so far."""

    epoch: int
    """Counted from 1."""
    epochs: int
    parts: int
    """How many points the epoch will have."""
    points: tuple[float, ...] = Field(min_length=1)
    """Those known so far, at least one, as in EpochLoss. On a GPU they are read every 64 batches."""


class StepMetrics(FrozenModel):
    """One committed step. Step 0 is the original model, without cut and recovery."""

    step: int
    requested_sparsity: float
    achieved_sparsity: float
    widths: AttentionWidths
    size: Size
    validation: Scores
    """After recovery."""
    validation_before_recovery: Scores | None = None
    rejected_recovery: Scores | None = None
    """Validation scores of a recovery that was discarded because it made the pruned model worse (`finetune.only_if_better`);
    null if it was kept."""
    test: Scores | None = None
    """Set on step 0 and on the step that reaches the target within its bounds, so that the test split is reported once. The
    test scores of a job that `stop` ended are in JobResult."""
    latency: tuple[Latency, ...] = ()
    ffn_sparsity: float = 0.0
    """Share of the original's feed-forward parameters that was removed."""
    target: TargetMet | None = None
    """Null on step 0."""
    ffn_target: TargetMet | None = None
    """Target of the feed-forward blocks, if the job has a separate one."""
    losses: tuple[EpochLoss, ...] = ()
    augmented: bool = False
    """Whether recovery augmented its inputs (`finetune.augment`), which applies only to spectrograms of classifiers."""
    lora_ranks: dict[str, int] = Field(default_factory=dict)
    """Adapter rank by module name, capped at the projection's width."""
    calibration_samples: int = 0
    refit_samples: int = 0
    """Samples used for least squares; 0 if nothing was refitted, and in metrics of versions that did not record it."""
    stock_layout: bool = False
    """True if the folder loads without custom code."""
    reload_max_abs_error: float | None = None
    """Largest difference between the engine's logits (or embeddings, or hidden states) and those of a fresh process that loaded
    the saved folder."""
    sensitivity: Sensitivity | None = None
    """Only on step 0, if requested."""
    search: DropSearch | None = None
    """Only on step 0, for a target with `max_drop`."""
    exports: tuple[ExportMetrics, ...] = ()
    seconds: dict[str, float] = Field(default_factory=dict)
    """Wall time by phase."""
    reused: tuple[str, ...] = ()
    """Results reused from an earlier job of the same worker, identical bit for bit: the prepared `inputs`, the original's
    scores on `validation` and `test`, `statistics` of the first step. Their time is not in `seconds`."""
    memory: Memory | None = None
    """The engine's peak memory so far."""
    isolation: tuple[str, ...] = ()
    """How the engine was isolated from the worker and the network; empty if it did not run in a worker."""


class JobResult(FrozenModel):
    """The result of a job that succeeded: which step to take, and its test scores."""

    step: int
    """The last step within `stop`, or the last step if there is no bound; for a target with `max_drop`, the first step within
    it. 0 if no step is within the bound: the result is then the original, which is not stored again."""
    stopped: StopReason | None
    """Why this is not the step that reaches the target; null if it is."""
    detail: str
    """The same as a sentence."""
    test: Scores | None
    """Test scores of this step; of the original if `step` is 0."""


class JobWarning(FrozenModel):
    """A remark on a job's inputs that does not stop the job, but that readers of its numbers should know."""

    code: str = Field(
        description="`few_rows`, `one_class`, `shared_rows`, `repeated_rows`, `no_labels`, `clips_cut_short`, "
        "`clips_cancelled`, `blank_texts`, `texts_unread`, `labels_by_number` or `language_unsaid` (docs/data.md); for models "
        "`config_ignored`, `settings_ignored`, `code_ignored`, `tensors_ignored`, `labels_repeated`, `architecture_assumed`, "
        "`dtype_differs`, `double_precision` or `pruned_before` (docs/families.md). More may be added."
    )
    pointer: str = Field(
        "",
        description="RFC 6901 JSON pointer to the request's field concerned; for a model, to its file.",
    )
    detail: str


class DataSummary(FrozenModel):
    """The data that the job used."""

    samples: dict[str, int]
    """Number of samples by role: train, validation, test."""
    held_out: tuple[str, ...] = ()
    """Roles without a split of their own, held out of train by seed."""
    grouped_by: str | None = None
    multi_label: bool = False
    labels: tuple[str, ...] = ()
    unknown_characters: float = 0.0
    """Share of the transcripts' characters that are missing in the checkpoint's vocabulary and became its unknown token."""
    prompt: tuple[str, ...] = ()
    """Tokens given to the decoder before every text, after its start token: language, task, no timestamps."""
    text_normalizer: TextNormalizer | None = None
    """How texts are normalised before word and character errors are counted. Null: not at all."""
    windows: dict[str, int] = Field(default_factory=dict)
    """By role. For question answering, the number of windows that questions with their contexts were divided into; for a causal
    language model, the number of blocks of text. Each is one sample of calibration and recovery."""
    unanswerable: dict[str, int] = Field(default_factory=dict)
    """For question answering, by role: number of questions without an answer. If there are any, the model may leave questions
    unanswered."""
    classes: dict[str, int] = Field(default_factory=dict)
    """By role: number of different labels, if every row or every word has exactly one."""
    warnings: tuple[JobWarning, ...] = ()
