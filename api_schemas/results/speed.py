"""How fast a step is beside the original, in words: the same in report, model card, page and terminal.

Metrics of earlier versions have no paired ratio. Theirs is written as it is, since nothing says how sure it was.
"""

from collections.abc import Mapping
from typing import NamedTuple

from api_schemas.enums import SpeedVerdict, TargetKind
from api_schemas.formatting import percent
from api_schemas.results.metrics import Latency, StepMetrics
from api_schemas.spec.pruning import RAGGED, Pruning

NOT_MEASURABLE = "not measurable here"
CAPTION = (
    "Original, cut model and a copy of the original timed in turn on the worker's device, in random order, round after round; "
    "the speed-up is the median of the rounds' ratios, with its 95% interval. It is not measurable if the original differs as "
    "much from its own copy."
)
_EVEN = 4
"""Heads that are all this wide, or a multiple, go through the attention kernel as they are."""


class Speed(NamedTuple):
    """What is said first, and the interval beside it; of metrics without one, nothing."""

    headline: str
    interval: str

    @property
    def text(self) -> str:
        """`1.17× (1.15 to 1.19×)`, `0.83×, slower (0.80 to 0.86×)`, `not measurable here (0.82 to 1.31×)`."""
        return f"{self.headline} ({self.interval})" if self.interval else self.headline


def ratio(row: Latency) -> float:
    """Times as fast as what it was timed beside: the best number that there is, however sure it is."""
    return row.speedup if row.paired is None else row.paired.ratio


def interval(row: Latency) -> tuple[float, float]:
    """Its ends; of metrics without one, the ratio itself twice."""
    return (row.speedup, row.speedup) if row.paired is None else (row.paired.low, row.paired.high)


def speed(row: Latency) -> Speed:
    """The same in words, where the machine's noise does not cover it."""
    found = row.paired
    if found is None:
        return Speed(f"{row.speedup:.2f}×", "")
    span = _span(*interval(row))
    if found.verdict is SpeedVerdict.NOT_MEASURABLE:
        return Speed(NOT_MEASURABLE, span)
    return Speed(f"{found.ratio:.2f}×{', slower' if found.verdict is SpeedVerdict.SLOWER else ''}", span)


def written(step: StepMetrics, row: Latency | None) -> str:
    """For a table of steps: a dash for the original, which is what the others are measured by, and where nothing was timed."""
    return "–" if row is None or not step.step else speed(row).text


def noise(row: Latency) -> str:
    """What the original came to beside its own copy: `0.97 to 1.03×`."""
    return "–" if row.paired is None else _span(row.paired.noise_low, row.paired.noise_high)


def point(step: StepMetrics, row: Latency | None) -> float | None:
    """For a curve: 1 for the original; nothing where the noise covers it, or nothing was timed."""
    if row is None or not step.step:
        return None if row is None else 1.0
    return ratio(row) if _measured(row) else None


def achieved(step: StepMetrics) -> float | None:
    """Share of the original that is gone, in the target's own unit. None for a latency that is not measurable."""
    target = step.target
    if target is None:
        return step.achieved_sparsity
    covered = target.kind is TargetKind.LATENCY and not all(map(_measured, step.latency[:1]))
    return None if covered else target.achieved


def achieved_written(step: StepMetrics) -> str:
    """`24.81%`, or why there is no number."""
    share = achieved(step)
    if share is not None:
        return percent(share, 2)
    saved = (percent(1.0 - 1.0 / end, 0) for end in interval(step.latency[0]))
    return f"{NOT_MEASURABLE} ({' to '.join(saved)})"


def slower(step: StepMetrics, pruning: Pruning) -> str | None:
    """Where the step is measurably slower than the original: at which batch sizes, why, and what to ask for instead."""
    rows = {row.batch_size: row for row in step.latency if row.paired is not None} if step.step else {}
    slow = [size for size, row in rows.items() if _verdict(row) is SpeedVerdict.SLOWER]
    if not slow:
        return None
    sizes = " and ".join(f"{size} ({ratio(rows[size]):.2f}×)" for size in slow)
    return " ".join(
        (
            f"Step {step.step} is slower than the original at batch {sizes}.",
            _widths_in_words(step, pruning),
            _batches_in_words(rows, max(slow)),
        )
    )


def _widths_in_words(step: StepMetrics, pruning: Pruning) -> str:
    """What its heads' widths cost, by how the model file groups them (`head_groups`), and which widths cost less."""
    layers = [layer for layer in step.widths.layers if layer.heads]
    unequal = sum(len({*layer.qk, *layer.vo}) > 1 for layer in layers)
    odd = sum(layer.qk[0] % _EVEN > 0 for layer in layers if len({*layer.qk, *layer.vo}) == 1)
    if not unequal + odd:
        return "The widths of its heads are equal and even, so they are not the cause."
    how = "heads differ in width, or QK from VO" if unequal else f"the width of heads is not a multiple of {_EVEN}"
    if pruning.granularity in RAGGED:
        instead = "Use granularity head_and_width with align 8, or entire_head."
    elif pruning.multiple == 1:
        instead = "Use align 8."
    else:
        instead = "Use granularity entire_head, which does not change widths."
    return (
        f"In {unequal or odd} of {len(layers)} layers {how}: every pass has to copy and pad them, which can take longer than "
        f"what is cut. {instead}"
    )


def _batches_in_words(rows: Mapping[int, Latency], slow: int) -> str:
    """What larger batches than the largest `slow` one come to: what a call costs by itself weighs less in them."""
    better = [size for size, row in rows.items() if size > slow]
    if not better:
        return "Larger batches were not measured; add them to evaluate.latency_batch_sizes."
    largest = rows[max(better)]
    if _verdict(largest) is SpeedVerdict.FASTER:
        return f"With more samples per batch it is faster: at batch {largest.batch_size}, {speed(largest).text}."
    return f"At batch {largest.batch_size} it is {speed(largest).text}."


def _measured(row: Latency) -> bool:
    return _verdict(row) is not SpeedVerdict.NOT_MEASURABLE


def _verdict(row: Latency) -> SpeedVerdict | None:
    return None if row.paired is None else row.paired.verdict


def _span(low: float, high: float) -> str:
    return f"{low:.2f} to {high:.2f}×"
