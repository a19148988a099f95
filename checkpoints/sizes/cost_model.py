"""The work of a job, to which its time is assumed proportional, and the bytes, to which its memory is."""

from collections.abc import Mapping, Sequence

from api_schemas.base import FrozenModel
from api_schemas.enums import (
    Basis,
    Compensation,
    Criterion,
    DeviceKind,
    FinetuneMethod,
    LabelSource,
    Part,
    Phase,
    Split,
)
from api_schemas.results.metrics import Memory
from api_schemas.spec.job import Evaluate, JobSettings
from api_schemas.spec.pruning import Pruning
from checkpoints.sizes.shape import ModelShape

SENSITIVITY_SHARES = (0.25, 0.5, 0.75)
"""Of each layer alone, removed before the first step to see what that would cost."""
MOST_TRIALS = 8
"""Cuts that are tried before the first step where the target is a bound on the drop: eight halvings of all that can go."""
MOST_DIVISIONS = 6
"""Divisions of one target between attention and feed-forward blocks that are tried in each step, where they are searched for."""
BACKWARD = 1.0
"""A backward pass of scoring, in forward passes: no weight asks for a gradient, so activations alone get theirs."""
_TRAINING = 3.0
"""A forward and a backward pass of recovery."""
WITHOUT_SAMPLES = frozenset({Criterion.MAGNITUDE, Criterion.RANDOM})
BY_GRADIENTS = frozenset(Criterion) - WITHOUT_SAMPLES - {Criterion.ENERGY}
BY_MOMENTS = frozenset({Criterion.ENERGY, Criterion.FISHER_ENERGY})
"""Moments turn with the basis: the pass that the basis is made from does for the criterion too."""
COUNTED = 3
"""Which `phase_work` and `tensor_bytes` this is: rises when either counts another way."""
_TENSORS_COUNTED_SO_SINCE = {DeviceKind.CPU: 3, DeviceKind.CUDA: 1}
_COUNTED_SO_SINCE = {Phase.SCORING: 2, Phase.PRUNING: 2}
"""Of the phases that were once counted another way; work of before is of another unit."""
SAMPLE_FLOPS = {"cpu": 5e8, "cuda": 5e10}
"""By kind of device, the FLOPs that it does while a sample is decoded and its features are made: some milliseconds."""
_PACKAGING = 500.0
"""Files written and loaded by a fresh process; once they are measured, described with figures: so many samples' time."""
_LONG = 6000.0
"""The same of the time after which long passes are not timed as often as asked for, but so many times:"""
LEAST_ROUNDS = 6
_TRAINED_COPIES = 4
"""Of the weights: themselves, the original beside them, gradients, an optimizer's state of adapters."""
_MOMENTS = 2
"""More of them where all weights are trained: the optimizer's."""
SCORED_TOGETHER = 8
"""Samples of one pass of scoring on a CPU; a test holds this and the next two to what the engine does."""
GRAPH_IN_MEMORY = CALLS_IN_MEMORY = 1 << 28
"""Bytes that stay in memory of what a backward pass needs, and of the calls of layers, on a CPU."""
_NORMAL_MATRICES = 4
"""Matrices of float64 while a map is refitted: sums, what is solved, its factors, what comes out."""
_REFITTED = 512
"""Samples that least squares take where a spec does not say."""


