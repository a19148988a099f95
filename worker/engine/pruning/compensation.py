"""Compensation: makes up for a cut at once, without training.

- `bias`: adds the mean output of the removed channels to b_o.
- `least_squares`: fits W_o and b_o again on calibration samples, by ridge regression, so that after each attention block the
  residual stream is as close as possible to that of the model before the cut. It goes layer by layer, each on the inputs from the
  layers already cut and refitted, so a layer also compensates for those before it (mask tuning of Kwon et al.,
  arXiv 2204.09656, §4.3, there by layer on the original's inputs and with one factor per head).
- `least_squares_feed_forward`: also fits the second projection of every feed-forward block, in its turn. Nothing was cut from it,
  but its inputs show some of what attention no longer provides. If its neurons are to be selected by what remains after least
  squares, this is done here, from the same normal equations.

Shapes: B batch, T tokens, D model width, C channels of the cut layer, all heads.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from checkpoints.families import Layout
from worker.engine.checkpoint.load import LoadedModel
from worker.engine.data.split import Inputs
from worker.engine.models.attention import attention_blocks, linear_at
from worker.engine.models.feed_forward import Neurons, all_neurons, feed_forward_blocks
from worker.engine.pruning.layer_calls import (
    Calls,
    CallStore,
    LayerCall,
    StopForward,
    call_of_first_layer,
    hidden_states,
    hooked,
)
from worker.engine.pruning.regression import RidgeRegression
from worker.engine.pruning.selection import KeptHeads
from worker.engine.runtime.precision import moment_dtype
from worker.engine.scoring.observations import Observations

RIDGE = 1e-3
"""Ridge towards the present weights of a map that lost input channels, relative to the mean square of its inputs."""

UNPRUNED_RIDGE = 1e-1
"""The same for a map from which nothing was cut: it should move less."""


def fold_means(before: LoadedModel, cut: LoadedModel, keep: KeptHeads, observed: Observations) -> None:
    """Add W_o·E[x] of every removed VO channel to the cut model's b_o, in place. A projection without bias is not changed.

    `observed`: contexts of `before`. Raises ValueError if they were not observed.
    """
    old = attention_blocks(before.model, before.model_spec, before.widths)
    new = attention_blocks(cut.model, cut.model_spec, cut.widths)
    for before_block, block, layer, kept in zip(old, new, observed.layers, keep, strict=True):
        bias = block.projections["o"].bias
        if bias is None or not before_block.widths.heads:
            continue
        if layer.context is None:
            raise ValueError("bias compensation needs the context observed")
        gone_C = torch.ones(len(layer.context.mean), dtype=torch.bool)
        for head in kept:
            gone_C[before_block.places("o", head.head, head.vo)] = False
        weight_DC = before_block.projections["o"].weight.detach().double().cpu()
        lost_D = weight_DC[:, gone_C] @ layer.context.mean[gone_C]
        with torch.no_grad():
            bias.add_(lost_D.to(bias))


def fold_neurons(before: LoadedModel, cut: LoadedModel, neurons: Neurons, observed: Observations) -> None:
    """Add W₂·E[a] of every removed neuron to the second map's bias, in place. A map without bias is not changed.

    `observed`: activations of `before`. Raises ValueError if they were not observed.
    """
    old = feed_forward_blocks(before.model, before.model_spec, before.widths)
    new = feed_forward_blocks(cut.model, cut.model_spec, cut.widths)
    for before_block, block, seen, kept in zip(old, new, observed.neurons, neurons, strict=True):
        bias = block.second.bias
        if bias is None or len(kept) == before_block.first.out_features:
            continue
        gone_N = torch.ones(before_block.first.out_features, dtype=torch.bool)
        gone_N[list(kept)] = False
        lost_D = before_block.second.weight.detach().double().cpu()[:, gone_N] @ seen.mean[gone_N]
        with torch.no_grad():
            bias.add_(lost_D.to(bias))


class Ridges(NamedTuple):
    """Ridges of W_o and of the second feed-forward projections, relative to the mean square of their inputs; None: not fitted."""

    attention: float | None = RIDGE
    feed_forward: float | None = None


@dataclass(frozen=True)
class _OutputProjection:
    """A linear map that writes to one model's residual stream: W_o of an attention, or the second of a feed-forward block."""

    path: str
    linear: nn.Linear
    stream: nn.Module | None
    """The module whose input the map's output is added to."""
    layer: nn.Module
    ridge: float
    product: torch.dtype = torch.float64

    def _tap_stream(self, found: list[Tensor]) -> tuple[Any, ...]:
        if self.stream is None:
            return ()

        def seen(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            found.append(hidden_states(args, kwargs))

        return (self.stream.register_forward_pre_hook(seen, with_kwargs=True),)

    def sum_after(self, call: LayerCall) -> Tensor:
        """The residual stream with this map's output added, (B, T, D); without a stream, the output alone."""
        stream: list[Tensor] = []
        put_out: list[Tensor] = []

        def stop(_module: nn.Module, _args: object, output: Tensor) -> None:
            put_out.append(output)
            raise StopForward

        with hooked(*self._tap_stream(stream), self.linear.register_forward_hook(stop)):
            call.run_until(self.layer)
        return put_out[0] + stream[-1] if stream else put_out[0]

    def input_and_stream(self, call: LayerCall) -> tuple[Tensor, Tensor | None]:
        """The map's input (B, T, C), and the residual stream that its output will be added to (B, T, D)."""
        stream: list[Tensor] = []
        taken: list[Tensor] = []

        def stop(_module: nn.Module, args: tuple[Any, ...]) -> None:
            taken.append(args[0])
            raise StopForward

        with hooked(*self._tap_stream(stream), self.linear.register_forward_pre_hook(stop)):
            call.run_until(self.layer)
        return taken[0], stream[-1] if stream else None


def refit_outputs(
    before: LoadedModel,
    cut: LoadedModel,
    batches: Iterable[Inputs],
    ridges: Ridges,
    *,
    counts: Sequence[int] | None = None,
    fixed: Collection[str] = (),
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Neurons:
    """Fit the maps that write to the residual stream of `cut` again, in place, so that the stream follows that of `before`.

    Every batch counts, in memory that does not depend on their number. Each passes once through every layer of both models as
    long as the inputs of the next layer fit in memory or on disk; a batch whose inputs do not fit starts from the beginning
    again.

        Args:
            before: the model that was cut, of any basis: only its hidden states are used.
            batches: calibration inputs on the models' device, the same in every iteration.
            ridges: what is fitted, and with which ridge.
            counts: how many neurons to keep in each feed-forward block of `cut`. They are selected by what remains after least
                squares (regression.py); the columns of the others become zero. Needs a ridge for feed-forward blocks.
            fixed: paths of maps that are not changed.
            progress: called with the number of finished layers and of all layers.

    Returns the kept neurons: with `counts` those, else all.

    Raises ValueError if `batches` can be iterated only once, or `counts` come without a ridge.
    """
    if iter(batches) is batches:
        raise ValueError("batches are gone through several times")
    if counts is not None and ridges.feed_forward is None:
        raise ValueError("neurons are chosen by a refit, which needs a ridge")
    kept = list(all_neurons(cut.widths))
    layout = cut.model_spec.layout_of(cut.model)
    total, done = sum(map(len, layout.stacks)), 0
    numbers = {site.second: number for number, site in enumerate(layout.feed_forward)}

    def refit(projection: _OutputProjection, regression: RidgeRegression) -> None:
        number = None if counts is None else numbers.get(projection.path)
        if number is None or counts is None or counts[number] == len(kept[number]):
            regression.fit(projection.ridge)
            return
        stay = regression.most_needed(projection.ridge, counts[number])
        regression.fit(projection.ridge, stay)
        kept[number] = tuple(stay.tolist())

    with torch.no_grad():
        for number, stack in enumerate(layout.stacks):
            types = layout.types[number] if layout.types else ("",) * len(stack)
            places = [
                place for place, path in enumerate(stack) if _fitted(layout, path, ridges, fixed, cut.model.device)
            ]
            # After the last fitted layer no more outputs are needed.
            needed = stack[: places[-1] + 1] if places else ()
            done += len(stack) - len(needed)
            pairs = _Pairs(before.model, cut.model, stack, types, layout.carries, batches)
            with ExitStack() as stores:
                held = stores.enter_context(CallStore())
                for pair in pairs.at(0, None) if needed else ():
                    held.append(pair)
                for place, path in enumerate(needed):
                    for fitted in _fitted(layout, path, ridges, fixed, cut.model.device):
                        original, own = (_output_projection(each.model, path, fitted) for each in (before, cut))
                        regression = RidgeRegression(own.linear, own.product, cut.model.device)
                        for wanted, call in pairs.at(place, held):
                            x_BTC, stream_BTD = own.input_and_stream(call)
                            target_BTD = original.sum_after(wanted)
                            regression.add(x_BTC, target_BTD if stream_BTD is None else target_BTD - stream_BTD)
                        refit(own, regression)
                    if place < len(needed) - 1:
                        following = stores.enter_context(CallStore())
                        for pair in held:
                            following.append(pairs.run(place, pair))
                        following.full |= held.full
                        held.close()
                        held = following
                    done += 1
                    progress(done, total)
    return tuple(kept)


@dataclass(frozen=True)
class _Pairs:
    """Calls of the layers of one stack in two models, batch by batch."""

    before: nn.Module
    cut: nn.Module
    stack: Sequence[str]
    types: Sequence[str]
    """The types of its layers."""
    carries: str | None
    batches: Iterable[Inputs]

    def run(self, place: int, pair: Calls) -> Calls:
        """The calls of the next layer."""
        layers = [model.get_submodule(self.stack[place]) for model in (self.before, self.cut)]
        following = self.types[place + 1]
        return tuple(call.run(layer, self.carries, following) for call, layer in zip(pair, layers, strict=True))

    def at(self, place: int, held: CallStore | None) -> Iterator[Calls]:
        """The calls of the layer at `place`: the stored ones and, recomputed, those of all later batches."""
        if held is not None:
            yield from held
            if not held.full:
                return
        for inputs in islice(self.batches, 0 if held is None else len(held), None):
            pair: Calls = tuple(
                call_of_first_layer(model, self._firsts(model), inputs) for model in (self.before, self.cut)
            )
            for layer in range(place):
                pair = self.run(layer, pair)
            yield pair

    def _firsts(self, model: nn.Module) -> dict[str, nn.Module]:
        """The first layer of each type."""
        found: dict[str, nn.Module] = {}
        for path, kind in zip(self.stack, self.types, strict=True):
            found.setdefault(kind, model.get_submodule(path))
        return found


class _Fitted(NamedTuple):
    """A map to be fitted: its path, the path of the stream it writes to, its ridge, and the precision of its products."""

    path: str
    stream: str | None
    ridge: float
    product: torch.dtype


def _fitted(layout: Layout, layer: str, ridges: Ridges, fixed: Collection[str], device: torch.device) -> list[_Fitted]:
    """The maps of a layer that write to the residual stream and are to be fitted, in order."""
    found: list[_Fitted] = []
    if ridges.attention is not None:
        product = moment_dtype(device)
        found += [_Fitted(site.o, site.stream, ridges.attention, product) for site in layout.attention]
    if ridges.feed_forward is not None:
        # Its rounding error is far below the ridge here, and float64 would take half of the total time.
        single = torch.float32
        before, behind = (
            [
                _Fitted(site.second, site.stream, ridges.feed_forward, single)
                for site in layout.feed_forward
                if site.before_attention is first
            ]
            for first in (True, False)
        )
        found = [*before, *found, *behind]
    return [each for each in found if each.path.startswith(f"{layer}.") and each.path not in fixed]


def _output_projection(model: nn.Module, layer: str, fitted: _Fitted) -> _OutputProjection:
    stream = None if fitted.stream is None else model.get_submodule(fitted.stream)
    linear, module = linear_at(model, fitted.path), model.get_submodule(layer)
    return _OutputProjection(fitted.path, linear, stream, module, fitted.ridge, fitted.product)
