"""Selection: scores and a target in, the channels that stay out.

A target is met to the nearest structure: structures are taken in rising order of score for as long as one more brings
the removed parameters closer to the target (docs/adr/ says why nearest). With a local scope every layer meets the
target on its own.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from api_schemas import accounting
from api_schemas.accounting import ModelShape
from api_schemas.enums import Balance, Criterion, Granularity, Layout, Scope
from api_schemas.spec import Pruning
from api_schemas.widths import AttentionWidths
from worker.engine.scoring.channels import LayerScores
from worker.engine.scoring.criteria import finish
from worker.engine.structures import Structure, structures


@dataclass(frozen=True)
class HeadKeep:
    """One head that stays: its number and its channels, all as the model before the cut counts them."""

    head: int
    qk: tuple[int, ...]
    vo: tuple[int, ...]


Keep = tuple[tuple[HeadKeep, ...], ...]
"""By layer, the heads that stay."""


def keep_all(widths: AttentionWidths) -> Keep:
    """Nothing is cut."""
    return tuple(
        tuple(HeadKeep(h, tuple(range(layer.qk[h])), tuple(range(layer.vo[h]))) for h in range(layer.heads))
        for layer in widths.layers
    )


def widths_of(keep: Keep, head_dim: int) -> AttentionWidths:
    """The widths of the model that `keep` leaves."""
    return AttentionWidths.of(head_dim, (([len(h.qk) for h in layer], [len(h.vo) for h in layer]) for layer in keep))


def compose(first: Keep, second: Keep) -> Keep:
    """`second`, which counts in the model that `first` left, in the numbers of the model before `first`."""
    layers = []
    for before, after in zip(first, second, strict=True):
        heads = []
        for cut in after:
            old = before[cut.head]
            heads.append(HeadKeep(old.head, tuple(old.qk[c] for c in cut.qk), tuple(old.vo[c] for c in cut.vo)))
        layers.append(tuple(heads))
    return tuple(layers)


def _nearest(candidates: Sequence[Structure], parameters: float) -> list[Structure]:
    """The shortest prefix of the ranking whose parameters are nearest to `parameters`."""
    ranked = sorted(candidates, key=lambda s: (s.score, s.layer, s.side, s.rank))
    taken, removed = 0, 0
    for structure in ranked:
        if abs(removed + structure.parameters - parameters) >= abs(removed - parameters):
            break
        removed += structure.parameters
        taken += 1
    return ranked[:taken]


def _equal_counts(candidates: Iterable[Structure], parameters: float) -> list[Structure]:
    """For a stock layout: the same number of structures from every layer and side, nearest to `parameters` in all."""
    groups: dict[tuple[int, str], list[Structure]] = defaultdict(list)
    for structure in candidates:
        groups[structure.layer, structure.side].append(structure)
    shortest = min((len(group) for group in groups.values()), default=0)
    each = [sum(group[rank].parameters for group in groups.values()) for rank in range(shortest)]
    count, removed = 0, 0
    while count < shortest and abs(removed + each[count] - parameters) < abs(removed - parameters):
        removed += each[count]
        count += 1
    return [structure for group in groups.values() for structure in group[:count]]


def _grouped(
    candidates: Sequence[Structure], widths: AttentionWidths, shape: ModelShape, pruning: Pruning, target: float
) -> list[tuple[list[Structure], float]]:
    """The rankings that scope and balance ask for, each with the parameters it has to remove."""
    layers = len(widths.layers)
    of_layer = shape.attention_parameters / layers
    by_side = pruning.balance is Balance.EQUAL and pruning.granularity is not Granularity.ENTIRE_HEAD
    groups: dict[tuple[int, str], list[Structure]] = defaultdict(list)
    for structure in candidates:
        layer = structure.layer if pruning.scope is Scope.LOCAL else -1
        groups[layer, structure.side if by_side else ""].append(structure)
    ranked = []
    for (layer, side), members in groups.items():
        numbers = range(layers) if layer < 0 else (layer,)
        budget = target * of_layer * len(numbers) / (2 if side else 1)
        ranked.append((members, budget - _removed(numbers, side, widths, shape)))
    return ranked


def _removed(numbers: Iterable[int], side: str, widths: AttentionWidths, shape: ModelShape) -> float:
    """Parameters that earlier steps took from these layers, of one side or ("") of both."""
    of_layer = shape.attention_parameters / len(widths.layers)
    total = 0.0
    for number in numbers:
        layer = widths.layers[number]
        if not side:
            total += of_layer - accounting.layer_parameters(shape, layer)
            continue
        # A side's original width is that of the other side's pair: QK and VO start equally wide.
        cost, width = (
            (accounting.qk_channel_parameters(shape), layer.qk_total)
            if side == "qk"
            else (accounting.vo_channel_parameters(shape), layer.vo_total)
        )
        both = accounting.qk_channel_parameters(shape) + accounting.vo_channel_parameters(shape)
        original = (of_layer - shape.hidden_size * shape.output_bias) / both
        total += cost * (original - width)
    return total


def select(
    scores: Sequence[LayerScores],
    widths: AttentionWidths,
    shape: ModelShape,
    pruning: Pruning,
    *,
    criterion: Criterion,
    sparsity: float,
) -> Keep:
    """The channels that stay once `sparsity` of the ORIGINAL model's attention parameters is gone.

    `widths` are the model's now (earlier steps may have cut it); `shape.attention_parameters` counts the original's.
    """
    candidates = structures(
        widths,
        scores,
        shape,
        pruning.granularity,
        finish=finish(criterion),
        min_heads=pruning.min_heads,
        min_channels=pruning.min_channels,
    )
    if pruning.layout is Layout.STOCK:
        already = shape.attention_parameters - accounting.attention_parameters(shape, widths)
        chosen = _equal_counts(candidates, sparsity * shape.attention_parameters - already)
    else:
        rankings = _grouped(candidates, widths, shape, pruning, sparsity)
        chosen = [structure for members, budget in rankings for structure in _nearest(members, budget)]
    return without(widths, chosen)


def without(widths: AttentionWidths, chosen: Iterable[Structure]) -> Keep:
    """What stays when the chosen structures leave."""
    gone: dict[tuple[int, str], set[tuple[int, int]]] = defaultdict(set)
    for structure in chosen:
        gone[structure.layer, structure.side].update(structure.members)
    layers = []
    for number, layer in enumerate(widths.layers):
        heads = []
        for h in range(layer.heads):
            if (h, -1) in gone[number, "head"]:
                continue
            qk = tuple(c for c in range(layer.qk[h]) if (h, c) not in gone[number, "qk"])
            vo = tuple(c for c in range(layer.vo[h]) if (h, c) not in gone[number, "vo"])
            heads.append(HeadKeep(h, qk, vo))
        layers.append(tuple(heads))
    return tuple(layers)