def passes(
    spec: JobSettings,
    layers: int,
    steps: int,
    samples: Mapping[str, int],
    flops: int,
    device: str = "cpu",
    *,
    beside: bool = False,
) -> dict[Phase, tuple[int, float]]:
    """By phase, how many pieces of work there are and a guess of one's cost in forward passes of the original, whose FLOPs are
    `flops`. `samples` by split. `beside`: the original sees whatever is scored or trained on as well, as with hidden states.
    """
    once = 1 + int(beside)
    train, validation, test = (samples[split] for split in (Split.TRAIN, Split.VALIDATION, Split.TEST))
    sample = SAMPLE_FLOPS[device] / max(flops, 1)
    timed = timed_samples(spec.evaluate, flops)
    pieces = 1 + steps * evaluations(spec)
    evaluated = once * (validation * pieces + 2 * test) + timed * (2 + 3 * steps)
    scored = calibration_samples(spec, samples) * scoring_passes(spec.pruning)
    epochs = spec.finetune.epochs if spec.finetune else 0
    analysed = min(spec.evaluate.sensitivity_samples or 0, validation) if analyses_layers(spec) else 0
    alone = once * analysed * len(SENSITIVITY_SHARES) * layers
    tried = most_trials(spec.pruning) * _trial(spec, samples, once)
    return {
        Phase.PREPARING: (1, sum(samples.values()) * sample),
        Phase.SCORING: (steps, scored),
        Phase.ANALYSING: (analyses(spec), float(alone + tried) / max(analyses(spec), 1)),
        Phase.FINETUNING: (steps, (_TRAINING + int(beside)) * train * epochs),
        Phase.EVALUATING: (pieces, evaluated / pieces),
        Phase.PACKAGING: (2 * steps, _PACKAGING * sample),
    }


def analyses_layers(spec: JobSettings) -> bool:
    """Whether every layer is cut alone before the first step, to see what that would cost."""
    return spec.evaluate.sensitivity_samples is not None and Part.ATTENTION in spec.pruning.cuts


def analyses(spec: JobSettings) -> int:
    """Pieces of work between the original's scores and the first step: layers alone, cuts for a bound on the drop."""
    return int(analyses_layers(spec)) + int(most_trials(spec.pruning) > 0)


def most_trials(pruning: Pruning) -> int:
    """How many cuts are tried before the first step, at most."""
    return 0 if pruning.target.max_drop is None else MOST_TRIALS


def _trial(spec: JobSettings, samples: Mapping[str, int], once: int) -> int:
    """What trying one cut takes, in passes of a model of at most the original's size: refitted as a step's, and scored."""
    return _refitted(spec, samples) + once * samples[Split.VALIDATION]


def _refitted(spec: JobSettings, samples: Mapping[str, int]) -> int:
    """Samples that a cut is refitted on, at most: long inputs need fewer."""
    if spec.pruning.compensation in (Compensation.NONE, Compensation.BIAS):
        return 0
    calibration, scored = spec.pruning.calibration, calibration_samples(spec, samples)
    return max(scored, min(calibration.refit_samples or 0, samples[calibration.split]))


def _searched(spec: JobSettings, samples: Mapping[str, int]) -> int:
    """Samples that cuts are refitted on while a step's division between the parts is searched for, at most."""
    return MOST_DIVISIONS * spec.pruning.searches_shares * calibration_samples(spec, samples)


def evaluations(spec: JobSettings) -> int:
    """How many times a step is scored on validation: before and after recovery, where there is one."""
    return 2 if spec.finetune else 1


def timed_samples(evaluate: Evaluate, flops: int) -> float:
    """Samples that pass through each of the models whose latency is measured side by side."""
    rounds = (_LONG * SAMPLE_FLOPS["cpu"] / (3 * size * max(flops, 1)) for size in evaluate.latency_batch_sizes)
    least = min(LEAST_ROUNDS, evaluate.latency_runs)
    return sum(
        size * min(evaluate.latency_runs, max(least, fitting))
        for size, fitting in zip(evaluate.latency_batch_sizes, rounds, strict=True)
    )


def scoring_passes(pruning: Pruning) -> float:
    """What scoring takes of every calibration sample, in forward passes.

    Backward passes, one a draw of labels, are on the graph of one forward pass. The principal basis is made from a forward pass
    of its own, after which the model is another; compensation alone takes one as well, to see what comes out of each channel.
    Neurons that are chosen while they are refitted need none.
    """
    if not pruning.scored_parts:
        return 0.0
    principal = pruning.basis is Basis.PRINCIPAL and Part.ATTENTION in pruning.cuts
    by_samples = pruning.scored_by not in WITHOUT_SAMPLES
    seen_first = principal or by_samples or pruning.compensation is not Compensation.NONE
    forward = int(seen_first) + int(principal and by_samples and pruning.scored_by not in BY_MOMENTS)
    draws = pruning.calibration.draws if pruning.calibration.labels is LabelSource.MODEL else 1
    return forward + BACKWARD * draws * (pruning.scored_by in BY_GRADIENTS)


