"""What re-implemented peers look at, and how they give out equal shares.

Everything is of the dense model on the race's calibration samples, in float64 sums of float32 products over all tokens. Shapes: R
rows (tokens), C channels that go into a linear map, K channels of a head.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from api_schemas.results.widths import AttentionWidths, LayerWidths
from benchmarks.race.setup import Setup, block_parameters
from checkpoints.sizes import accounting
from worker.engine.checkpoint.load import LoadedModel
from worker.engine.models.attention import AttentionBlock, attention_blocks, linear_at
from worker.engine.models.feed_forward import FeedForwardBlock, feed_forward_blocks
from worker.engine.models.model_spec import build, move_model

BATCH = 32


def attentions(loaded: LoadedModel) -> tuple[AttentionBlock, ...]:
    return attention_blocks(loaded.model, loaded.model_spec, loaded.widths)


def feed_forwards(loaded: LoadedModel) -> tuple[FeedForwardBlock, ...]:
    return feed_forward_blocks(loaded.model, loaded.model_spec, loaded.widths)


def input_moments(setup: Setup, seed: int) -> Mapping[str, Tensor]:
    """By path of W_q, W_o and a feed-forward block's second map of the dense model: `moments_of`, once for all who ask."""
    dense = setup.dense
    names = [block.names[side] for block in attentions(dense) for side in "qo"]
    names += [block.names[1] for block in feed_forwards(dense)]
    return setup.once(("input moments", seed), lambda: moments_of(setup, dense, seed, names))


@torch.no_grad()
def moments_of(setup: Setup, loaded: LoadedModel, seed: int, names: Iterable[str]) -> Mapping[str, Tensor]:
    """By path of a linear map: E[x̃ x̃ᵀ] (C + 1, C + 1), x̃ what goes into it with a 1 behind."""
    linears = {name: linear_at(loaded.model, name) for name in names}
    sums = {name: torch.zeros(linear.in_features + 1, linear.in_features + 1).double()
            for name, linear in linears.items()}  # fmt: skip

    def see(name: str, x_BTC: Tensor) -> None:
        x_RC = x_BTC.flatten(0, -2)
        x_RC = torch.cat([x_RC, x_RC.new_ones(len(x_RC), 1)], 1)
        sums[name] += (x_RC.mT @ x_RC).double()

    handles = [
        linear.register_forward_pre_hook(lambda _module, args, name=name: see(name, args[0]))
        for name, linear in linears.items()
    ]
    try:
        for inputs, _ in setup.batches(setup.calibration(seed), BATCH):
            loaded.model(**inputs)
    finally:
        for handle in handles:
            handle.remove()
    return {name: total / total[-1, -1] for name, total in sums.items()}


@dataclass(frozen=True)
class Equal:
    """The same in every layer: channels of a head, QK and VO alike, and neurons of a block."""

    width: int
    neurons: int


def equal(setup: Setup, target: float) -> Equal:
    """Widths that remove `target`: the same share of attention and, where both are raced, of the feed-forward blocks.

    Heads have few channels, so the width nearest to the share is taken and neurons make up for the rest.
    """
    shape, dense = setup.described.shape, setup.dense.widths
    neurons = dense.feed_forward[0]
    if not setup.whole:
        width = min(
            range(1, dense.head_dim + 1), key=lambda w: abs(setup.share_gone(widths_of(dense, w, neurons)) - target)
        )
        return Equal(width, neurons)
    inside = accounting.attention_flops(shape, dense) + accounting.feed_forward_flops(shape, dense)
    left = 1.0 - min(1.0, target * accounting.total_flops(shape, dense) / inside)
    width = max(1, round(left * dense.head_dim))
    best = min(range(1, neurons + 1), key=lambda n: abs(setup.share_gone(widths_of(dense, width, n)) - target))
    return Equal(width, best)


def widths_of(dense: AttentionWidths, width: int, neurons: int) -> AttentionWidths:
    """All heads this wide, all blocks with so many neurons."""
    layers = (((width,) * layer.heads, (width,) * layer.heads) for layer in dense.layers)
    return AttentionWidths.of(dense.head_dim, layers, (neurons,) * len(dense.feed_forward))


@dataclass(frozen=True)
class Structures:
    """Whole heads and neurons that stay, by layer, each in rising order."""

    heads: tuple[tuple[int, ...], ...]
    neurons: tuple[tuple[int, ...], ...]

    def widths(self, dense: AttentionWidths) -> AttentionWidths:
        """Of what is left of a model that was as wide as `dense`."""
        layers = tuple(
            LayerWidths(
                qk=tuple(layer.qk[h] for h in stay),
                vo=tuple(layer.vo[h] for h in stay),
                numbers=tuple(stay),
                rotary=tuple(layer.rotary[h] for h in stay) if layer.rotary else (),
            )
            for layer, stay in zip(dense.layers, self.heads, strict=True)
        )
        return AttentionWidths(head_dim=dense.head_dim, layers=layers, feed_forward=tuple(map(len, self.neurons)))


@dataclass(frozen=True)
class Counts:
    """How many heads of a layer and neurons of a block stay."""

    heads: int
    neurons: int


