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
    """One split. Which fields are set depends on what the model answers with."""

    samples: int
    """Of question answering, questions; of a causal language model, blocks of texts; everywhere else what one row is."""
    cross_entropy: float | None = None
    """The task's loss in nats, mean over samples: of a label's class, of a token's (mean over a sample's tokens), of a
    transcript by CTC (a label id), of a masked word (mean over a sample's), of a next token (mean over a block's), of an
    answer's first and last token (mean of the two, then over windows). Null for embeddings and hidden states, which have no
    labels."""
    accuracy: float | None = None
    """One label a sample."""
    mean_average_precision: float | None = None
    """Several labels a sample; null where no sample has one."""
    token_accuracy: float | None = None
    """A label a token: share of the labelled tokens of the whole split."""
    macro_f1: float | None = None
    """Beside it: F1 by class, the mean over the classes that were given or wanted somewhere."""
    word_error_rate: float | None = None
    """A text: edits of words over words wanted, on the whole split; may exceed 1."""
    character_error_rate: float | None = None
    masked_accuracy: float | None = None
    """Masked words: share of the masked tokens of the whole split whose likeliest word is the one that stood there."""
    next_token_accuracy: float | None = None
    """Causal language models: share of the tokens of the whole split, without the first of each block, that were the likeliest
    given those before them."""
    perplexity: float | None = None
    """Beside it, and beside `masked_accuracy`: exp of the mean cross entropy over all tokens of the split that were asked for."""
    f1: float | None = None
    """Question answering: of the words of an answer and of the wanted one that is most like it, mean over questions, as SQuAD's
    official script counts it."""
    exact_match: float | None = None
    """Beside it: share of the questions whose answer is a wanted one, apart from case, punctuation, articles and white space."""
    cosine_similarity: float | None = None
    """An embedding: with the original model's embedding of the same sample, mean over samples. Of the original, 1. Hidden states:
    of every token's, mean over a sample's tokens, then over samples."""
    similarity_correlation: float | None = None
    """Beside it: Spearman's rank correlation of the similarities between samples, this model's with the original's, over pairs
    of at most a thousand samples."""
    explained_variance: float | None = None
    """Beside it, for hidden states: 1 − squared distance from the original's over the variance of these, over all tokens of the
    split. Of the original, 1; what says the same of every token has 0 at most, and less is possible."""

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
_HEADLINES = (
    ("accuracy", "accuracy", True),
    ("mean_average_precision", "mAP", True),
    ("token_accuracy", "token accuracy", True),
    ("masked_accuracy", "masked token accuracy", True),
    ("next_token_accuracy", "next token accuracy", True),
    ("f1", "F1", True),
    ("word_error_rate", "WER", False),
    ("cosine_similarity", "cosine similarity", True),
    ("cross_entropy", LOSS, False),
)
"""Field of Scores, what it is called, and whether more of it is better; the first that is set counts."""
_NO_RATES = ("cosine similarity", LOSS)


class PairedSpeedup(FrozenModel):
    """How many times as fast as the dense model, from pairs: both were timed in every round, and divided within it.

    The intervals are of the median at 95%, whatever the times' distribution.
    """

    ratio: float
    """Median over rounds of the dense model's time divided by the cut model's."""
    low: float
    high: float
    noise_low: float
    """Ends of the interval of the dense model's time divided by that of its own copy, in the same rounds: what the machine makes
    of two models that are equally fast."""
    noise_high: float
    verdict: SpeedVerdict
    """`faster` or `slower` only where the interval of `ratio` is outside of that of the noise, in either direction."""


class Latency(FrozenModel):
    """Forward passes on the worker's device; in every round the dense model, the cut one and a copy of the dense one once."""

    batch_size: int
    runs: int
    """Rounds."""
    p50_ms: float
    p95_ms: float
    throughput: float
    """Inputs a second, from the median."""
    dense_p50_ms: float
    dense_p95_ms: float
    speedup: float
    """dense_p50_ms / p50_ms, which a busy machine may put far off; `paired` says what can be relied on."""
    paired: PairedSpeedup | None = None
    """Null in jobs of versions that did not measure it."""


