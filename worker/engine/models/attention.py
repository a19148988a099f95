"""Finds attention in a model: the four projections of each, by the family's description."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
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
    queries: int = 1
    """Heads of queries for each head: q has so many times the rows of k, and o the columns of v."""
    norms: dict[str, nn.Module] = field(default_factory=dict)
    """Of q and k, norms over the channels of each head, where there are some: what goes into one is (B, T, H, K)."""

    def times(self, side: str) -> int:
        """How many times a projection has each channel: once, but where several queries share a head."""
        return self.queries if side in "qo" else 1

    def rows(self, side: str, head: int) -> slice:
        """The channels of one head, of all its queries, among the rows of q, k, v, or the columns of o."""
        widths = self.widths.qk if side in "qk" else self.widths.vo
        start = self.times(side) * sum(widths[:head])
        return slice(start, start + self.times(side) * widths[head])

    def rows_by_query(self, side: str, head: int) -> list[slice]:
        """The same of each query apart; of k and v, which all of them share, one."""
        whole, times = self.rows(side, head), self.times(side)
        width = (whole.stop - whole.start) // times
        return [slice(start, start + width) for start in range(whole.start, whole.stop, max(width, 1))]

    def query_widths(self, side: str) -> tuple[int, ...]:
        """The width of every head of a projection: of q and o, of every query of every head."""
        widths = self.widths.qk if side in "qk" else self.widths.vo
        return tuple(width for width in widths for _ in range(self.times(side)))

    def places(self, side: str, head: int, channels: Iterable[int]) -> list[int]:
        """Where some channels of a head are among the rows of q, k, v, or the columns of o: of each query in turn."""
        numbers = list(channels)
        return [rows.start + channel for rows in self.rows_by_query(side, head) for channel in numbers]

    def over_queries(self, side: str, numbers: Tensor) -> Tensor:
        """One number for every row of a projection (…, rows), or column of o -> a number a channel, summed over its queries."""
        if self.times(side) == 1 or not self.widths.heads:
            return numbers
        heads = range(self.widths.heads)
        own = [numbers[..., self.rows(side, head)].unflatten(-1, (self.times(side), -1)).sum(-2) for head in heads]
        return torch.cat(own, -1)


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
            expected *= site.shape.queries_per_head if side in "qo" else 1
            if channels != expected:
                raise ValueError(f"{names[side]} has {channels} channels, the widths say {expected}")
        norms = {side: model.get_submodule(path) for side, path in site.norms.items()}
        blocks.append(
            AttentionBlock(number, site.module, projections, names, layer, site.shape.queries_per_head, norms)
        )
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
