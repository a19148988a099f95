"""What one step measured beside the original, a row a number: the same in the model card and on the step's page."""

from collections.abc import Sequence

from api_schemas.enums import Part
from api_schemas.formatting import count, file_size, milliseconds
from api_schemas.results import display, parts, speed
from api_schemas.results.metrics import LOSS, StepMetrics

Row = tuple[str, str, str]
"""What it is; the original's; the step's."""
_ALSO = {
    "macro_f1": "macro F1",
    "exact_match": "exact match",
    "character_error_rate": "character error rate",
    "perplexity": "perplexity",
    "explained_variance": "share of the original's variance explained",
    "similarity_correlation": "rank correlation of similarities with the original's",
}
"""Scores beside the task's own metric."""


def rows(original: StepMetrics, step: StepMetrics, shown: Sequence[Part]) -> list[Row]:
    """Scores, sizes of the parts that are `shown` and of the whole, times: of what was measured."""
    return [*_scores(original, step), *_sizes(original, step, shown), *_speeds(step)]


def _scores(original: StepMetrics, step: StepMetrics) -> list[Row]:
    name = display.metric_name([original])
    found = []
    for split in ("validation", "test"):
        before, after = getattr(original, split), getattr(step, split)
        if before is None or after is None:
            continue
        found.append((f"{name}, {split} ({after.samples} samples)", display.written(before), display.written(after)))
        for field, also in _ALSO.items():
            pair = getattr(before, field), getattr(after, field)
            if None not in pair:
                found.append((f"{also}, {split}", f"{pair[0]:.4f}", f"{pair[1]:.4f}"))
        if display.has_loss([original]):
            found.append((f"{LOSS}, {split}", display.loss_written(before), display.loss_written(after)))
    return found


def _sizes(original: StepMetrics, step: StepMetrics, shown: Sequence[Part]) -> list[Row]:
    before, after = original.size, step.size
    of_parts = [
        (
            f"{parts.NAMES[part]} parameters",
            count(parts.parameters(original, part)),
            count(parts.parameters(step, part)),
        )
        for part in shown
    ]
    return [
        *of_parts,
        ("all parameters", count(before.total_parameters), count(after.total_parameters)),
        ("FLOPs of one input", count(before.flops), count(after.flops)),
        ("weights file", file_size(before.file_bytes), file_size(after.file_bytes)),
    ]


def _speeds(step: StepMetrics) -> list[Row]:
    found: list[Row] = []
    for row in step.latency:
        now = f"{milliseconds(row.p50_ms)}, p95 {milliseconds(row.p95_ms)}"
        found.append((f"latency at batch {row.batch_size}, p50", milliseconds(row.dense_p50_ms), now))
        found.append((f"speed-up at batch {row.batch_size}", "–", speed.written(step, row)))
    return found