class Size(FrozenModel):
    """Exact counts, from the widths and the file itself."""

    attention_parameters: int
    feed_forward_parameters: int = 0
    total_parameters: int
    flops: int
    file_bytes: int


class TargetMet(FrozenModel):
    """The job's target in its own unit, asked for and met at this step, as shares of the original."""

    kind: TargetKind
    requested: float
    achieved: float


class LayerSensitivity(FrozenModel):
    """One layer cut alone: `Scores.metric` and the cross entropy on validation, by share removed."""

    layer: int
    removed: tuple[float, ...]
    """Share of the layer's attention parameters that was really removed for each of `shares`, to the nearest structure."""
    metric: tuple[float | None, ...]
    """None where no sample has a label, and of a model that writes token by token: that would take long, and its loss does."""
    cross_entropy: tuple[float | None, ...]
    """None where the task has none."""


class Sensitivity(FrozenModel):
    """What each layer alone would cost, before any step. `dense_metric` is on the same samples."""

    samples: int
    shares: tuple[float, ...]
    """Asked for, of each layer's own attention parameters."""
    dense_metric: float | None
    dense_cross_entropy: float | None
    layers: tuple[LayerSensitivity, ...]


class TriedCut(FrozenModel):
    """One cut of the original, without recovery, tried for a bound on the drop."""

    requested: float
    """Share of the original, in the unit of the target's `of`."""
    achieved: float
    """The same, as it was met; of latency as looked up, not timed."""
    validation: Scores
    drop: float
    """How far `Scores.metric` lies below the original's; negative where it lies above."""
    within: bool
    """Whether that is within the bound."""


class DropSearch(FrozenModel):
    """What was tried before the first step where the target is a bound on the drop, in order."""

    of: TargetKind
    """By which size the smallest model is meant."""
    max_drop: float
    reach: float
    """The most that the spec can remove, in that unit."""
    tried: tuple[TriedCut, ...]


class ExportMetrics(FrozenModel):
    """One export, run on the CPU beside the step's model in torch: ONNX by onnxruntime, the others by torchao."""

    format: ExportFormat
    file: str
    """By its path in the step's folder. Of torchao's the weights, in a folder that transformers loads."""
    inputs: tuple[str, ...] = ("input_values",)
    """Names of the graph's inputs, which are the model's keywords."""
    output: str = "logits"
    """Name of its output; of two, the first."""
    outputs: tuple[str, ...] = ()
    """Names of all, where there are two: `start_logits` and `end_logits` of question answering. Empty for one."""
    file_bytes: int
    samples: int
    max_abs_error: float
    """Largest difference to torch's logits, or embeddings."""
    agreement: float
    """Share of samples on which the answer is torch's: the first class (several labels: every decision at 0.5); of a label a
    token, masked words or next tokens, the share of tokens; of question answering, whether both likeliest ends are; of texts,
    the whole greedy one; of embeddings and hidden states, the mean cosine similarity."""
    scores: Scores
    latency: tuple[Latency, ...] = ()
    """`dense_*`, `speedup` and `paired` compare with the cut model in torch on the same CPU."""


class Memory(FrozenModel):
    """Bytes of the engine's process."""

    host: int | None = None
    """Most that was held: pages that the system can read again from a file are left out. Null where the system does not say."""
    device: int | None = None
    """Most that was allocated on the GPU; null on a CPU."""


class EpochLoss(FrozenModel):
    """Mean training loss of one epoch of recovery; with distillation, of the whole sum that was trained on."""

    epoch: int
    train_loss: float
    learning_rate: float


