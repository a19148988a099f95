"""Finding attention in a model: the four projections of every layer, by the family's description."""

from dataclasses import dataclass

from torch import nn

from api_schemas.families import Family
from api_schemas.widths import AttentionWidths, LayerWidths

SIDES = ("q", "k", "v", "o")


@dataclass(frozen=True)
class AttentionBlock:
    """One layer's attention. `name` is its path in the module tree."""

    layer: int
    name: str
    projections: dict[str, nn.Linear]
    """By side: q, k, v (rows are channels), o (columns are channels). Of a layer without heads: without rows or columns."""
    names: dict[str, str]
    """Each projection's path in the module tree."""
    widths: LayerWidths

    def rows(self, side: str, head: int) -> slice:
        """The channels of one head among the rows of q, k, v, or the columns of o."""
        widths = self.widths.qk if side in "qk" else self.widths.vo
        start = sum(widths[:head])
        return slice(start, start + widths[head])


def attention_blocks(model: nn.Module, family: Family, widths: AttentionWidths) -> tuple[AttentionBlock, ...]:
    """The attention of every layer, first layer first.

    Raises ValueError where the projections are not as wide as `widths` says: then the two describe different models.
    """
    blocks = []
    for number, layer in enumerate(widths.layers):
        name = family.attention_modules.format(layer=number)
        names = {side: f"{name}.{family.projections[side]}" for side in SIDES}
        projections: dict[str, nn.Linear] = {}
        for side, path in names.items():
            module = model.get_submodule(path)
            if not isinstance(module, nn.Linear):
                raise ValueError(f"{path} is a {type(module).__name__}, not a Linear")
            channels = module.in_features if side == "o" else module.out_features
            expected = layer.qk_total if side in "qk" else layer.vo_total
            if channels != expected:
                raise ValueError(f"{path} has {channels} channels, the widths say {expected}")
            projections[side] = module
        blocks.append(AttentionBlock(number, name, projections, names, layer))
    return tuple(blocks)


def projections_by_name(blocks: tuple[AttentionBlock, ...]) -> dict[str, nn.Linear]:
    """The projections of all layers that have heads, by module path. Those of a layer without heads hold nothing but b_o."""
    return {block.names[side]: block.projections[side] for block in blocks if block.widths.heads for side in SIDES}
