"""What a job achieved, in one sentence: the same on the page and in the terminal.

`Half of the attention parameters removed: 16% smaller, 1.20× faster at batch 1 (1.17 to 1.23×), 0.3 points of accuracy lost on
test.` Every clause follows from measurements; what was not measured is not mentioned.
"""

from collections.abc import Sequence
from typing import NamedTuple

from api_schemas.enums import SpeedVerdict, StopReason
from api_schemas.formatting import percent, points
from api_schemas.results import parts, speed
from api_schemas.results.metrics import ACCURACY, COSINE, Headline, JobResult, Latency, Scores, StepMetrics
from api_schemas.spec.job import JobRequest
from api_schemas.spec.pruning import Pruning

_FRACTIONS = (
    ("A quarter", 1 / 4),
    ("A third", 1 / 3),
    ("Half", 1 / 2),
    ("Two thirds", 2 / 3),
    ("Three quarters", 3 / 4),
)
_NEAR = 0.005
NEVER_SIGNIFICANT = 5
"""Samples. Of two models that differ on so few, no test tells which is better at 95%: had all of them gone one way, the exact
sign test (McNemar 1947) would give p = 2 · 0.5⁵ = 0.0625."""


class Answer(NamedTuple):
    sentence: str
    removed: bool
    """Whether there is a smaller model. Without one a job has succeeded, and its answer is that the original stays."""


class Split(NamedTuple):
    """Scores of the original and of the step on the same split."""

    name: str
    before: Scores
    after: Scores


def answer(steps: Sequence[StepMetrics], result: JobResult | None, request: JobRequest) -> Answer | None:
    """Of the recommended step; while there is no result, of the newest. None before a step has been cut."""
    chosen = chosen_step(steps, result)
    if chosen is None or (chosen.step == 0 and result is None):
        return None
    if chosen.step == 0:
        return Answer(_nothing(steps, result, request), removed=False)
    return of_step(steps[0], chosen, result, request)


def of_step(original: StepMetrics, chosen: StepMetrics, result: JobResult | None, request: JobRequest) -> Answer:
    """Of one step with a cut, recommended or not."""
    clauses = (
        _size(original.size.file_bytes, chosen.size.file_bytes),
        _speed(chosen.latency[0]) if chosen.latency else "",
        _quality(compared(original, chosen, result)),
    )
    return Answer(f"{_removed(chosen, request.pruning)} removed: {', '.join(filter(None, clauses))}.", removed=True)


def chosen_step(steps: Sequence[StepMetrics], result: JobResult | None) -> StepMetrics | None:
    """The result's step; while there is no result, the newest. None where nothing was measured."""
    if not steps:
        return None
    return steps[-1] if result is None else steps[min(result.step, len(steps) - 1)]


def compared(original: StepMetrics, chosen: StepMetrics, result: JobResult | None) -> Split:
    """Test where both were measured on it, else validation. The result's test scores are those of its own step."""
    own = None if result is None or result.step != chosen.step else result.test
    test = chosen.test if own is None else own
    if test is not None and original.test is not None and _same_metric(original.test, test):
        return Split("test", original.test, test)
    return Split("validation", original.validation, chosen.validation)


def recommendation(result: JobResult) -> str:
    """`Recommended: step 2. Both steps completed.` Why the original is, the answer says."""
    return (
        f"Recommended: step {result.step}. {result.detail}" if result.step else "Recommended: keep the original model."
    )


def _same_metric(before: Scores, after: Scores) -> bool:
    return before.headline is not None and after.headline is not None and before.headline.name == after.headline.name


def _removed(step: StepMetrics, pruning: Pruning) -> str:
    shares = [
        (_share(share), parts.NAMES[part]) for part in parts.cut_by(pruning) if (share := parts.removed(step, part))
    ]
    if not shares:
        return "Nothing"
    written = " and ".join(
        f"{share[0].lower() + share[1:] if number else share} of the {name}"
        for number, (share, name) in enumerate(shares)
    )
    return f"{written} parameters"


