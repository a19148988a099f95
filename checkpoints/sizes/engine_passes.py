"""How often a job passes batches through its models, by phase, as the engine does it: a test counts the engine's calls.

`cost_model.py` counts samples, which is enough where the speed of finished jobs is known. Before that it also matters in how many
batches they come: a call has a cost of its own, and for a small model that is most of the time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from api_schemas.enums import Basis, Compensation, DeviceKind, LabelSource, Part, Split
from api_schemas.spec.job import JobSettings
from api_schemas.spec.pruning import Pruning
from checkpoints.sizes.cost_model import (
    BY_GRADIENTS,
    BY_MOMENTS,
    MOST_DIVISIONS,
    SCORED_TOGETHER,
    SENSITIVITY_SHARES,
    WITHOUT_SAMPLES,
    analyses_layers,
    calibration_samples,
    most_trials,
    timed_samples,
)

WARM_UP = 3
"""Rounds before latency is timed."""
MORE_ROUNDS = 10
"""How many times the rounds asked for a busy machine is given."""
CALIBRATED_TOGETHER = {DeviceKind.CPU: SCORED_TOGETHER, DeviceKind.CUDA: 64}
"""Samples of one pass of scoring and of a refit, by device; a test holds them to the engine's."""
JUDGED = 256
"""Samples by which divisions between the parts are judged, at most."""
LEAST_DIVISIONS = 3
TOKENS_AN_INPUT = 64
"""Of a refit; a test holds this and the one above to the engine's."""
PARTS_OF_A_REFIT = 4
"""Passes through both models' layers for one batch that a refit takes: one to what goes into each map, one to what its output
should add up to, and one to the next layer, each but the last a part of the layer."""


@dataclass(frozen=True)
class Passes:
    """Batches through a model."""

    batches: float
    samples: float
    flops: float
    """Of a forward pass of one sample."""
    backward: float = 0.0
    """Backward passes on the graph of each forward pass: of activations alone, while the model is scored."""
    trained: bool = False
    """Forward and backward with gradients of weights."""


@dataclass(frozen=True)
class Refit:
    """Least squares of a whole model."""

    samples: float
    flops: float
    """Of a forward pass of one sample."""
    times: tuple[float, float] = (1.0, 1.0)
    """At least and at most."""


def calibration_passes(samples: float, flops: float, kind: DeviceKind, backward: float = 0.0) -> Passes:
    """In the batches of scoring."""
    return Passes(ceil(samples / CALIBRATED_TOGETHER[kind]), samples, flops, backward)


def _evaluation(samples: int, batch_size: int, flops: float, beside: float) -> list[Passes]:
    batches = ceil(samples / batch_size)
    found = [Passes(batches, samples, flops)]
    return [*found, Passes(batches, samples, beside)] if beside else found


def scoring(spec: JobSettings, samples: Mapping[str, int], flops: float, kind: DeviceKind) -> list[Passes]:
    """Of one step, on a model with so many FLOPs."""
    pruning, scored = spec.pruning, calibration_samples(spec, samples)
    if not pruning.scored_parts:
        return []
    principal = pruning.basis is Basis.PRINCIPAL and Part.ATTENTION in pruning.cuts
    by_samples = pruning.scored_by not in WITHOUT_SAMPLES
    draws = pruning.calibration.draws if pruning.calibration.labels is LabelSource.MODEL else 1
    backward = draws if pruning.scored_by in BY_GRADIENTS else 0
    again = principal and by_samples and pruning.scored_by not in BY_MOMENTS
    if again:
        return [calibration_passes(scored, flops, kind), calibration_passes(scored, flops, kind, backward)]
    if principal or by_samples or pruning.compensation is not Compensation.NONE:
        return [calibration_passes(scored, flops, kind, backward)]
    return []


