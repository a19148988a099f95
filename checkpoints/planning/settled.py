"""Resolves what a spec leaves to the model: the criterion, and widths that are fast and leave enough choice."""

from typing import TypeVar

from api_schemas.enums import Criterion, Granularity, Head, Part, TargetKind
from api_schemas.errors import SecateurError
from api_schemas.results.widths import AttentionWidths
from api_schemas.spec.job import JobSettings
from api_schemas.spec.pruning import Pruning
from checkpoints.planning.feasibility import check_feasible, included_blocks, included_neurons, max_share, smallest_cut
from checkpoints.sizes.shape import ModelShape

FAST = (8, 4)
"""Attention kernels and matrix products are slower at widths that are no multiple of these, the first above all
(docs/results/latency.md)."""
BLOCKS = 8
"""What every head has at least: with fewer to choose from, accuracy is worth more than time."""
STRUCTURES = 4
"""What every step removes at least."""
MOST = 0.8
"""Share of all that may go, beyond which so few ranks are left that each has to be chosen by itself."""

Settings = TypeVar("Settings", bound=JobSettings)


def criterion_of(head: Head) -> Criterion:
    """By what a model that answers so is scored where a spec leaves it open (docs/adr/0052)."""
    return Criterion.FISHER_ENERGY if head is Head.SEQUENCE_TO_SEQUENCE else Criterion.FISHER_GATE


def settled(settings: Settings, shape: ModelShape, widths: AttentionWidths, head: Head) -> Settings:
    """A request or spec that leaves nothing to the model.

    `criterion`: its own, else that of `criterion_of`. `align`: its own, else the first of FAST that the model and the target
    allow, or 1.
    """
    pruning = settings.pruning
    if pruning.criterion is None:
        pruning = pruning.model_copy(update={"criterion": criterion_of(head)})
    if pruning.align is None:
        tried = [pruning.model_copy(update={"align": align}) for align in (*FAST, 1)]
        pruning = next((each for each in tried[:-1] if _allows(each, shape, widths)), tried[-1])
    return settings.model_copy(update={"pruning": pruning})


def _allows(pruning: Pruning, shape: ModelShape, widths: AttentionWidths) -> bool:
    try:
        check_feasible(shape, widths, pruning)
    except SecateurError:
        return False
    narrow: list[int] = []
    if Part.ATTENTION in pruning.cuts and pruning.granularity is not Granularity.ENTIRE_HEAD:
        layers = [widths.layers[number] for number in included_blocks(shape, pruning)]
        narrow += [width for layer in layers for width in (*layer.qk, *layer.vo)]
    if Part.FEED_FORWARD in pruning.cuts:
        narrow += [widths.feed_forward[number] for number in included_neurons(shape, pruning)]
    least = BLOCKS * pruning.multiple
    if min(narrow, default=least) < least:
        return False
    for kind, share in pruning.target.goals or ((pruning.target.kind, None),):
        counted = TargetKind.FLOPS if kind is TargetKind.LATENCY else kind
        # With a bound on the drop the removed share is not known: assume the largest for which multiples are used.
        share = MOST * max_share(shape, widths, pruning, counted) if share is None else share
        if share > MOST * max_share(shape, widths, pruning, counted):
            return False
        if share / pruning.steps < STRUCTURES * smallest_cut(shape, widths, pruning, counted):
            return False
    return True