def calibration_samples(spec: JobSettings, samples: Mapping[str, int]) -> int:
    """Samples that a step is scored on."""
    calibration = spec.pruning.calibration
    of_split = samples[calibration.split]
    return of_split if calibration.samples is None else min(calibration.samples, of_split)


def phase_work(
    spec: JobSettings,
    layers: int,
    samples: Mapping[str, int],
    flops: Sequence[int],
    *,
    beside: bool = False,
    trials: int | None = None,
) -> dict[Phase, float]:
    """By phase, the work of a whole job: samples · FLOPs of the models they pass through, the latter of step 0, 1, ….
    `beside`: as of `passes`. `trials`: cuts that are tried before the first step; by default the most there may be.

    A job starts, data are prepared and results packaged whatever the model: these count jobs, samples and steps. 0 where nothing
    passes through a model: scores of weights alone, a cut that is not refitted.
    """
    original, cut, steps = flops[0], flops[1:], len(flops) - 1
    # Steps that confirm a bound on the drop all begin with the original.
    before = flops[:-1] if spec.pruning.target.max_drop is None else [original] * steps
    fewer = 0 if trials is None else most_trials(spec.pruning) - trials
    plan = passes(spec, layers, steps, samples, original, beside=beside)
    analysed = plan[Phase.ANALYSING]
    timed = timed_samples(spec.evaluate, original)
    train, validation, test = (samples[split] for split in (Split.TRAIN, Split.VALIDATION, Split.TEST))
    trained = train * (spec.finetune.epochs if spec.finetune else 0)
    return {
        Phase.STARTING: 1.0,
        Phase.PREPARING: float(sum(samples.values())),
        Phase.SCORING: plan[Phase.SCORING][1] * sum(before),
        Phase.ANALYSING: (analysed[0] * analysed[1] - fewer * _trial(spec, samples, 1 + int(beside))) * original,
        Phase.PRUNING: float(_searched(spec, samples) + _refitted(spec, samples)) * sum(before),
        Phase.FINETUNING: trained * (_TRAINING * sum(cut) + beside * steps * original),
        # Of every model its latency beside the original's, timed twice; of a cut one the scores before and after recovery.
        Phase.EVALUATING: (validation + test + 2 * timed) * original
        + sum((evaluations(spec) * validation + timed) * each + 2 * timed * original for each in cut)
        + test * flops[-1]
        + beside * (2 * test + (1 + steps * evaluations(spec)) * validation) * original,
        Phase.PACKAGING: float(steps),
    }


def tensor_bytes(spec: JobSettings, shape: ModelShape, kind: DeviceKind) -> int:
    """Bytes of the tensors that a job has at once in memory of its own: not a forecast, but what memory grows with.

    On a GPU copies of the weights in float32 and the activations of one batch. On a CPU what is large lies in mapped files
    (docs/adr/0058-tensors-in-files.md): without recovery the block that is at work, what of a graph and of the calls of layers
    stays in memory, and the normal equations of the widest map that is refitted.
    """
    dense = shape.dense
    of_blocks, probabilities = [], 0
    for block, layer in zip(shape.attention, dense.layers, strict=True):
        inner, queries = layer.qk_total + layer.vo_total, block.queries_per_head
        # Kept for a backward pass: what goes into every linear map and, while weights are trained, the attention probabilities.
        of_blocks.append(block.queries * (2 * block.hidden + queries * inner) + block.keys * inner)
        probabilities += queries * layer.heads * block.pairs
    for feed_forward, neurons in zip(shape.feed_forward, dense.feed_forward, strict=True):
        # What goes into the activation and what comes out; of a gated block what it is multiplied by, and the product.
        of_blocks.append(feed_forward.tokens * (2 * feed_forward.hidden + (2 + 2 * feed_forward.gated) * neurons))
    trained = spec.finetune.batch_size if spec.finetune else 1
    batch = max(trained, spec.evaluate.batch_size, *spec.evaluate.latency_batch_sizes)
    if kind is DeviceKind.CUDA:
        return model_bytes(spec, shape) + 4 * batch * (sum(of_blocks) + probabilities)
    held = _held_without_training(spec, shape, max(of_blocks, default=0), sum(of_blocks), batch)
    if spec.finetune is None:
        return held
    # The original beside them is in files.
    trained_bytes = model_bytes(spec, shape) - 4 * _weights(shape)
    return max(held, trained_bytes + 4 * batch * (sum(of_blocks) + probabilities))


