"""The schedule: which sparsity each step aims at."""

from api_schemas import accounting
from api_schemas.accounting import ModelShape
from api_schemas.enums import Granularity, Layout, Scope
from api_schemas.spec import Pruning
from api_schemas.widths import AttentionWidths


def _smallest_step(shape: ModelShape, widths: AttentionWidths, pruning: Pruning) -> int:
    """Parameters of the smallest cut the spec allows: one structure, or one a layer (and side) where all must move."""
    layer = widths.layers[0]
    qk, vo = accounting.qk_channel_parameters(shape), accounting.vo_channel_parameters(shape)
    if pruning.granularity is Granularity.ENTIRE_HEAD:
        one = layer.qk[0] * qk + layer.vo[0] * vo
    elif pruning.layout is Layout.STOCK:
        one = layer.heads * (qk + vo)
    else:
        one = layer.heads * max(qk, vo)
    everywhere = pruning.scope is Scope.LOCAL or pruning.layout is Layout.STOCK
    return one * (len(widths.layers) if everywhere else 1)


def step_targets(shape: ModelShape, widths: AttentionWidths, pruning: Pruning) -> tuple[float, ...]:
    """Cumulative sparsity after each step, linear up to the target.

    A step that would remove no structure more than the one before it (the paper's 10% is less than one head a layer
    in a small model) is left out: recovery without a cut is not a step. The last target always stays.
    """
    target, steps = pruning.target.attention_sparsity, pruning.steps
    smallest = _smallest_step(shape, widths, pruning)
    targets: list[float] = []
    counts: list[int] = []
    for step in range(1, steps + 1):
        sparsity = target * step / steps
        count = round(sparsity * shape.attention_parameters / smallest)
        if count and (not counts or count > counts[-1]):
            targets.append(sparsity)
            counts.append(count)
    if targets:
        targets[-1] = target
    return tuple(targets) or (target,)
