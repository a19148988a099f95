"""Finding attention in a model: the four projections of each, by the family's description."""

from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel

from api_schemas.results.widths import AttentionWidths, LayerWidths
from worker.engine.models.model_spec import ModelSpec

SIDES = ("q", "k", "v", "o")


@dataclass(frozen=True)
class AttentionBlock:
    """One attention. `number` counts the model's; `name` is its path in the module tree."""

    number: int
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


def attention_blocks(
    model: PreTrainedModel, model_spec: ModelSpec, widths: AttentionWidths
) -> tuple[AttentionBlock, ...]:
    """Every attention, in the order in which the model runs them.

    Raises ValueError where the projections are not as wide as `widths` says: then the two describe different models.
    """
    blocks = []
    for number, (site, layer) in enumerate(zip(model_spec.layout_of(model).attention, widths.layers, strict=True)):
        names = site.projections()
        projections = {side: linear_at(model, path) for side, path in names.items()}
        for side, linear in projections.items():
            channels = linear.in_features if side == "o" else linear.out_features
            expected = layer.qk_total if side in "qk" else layer.vo_total
            if channels != expected:
                raise ValueError(f"{names[side]} has {channels} channels, the widths say {expected}")
        blocks.append(AttentionBlock(number, site.module, projections, names, layer))
    return tuple(blocks)


def linear_at(model: nn.Module, path: str) -> nn.Linear:
    """The linear map at a path. ValueError where another module is there."""
    module = model.get_submodule(path)
    if not isinstance(module, nn.Linear):
        raise ValueError(f"{path} is a {type(module).__name__}, not a Linear")
    return module


def projections_by_name(blocks: tuple[AttentionBlock, ...]) -> dict[str, nn.Linear]:
    """The projections of all layers that have heads, by module path. Those of a layer without heads hold nothing but b_o."""
    return {block.names[side]: block.projections[side] for block in blocks if block.widths.heads for side in SIDES}