def _share(share: float) -> str:
    return next((word for word, fraction in _FRACTIONS if abs(share - fraction) <= _NEAR), percent(share))


def _size(before: int, after: int) -> str:
    change = 1.0 - after / before
    if abs(change) < 0.0005:
        return "the same size"
    return f"{percent(abs(change), 0 if abs(change) >= 0.0095 else 1)} {'smaller' if change > 0 else 'larger'}"


def _speed(row: Latency) -> str:
    at, ratio = f"at batch {row.batch_size}", speed.ratio(row)
    low, high = speed.interval(row)
    span = f"({low:.2f} to {high:.2f}×)"
    match None if row.paired is None else row.paired.verdict:
        case SpeedVerdict.NOT_MEASURABLE:
            return f"no measurable change in speed {at} {span}"
        case SpeedVerdict.SLOWER:
            return f"slower: {ratio:.2f}× the original's speed {at} {span}"
        case SpeedVerdict.FASTER:
            return f"{ratio:.2f}× faster {at} {span}"
    if f"{ratio:.2f}" == "1.00":
        return f"the same speed {at}"
    how = "faster" if ratio > 1 else "the original's speed"
    return f"{ratio:.2f}× {how} {at} (uncertainty not measured)"


def _quality(split: Split) -> str:
    before, after = split.before.headline, split.after.headline
    if before is None or after is None:
        return "quality not measured"
    words = _change(before, after, split) if after.rate else _level(before, after, split.name)
    if split.before.perplexity is not None and split.after.perplexity is not None:
        words += f" (perplexity {split.after.perplexity:.2f}, was {split.before.perplexity:.2f})"
    return words


def _level(before: Headline, after: Headline, split: str) -> str:
    """What is no share: the numbers themselves."""
    if after.name == COSINE:
        return f"cosine similarity to the original {after.text} on {split}"
    if before.text == after.text:
        return f"{after.name} unchanged at {after.text} on {split}"
    return f"{after.name} {after.text} on {split}, {'up' if after.value > before.value else 'down'} from {before.text}"


def _change(before: Headline, after: Headline, split: Split) -> str:
    change, where = after.value - before.value, f"on {split.name}"
    size = f"{abs(100 * change):.1f} point{'' if f'{abs(100 * change):.1f}' == '1.0' else 's'}"
    direction = "higher" if change > 0 else "lower"
    if f"{abs(100 * change):.1f}" == "0.0":
        return f"{after.name} unchanged at {after.text} {where}"
    if after.name == ACCURACY and round(abs(change) * split.after.samples) <= NEVER_SIGNIFICANT:
        return (
            f"no measurable change in {after.name} ({size} {direction} on {split.after.samples:,} {split.name} samples)"
        )
    if not after.higher_is_better:
        return f"{after.name} {size} {direction} {where}"
    return f"{size} of {after.name} {'gained' if change > 0 else 'lost'} {where}"


def _nothing(steps: Sequence[StepMetrics], result: JobResult | None, request: JobRequest) -> str:
    """Why the result is the original."""
    tried = [step for step in steps[1:] if step.validation.headline is not None]
    before, bound = steps[0].validation.headline, request.max_drop
    if before is None or bound is None or not tried or result is None or result.stopped is not StopReason.MAX_DROP:
        return "Nothing was removed: the original model is the result."
    best = max(tried, key=lambda step: step.validation.rank).validation.headline
    assert best is not None
    lost = abs(100 * (best.value - before.value))
    # With as many digits as tell it from the bound.
    written = f"{lost:.1f}" if round(lost, 1) > 100 * bound else f"{lost:.2f}"
    cost = f"{written} points {'lower' if before.higher_is_better else 'higher'}"
    # `stop` ends a job at the first step beyond it; a target with a bound is confirmed at one cut after the other.
    one = "the cut that was confirmed" if request.stop is None else "the first step"
    which = one if len(tried) == 1 else f"each of {len(tried)} cuts"
    least = "" if len(tried) == 1 else "at least "
    return (
        f"Nothing was removed: {before.name} on validation was {least}{cost} after {which}, and at most {points(bound)} may be "
        "lost."
    )