def refits(spec: JobSettings, samples: Mapping[str, int], flops: float, *, tokens: float, inputs: int) -> list[Refit]:
    """Of one step. `tokens`: of one sample; `inputs`: of the widest map that is refitted."""
    pruning = spec.pruning
    scored = calibration_samples(spec, samples)
    if pruning.compensation in (Compensation.NONE, Compensation.BIAS) and not pruning.by_surgeon:
        return []
    count = refit_samples(spec, samples, tokens, inputs)
    found = [Refit(count, flops)]
    if pruning.searches_shares:
        judged = min(JUDGED, count // 3)
        fit = min(scored, count - judged)
        found.append(Refit(fit, flops, (LEAST_DIVISIONS, MOST_DIVISIONS)))
    return found


def refit_samples(spec: JobSettings, samples: Mapping[str, int], tokens: float, inputs: int) -> int:
    """Samples that least squares take."""
    calibration, scored = spec.pruning.calibration, calibration_samples(spec, samples)
    there = samples[calibration.split]
    most = scored if calibration.refit_samples is None else min(calibration.refit_samples, there)
    return max(scored, min(most, ceil(TOKENS_AN_INPUT * inputs / max(tokens, 1.0))))


def judging(refit: Refit, flops: float, kind: DeviceKind) -> list[Passes]:
    """Of one division between the parts that is tried: both models' answers to the samples that it is judged by, at most."""
    passes = calibration_passes(min(JUDGED, refit.samples / 2), flops, kind)
    return [passes, passes]


def recovery(
    spec: JobSettings, samples: Mapping[str, int], flops: float, original: float, *, beside: bool
) -> list[Passes]:
    """Of one step: epochs over the train split, the original beside them where it teaches, and what decides whether it helped."""
    settings = spec.finetune
    if settings is None:
        return []
    train = samples[Split.TRAIN]
    batches = settings.epochs * ceil(train / settings.batch_size)
    found = [Passes(batches, settings.epochs * train, flops, trained=True)]
    if settings.distill is not None or beside:
        found.append(Passes(batches, settings.epochs * train, original))
    if settings.only_if_better:
        validation = samples[Split.VALIDATION]
        found += _evaluation(validation, spec.evaluate.batch_size, flops, original if beside else 0.0)
    return found


def evaluation(spec: JobSettings, samples: Mapping[str, int], flops: Sequence[float], *, beside: bool) -> list[Passes]:
    """Scores of the whole job. `flops`: of step 0, 1, …."""
    original, size = flops[0], spec.evaluate.batch_size
    other = original if beside else 0.0
    validation, test = samples[Split.VALIDATION], samples[Split.TEST]
    found = [*_evaluation(validation, size, original, other), *_evaluation(test, size, original, other)]
    for each in flops[1:]:
        for _ in range(2 if spec.finetune else 1):
            found += _evaluation(validation, size, each, other)
    return [*found, *_evaluation(test, size, flops[-1], other)]


@dataclass(frozen=True)
class Rounds:
    """Latency at one batch size: rounds in each of which every model has one pass."""

    batch: int
    rounds: float
    """That are made in any case, warm-up included."""
    flops: tuple[float, ...]
    open: bool
    """Whether more are made while the machine is too busy to tell."""


def latency(spec: JobSettings, flops: Sequence[float]) -> list[Rounds]:
    """Of the whole job: the original twice a round, and beside it, each in its turn, what was cut."""
    found: list[Rounds] = []
    evaluate = spec.evaluate
    for size in evaluate.latency_batch_sizes:
        one = evaluate.model_copy(update={"latency_batch_sizes": (size,)})
        rounds = timed_samples(one, int(flops[0])) / size + WARM_UP
        found.append(Rounds(size, rounds, (flops[0], flops[0]), open=False))
        found += [Rounds(size, rounds, (flops[0], each, flops[0]), open=True) for each in flops[1:]]
    return found


def layers_alone(
    spec: JobSettings, samples: Mapping[str, int], layers: int, flops: float, *, beside: bool
) -> list[Passes]:
    """What each attention alone would cost, by so many cuts, and once the model as it is."""
    analysed = spec.evaluate.sensitivity_samples
    if analysed is None or not analyses_layers(spec):
        return []
    cuts = 1 + layers * len(SENSITIVITY_SHARES)
    count, size = min(analysed, samples[Split.VALIDATION]), spec.evaluate.batch_size
    found = [Passes(cuts * ceil(count / size), cuts * count, flops)]
    return [*found, *found] if beside else found


def cuts_alone(spec: JobSettings, layers: int) -> int:
    """Copies of the model that are cut for it."""
    return layers * len(SENSITIVITY_SHARES) if analyses_layers(spec) else 0


def trials(pruning: Pruning) -> tuple[float, float]:
    """Cuts that are tried for a bound on the drop: at least and at most."""
    most = most_trials(pruning)
    return float(min(1, most)), float(most)


def trial(spec: JobSettings, samples: Mapping[str, int], flops: float, *, beside: bool) -> list[Passes]:
    """Scores of one of them."""
    return _evaluation(samples[Split.VALIDATION], spec.evaluate.batch_size, flops, flops if beside else 0.0)