def equal_counts(setup: Setup, target: float, layer: int = 0) -> Counts:
    """The numbers of a layer that remove `target` of its blocks' parameters: the same share of both, as far as heads are fine
    enough; neurons make up for the rest.
    """
    attention, block = setup.described.shape.attention[layer], setup.described.shape.feed_forward[layer]
    widths = setup.dense.widths.layers[layer]
    head = accounting.layer_parameters(attention, widths) / widths.heads
    neuron = accounting.neuron_parameters(block)
    heads = min(widths.heads, max(1, round((1 - target) * widths.heads)))
    left = (1 - target) * (head * widths.heads + neuron * block.neurons) - head * heads
    return Counts(heads, min(block.neurons, max(1, round(left / neuron))))


def ranked(
    setup: Setup, heads: Sequence[Tensor], neurons: Sequence[Tensor], target: float, *, by_parameter: bool = False
) -> Structures:
    """What stays once the least costly heads and neurons of all layers, one ranking, have gone until `target` of the blocks'
    parameters has. `heads`, `neurons`: what each costs, by layer; `by_parameter`: ranked by that for each of its parameters. One
    neuron of every block stays.
    """
    shape, dense = setup.described.shape, setup.dense.widths
    found: list[tuple[float, float, int, int, int]] = []
    for number, (costs, block, widths) in enumerate(zip(heads, shape.attention, dense.layers, strict=True)):
        size = accounting.layer_parameters(block, widths) / widths.heads
        found += [(float(cost), size, 0, number, head) for head, cost in enumerate(costs)]
    for number, (costs, pair) in enumerate(zip(neurons, shape.feed_forward, strict=True)):
        size = accounting.neuron_parameters(pair)
        spared = int(costs.argmax())
        found += [(float(cost), size, 1, number, n) for n, cost in enumerate(costs) if n != spared]
    gone: set[tuple[int, int, int]] = set()
    left = target * block_parameters(shape, shape.dense)
    for _, size, part, number, index in sorted(found, key=lambda each: each[0] / (each[1] if by_parameter else 1.0)):
        if size / 2 > left:
            break
        gone.add((part, number, index))
        left -= size

    def stay(part: int, costs: Sequence[Tensor]) -> tuple[tuple[int, ...], ...]:
        return tuple(
            tuple(index for index in range(len(each)) if (part, number, index) not in gone)
            for number, each in enumerate(costs)
        )

    return Structures(stay(0, heads), stay(1, neurons))


def largest(score: Tensor, count: int) -> tuple[int, ...]:
    """The numbers, rising, of the `count` largest; of equals the first."""
    return tuple(sorted(score.argsort(descending=True, stable=True)[:count].tolist()))


class Rewriter:
    """A copy of the dense model whose projections are replaced by others, of other widths."""

    def __init__(self, dense: LoadedModel, config: Mapping[str, Any] | None = None) -> None:
        """`config`: what the copy's configuration says otherwise."""
        self._dense, self._config = dense, dict(config or {})
        self._state = dict(dense.model.state_dict())

    def put_heads(self, block: AttentionBlock, stay: Sequence[int], output: Tensor | None = None) -> None:
        """q, k, v and o of these heads alone. `output`: the new W_o (D, C of those that stay); without it, what it was."""
        for side in "qkv":
            rows = rows_of(block, side, stay)
            linear = block.projections[side]
            self.put(block.names[side], weight_of(linear)[rows], None if linear.bias is None else bias_of(linear)[rows])
        whole = weight_of(block.projections["o"])
        self.put(block.names["o"], whole[:, rows_of(block, "o", stay)] if output is None else output)

    def put_neurons(self, pair: FeedForwardBlock, stay: Sequence[int], second: Tensor | None = None) -> None:
        """These neurons alone. `second`: the new second map (D, N of those that stay); without it, what it was."""
        kept = torch.tensor(stay, dtype=torch.long)
        for name, linear in zip((pair.names[0], *pair.names[2:]), pair.inner, strict=True):
            self.put(name, weight_of(linear)[kept], None if linear.bias is None else bias_of(linear)[kept])
        self.put(pair.names[1], weight_of(pair.second)[:, kept] if second is None else second)

    def put(self, name: str, weight: Tensor, bias: Tensor | None = None) -> None:
        """Weight (out, in) and, where there is one, bias of the linear map at a path."""
        self._state[f"{name}.weight"] = weight.to(torch.float32)
        if bias is not None:
            self.put_bias(name, bias)

    def put_bias(self, name: str, bias: Tensor) -> None:
        """Of a map that had none, where the copy's configuration says that it has."""
        self._state[f"{name}.bias"] = bias.to(torch.float32)

    def built(self, widths: AttentionWidths) -> LoadedModel:
        dense = self._dense
        config = {**dense.model.config.to_dict(), **self._config}
        model = build(dense.model_spec, config, widths, self._state, dense.model.all_tied_weights_keys)
        return replace(dense, model=move_model(model, dense.model.device), widths=widths)


def rows_of(block: AttentionBlock, side: str, heads: Sequence[int]) -> Tensor:
    """The channels of these heads among the rows of q, k, v or the columns of o, one head after another."""
    found = [row for h in heads for row in range(block.rows(side, h).start, block.rows(side, h).stop)]
    return torch.tensor(found, dtype=torch.long)


def bias_of(linear: nn.Linear) -> Tensor:
    """In float64; zeros where there is none."""
    bias: Tensor | None = linear.bias
    return torch.zeros(linear.out_features, dtype=torch.float64) if bias is None else bias.detach().double()


def weight_of(linear: nn.Linear) -> Tensor:
    """(out, in), float64."""
    return linear.weight.detach().double()


def complement(kept: Iterable[int], size: int) -> list[int]:
    """What of 0 … size - 1 is not kept."""
    stay = set(kept)
    return [index for index in range(size) if index not in stay]
