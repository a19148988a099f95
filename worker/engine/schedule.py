"""The schedule: which sparsity each step aims at."""

from api_schemas.accounting import ModelShape
from api_schemas.reach import smallest_cut
from api_schemas.spec import Pruning
from api_schemas.widths import AttentionWidths


def step_targets(shape: ModelShape, widths: AttentionWidths, pruning: Pruning) -> tuple[float, ...]:
    """Cumulative sparsity after each step, linear up to the target.

    A step that would remove no structure more than the one before it (the paper's 10% is less than one head a layer
    in a small model) is left out: recovery without a cut is not a step. The last target always stays.
    """
    target, steps = pruning.target.share, pruning.steps
    smallest = smallest_cut(shape, widths, pruning)
    targets: list[float] = []
    counts: list[int] = []
    for step in range(1, steps + 1):
        sparsity = target * step / steps
        count = round(sparsity * shape.attention_parameters / smallest)
        if count and (not counts or count > counts[-1]):
            targets.append(sparsity)
            counts.append(count)
    return (*targets[:-1], target)