class StepMetrics(FrozenModel):
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
    ffn_sparsity: float = 0.0
    """Share of the original's feed-forward parameters that is gone."""
    target: TargetMet | None = None
    """Null on step 0."""
    ffn_target: TargetMet | None = None
    """Of the feed-forward blocks, where the job has a share for them beside attention's."""
    losses: tuple[EpochLoss, ...] = ()
    augmented: bool = False
    """Whether recovery changed its inputs at random (`finetune.augment`): it does with the spectrograms of classifiers alone."""
    lora_ranks: dict[str, int] = Field(default_factory=dict)
    """Adapter rank by module name, after capping at the projection's width."""
    calibration_samples: int = 0
    refit_samples: int = 0
    """Samples that least squares took; 0 where nothing was refitted, and in metrics of before this was told."""
    stock_layout: bool = False
    """True where the folder loads without custom code."""
    reload_max_abs_error: float | None = None
    """Largest difference between the engine's logits (or embeddings, or hidden states) and those of a fresh process that loaded
    the packaged folder."""
    sensitivity: Sensitivity | None = None
    """Only on step 0, where asked for."""
    search: DropSearch | None = None
    """Only on step 0, where the target is a bound on the drop."""
    exports: tuple[ExportMetrics, ...] = ()
    seconds: dict[str, float] = Field(default_factory=dict)
    """Wall time by phase."""
    reused: tuple[str, ...] = ()
    """What an earlier job of the same worker had computed, to the same bits: `inputs` that were prepared, the original's scores
    on `validation` and `test`, `statistics` of the first step. Their time is not in `seconds`."""
    memory: Memory | None = None
    """The most that the engine has needed so far."""
    isolation: tuple[str, ...] = ()
    """What kept the engine apart from the worker and the network while it ran; empty where no worker ran it."""


class JobResult(FrozenModel):
    """What a job that ended well comes to: which step to take, and how it does on test."""

    step: int
    """The last step within `stop`, or the last step where there is no bound; the first within a target that is a bound. 0 where
    no step was within it: then the original is the best there is, which is not kept again."""
    stopped: StopReason | None
    """Why this is not the step that reaches the target; null where it is."""
    detail: str
    """The same in a sentence."""
    test: Scores | None
    """Of the result's own step; of the original where `step` is 0."""


class JobWarning(FrozenModel):
    """Something about a job's inputs that does not stop it, and that whoever reads its numbers should know."""

    code: str = Field(
        description="`few_rows`, `one_class`, `shared_rows`, `repeated_rows`, `no_labels`, `clips_cut_short`, "
        "`clips_cancelled`, `blank_texts`, `texts_unread`, `labels_by_number` or `language_unsaid` (docs/data.md); of a model "
        "`config_ignored`, `settings_ignored`, `code_ignored`, `tensors_ignored`, `labels_repeated`, `architecture_assumed`, "
        "`dtype_differs`, `double_precision` or `pruned_before` (docs/families.md). "
        "More may come."
    )
    pointer: str = Field(
        "",
        description="An RFC 6901 JSON pointer to the field of the request that it is about; of a model, to its file.",
    )
    detail: str


class DataSummary(FrozenModel):
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
    prompt: tuple[str, ...] = ()
    """Tokens that a decoder is given before every text, behind the one that starts it: language, task, no timestamps."""
    text_normalizer: TextNormalizer | None = None
    """What makes texts alike before wrong words and characters are counted; None: they are compared as they are."""
    windows: dict[str, int] = Field(default_factory=dict)
    """Question answering, by role: into how many windows its questions with their contexts were divided; of a causal language
    model, into how many blocks its texts. Each is one sample of calibration and recovery."""
    unanswerable: dict[str, int] = Field(default_factory=dict)
    """Question answering, by role: how many questions have no answer. Where any has none, a model may say so of each."""
    classes: dict[str, int] = Field(default_factory=dict)
    """By role: how many different labels it has. Where every row or every word has exactly one."""
    warnings: tuple[JobWarning, ...] = ()
