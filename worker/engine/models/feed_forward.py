"""Finds feed-forward blocks in a model: the linear maps of each, by the family's description."""

from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel

from api_schemas.results.widths import AttentionWidths
from worker.engine.models.attention import linear_at
from worker.engine.models.model_spec import ModelSpec

Neurons = tuple[tuple[int, ...], ...]
"""By feed-forward block, the neurons that stay."""


@dataclass(frozen=True)
class FeedForwardBlock:
    """One feed-forward block. A neuron is a row of `first`, with its bias, and a column of `second`; of a gated block, whose
    activation's output is multiplied by that of `up`, a row of `up` too."""

    number: int
    first: nn.Linear
    second: nn.Linear
    names: tuple[str, ...]
    """Paths in the module tree of `maps`."""
    up: nn.Linear | None = None

    @property
    def inner(self) -> tuple[nn.Linear, ...]:
        """The maps whose rows are neurons."""
        return (self.first,) if self.up is None else (self.first, self.up)

    @property
    def maps(self) -> tuple[nn.Linear, ...]:
        """All of them: first, second and, of a gated block, up."""
        return (self.first, self.second) if self.up is None else (self.first, self.second, self.up)


def feed_forward_blocks(
    model: PreTrainedModel, model_spec: ModelSpec, widths: AttentionWidths
) -> tuple[FeedForwardBlock, ...]:
    """Every feed-forward block, in the order in which the model runs them.

    Raises ValueError where one is not as wide as `widths` says: then the two describe different models.
    """
    blocks = []
    for number, (site, neurons) in enumerate(
        zip(model_spec.layout_of(model).feed_forward, widths.feed_forward, strict=True)
    ):
        first, second = linear_at(model, site.first), linear_at(model, site.second)
        up = None if site.up is None else linear_at(model, site.up)
        names = (site.first, site.second) if site.up is None else (site.first, site.second, site.up)
        block = FeedForwardBlock(number, first, second, names, up)
        if {second.in_features, *(linear.out_features for linear in block.inner)} != {neurons}:
            raise ValueError(f"{site.first} has {first.out_features} neurons, the widths say {neurons}")
        blocks.append(block)
    return tuple(blocks)


def all_neurons(widths: AttentionWidths) -> Neurons:
    """Nothing is cut."""
    return tuple(tuple(range(neurons)) for neurons in widths.feed_forward)


def compose_neurons(first: Neurons, second: Neurons) -> Neurons:
    """`second`, which counts in the model that `first` left, in the numbers of the model before `first`."""
    return tuple(tuple(before[n] for n in after) for before, after in zip(first, second, strict=True))
