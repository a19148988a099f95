"""What re-implemented peers look at, and how they give out equal shares.

Everything is of the dense model on the race's calibration samples, in float64 sums of float32 products over all tokens. Shapes: R
rows (tokens), C channels that go into a linear map, K channels of a head.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from api_schemas.results.widths import AttentionWidths
from benchmarks.race.setup import Setup
from checkpoints.sizes import accounting
from worker.engine.checkpoint.load import LoadedModel
from worker.engine.models.attention import AttentionBlock, attention_blocks
from worker.engine.models.feed_forward import FeedForwardBlock, feed_forward_blocks
from worker.engine.models.model_spec import rebuild

BATCH = 32


def attentions(loaded: LoadedModel) -> tuple[AttentionBlock, ...]:
    return attention_blocks(loaded.model, loaded.model_spec, loaded.widths)


def feed_forwards(loaded: LoadedModel) -> tuple[FeedForwardBlock, ...]:
    return feed_forward_blocks(loaded.model, loaded.model_spec, loaded.widths)


@torch.no_grad()
def input_moments(setup: Setup, seed: int) -> Mapping[str, Tensor]:
    """By path of W_q, W_o and a feed-forward block's second map: E[x̃ x̃ᵀ] (C + 1, C + 1), x̃ what goes into it with a 1 behind."""

    def gather() -> Mapping[str, Tensor]:
        dense = setup.dense
        linears = {block.names[side]: block.projections[side] for block in attentions(dense) for side in "qo"}
        linears |= {block.names[1]: block.second for block in feed_forwards(dense)}
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
                dense.model(**inputs)
        finally:
            for handle in handles:
                handle.remove()
        return {name: total / total[-1, -1] for name, total in sums.items()}

    return setup.once(("input moments", seed), gather)


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


class Rewriter:
    """A copy of the dense model whose projections are replaced by others, of other widths."""

    def __init__(self, dense: LoadedModel) -> None:
        self._dense = dense
        self._state = dict(dense.model.state_dict())

    def put(self, name: str, weight: Tensor, bias: Tensor | None = None) -> None:
        """Weight (out, in) and, where there is one, bias of the linear map at a path."""
        self._state[f"{name}.weight"] = weight.to(torch.float32)
        if bias is not None:
            self._state[f"{name}.bias"] = bias.to(torch.float32)

    def built(self, widths: AttentionWidths) -> LoadedModel:
        dense = self._dense
        model = rebuild(dense.model, dense.model_spec, widths, self._state)
        return replace(dense, model=model, widths=widths)


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