def model_bytes(spec: JobSettings, shape: ModelShape) -> int:
    """Bytes of the models of a job, in float32, and of what training adds to each weight: what a GPU should have room for."""
    full = spec.finetune is not None and spec.finetune.method is FinetuneMethod.FULL
    return 4 * (_TRAINED_COPIES + full * _MOMENTS) * _weights(shape)


def _weights(shape: ModelShape) -> int:
    """Parameters of the whole model; of its maps those of their weights."""
    weights, dense = shape.other_parameters, shape.dense
    for block, layer in zip(shape.attention, dense.layers, strict=True):
        inner = layer.qk_total + layer.vo_total
        weights += inner * (block.queries_per_head * block.hidden + block.source)
    for feed_forward, neurons in zip(shape.feed_forward, dense.feed_forward, strict=True):
        weights += (2 + feed_forward.gated) * feed_forward.hidden * neurons
    return weights


def _held_without_training(spec: JobSettings, shape: ModelShape, largest: int, all_blocks: int, batch: int) -> int:
    """On a CPU. `largest`, `all_blocks`: numbers that one sample's activations are in one block, and in all."""
    calibration, dense = spec.pruning.calibration, shape.dense
    samples = calibration.refit_samples or calibration.samples or _REFITTED
    streams = max((block.queries * block.hidden for block in shape.attention), default=0)
    widest = max((*(layer.vo_total for layer in dense.layers), *dense.feed_forward), default=0)
    # Of two models, before a layer and after it.
    calls = 2 * min(CALLS_IN_MEMORY, 2 * 4 * samples * streams)
    return (
        4 * max(batch, SCORED_TOGETHER) * largest
        + min(GRAPH_IN_MEMORY, 4 * SCORED_TOGETHER * all_blocks)
        + calls
        + _NORMAL_MATRICES * 8 * widest**2
    )


class PhaseTime(FrozenModel):
    """Wall time of a phase over a whole job, and its work as `phase_work` counts it."""

    seconds: float
    work: float


class JobCost(FrozenModel):
    """One finished job."""

    phases: dict[Phase, PhaseTime]
    outside_seconds: float
    """Time of the worker outside all phases: inputs fetched, the engine started, files stored."""
    base: Memory
    """Before the job's own model and data: libraries, a GPU's context."""
    peak: Memory
    tensor_bytes: int
    """What the memory above the base is taken to be proportional to."""
    counted: int = 1
    """`COUNTED` when it was noted."""

    @property
    def comparable(self) -> dict[Phase, PhaseTime]:
        """The phases whose work is counted today as it was then."""
        return {phase: each for phase, each in self.phases.items() if self.counted >= _COUNTED_SO_SINCE.get(phase, 1)}

    @property
    def tensors_comparable(self) -> bool:
        """Whether its tensors are counted today as they were then."""
        kind = DeviceKind.CPU if self.peak.device is None else DeviceKind.CUDA
        return self.counted >= _TENSORS_COUNTED_SO_SINCE[kind]
