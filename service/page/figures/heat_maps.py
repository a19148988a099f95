"""Heat maps of one job: how much of every layer and head was removed, and the cost of cutting each layer alone."""

from collections.abc import Sequence

from api_schemas.api.resources import JobResource
from api_schemas.enums import Part
from api_schemas.results import display, parts
from api_schemas.results.metrics import Sensitivity, StepMetrics
from service.page.figures.types import HeatMap


def layers(job: JobResource, only: StepMetrics | None = None) -> tuple[HeatMap, ...]:
    """A row a step, or `only` one, a column a layer, in percent: QK and VO apart, and neurons where they are cut."""
    steps, cut = job.metrics[1:] if only is None else (only,), parts.cut_by(job.request.pruning)
    if not steps:
        return ()
    dense, found = job.metrics[0].widths, []
    if Part.ATTENTION in cut:
        for pair in display.PAIRS:
            rows = [(str(step.step), _percents(display.layer_sparsity(dense, step.widths, pair))) for step in steps]
            found.append(
                _map(
                    f"layers-{pair.lower()}", f"{pair}: channels removed (%)", "Step", "Layer", len(dense.layers), rows
                )
            )
    if Part.FEED_FORWARD in cut:
        rows = [(str(step.step), _percents(display.block_sparsity(dense, step.widths))) for step in steps]
        found.append(
            _map("layers-ff", "Feed-forward: neurons removed (%)", "Step", "Block", len(dense.feed_forward), rows)
        )
    return tuple(found)


def heads(job: JobResource, step: StepMetrics) -> tuple[HeatMap, ...]:
    """A row a layer, a column a head as the original numbers it, in percent after `step`. Nothing where heads stay whole."""
    if Part.ATTENTION not in parts.cut_by(job.request.pruning) or step.step == 0:
        return ()
    dense = job.metrics[0].widths
    most = max((layer.heads for layer in dense.layers), default=0)
    return tuple(
        _map(
            f"heads-{pair.lower()}", f"{pair}: channels removed (%)", "Layer", "Head", most,
            [
                (str(number), (*_percents(row), *(None,) * (most - len(row))))
                for number, row in enumerate(display.head_sparsity(dense, step.widths, pair))
            ],
        )
        for pair in display.PAIRS
    )  # fmt: skip


def sensitivity(job: JobResource) -> tuple[HeatMap, ...]:
    """What cutting a share of each layer alone costs, in points of the metric and in cross entropy, where measured."""
    found = job.metrics[0].sensitivity if job.metrics else None
    headline = job.metrics[0].validation.headline if job.metrics else None
    if found is None:
        return ()
    columns = tuple(f"{100 * share:.0f}%" for share in found.shares)
    lost = headline is None or headline.higher_is_better
    title = f"{display.metric_name(job.metrics)} {'lost' if lost else 'gained'} (points)"
    made = []
    if found.dense_metric is not None or found.dense_cross_entropy is None:
        made.append(_cost("sensitivity-metric", title, columns, _points(found), 1))
    if found.dense_cross_entropy is not None:
        made.append(_cost("sensitivity-loss", "cross entropy increase (nats)", columns, _nats(found), 2))
    return tuple(made)


def _points(found: Sensitivity) -> list[tuple[float | None, ...]]:
    dense = found.dense_metric
    return [
        tuple(None if value is None or dense is None else 100 * (dense - value) for value in layer.metric)
        for layer in found.layers
    ]


def _nats(found: Sensitivity) -> list[tuple[float | None, ...]]:
    dense = found.dense_cross_entropy
    return [
        tuple(None if value is None or dense is None else value - dense for value in layer.cross_entropy)
        for layer in found.layers
    ]


def _cost(
    name: str, title: str, columns: tuple[str, ...], rows: Sequence[tuple[float | None, ...]], digits: int
) -> HeatMap:
    highest = max((value for row in rows for value in row if value is not None), default=0.0)
    named = tuple((str(number), row) for number, row in enumerate(rows))
    return HeatMap(
        name, title, "Layer", "Share of the layer's attention removed", columns, named, max(highest, 1e-9), digits
    )


def _map(
    name: str, title: str, row_name: str, column_name: str, width: int,
    rows: Sequence[tuple[str, tuple[float | None, ...]]],
) -> HeatMap:  # fmt: skip
    return HeatMap(name, title, row_name, column_name, tuple(map(str, range(width))), tuple(rows), 100.0)


def _percents(shares: Sequence[float]) -> tuple[float | None, ...]:
    return tuple(100 * share for share in shares)
