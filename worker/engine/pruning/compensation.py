"""Compensation: what was cut is made up for at once, without training.

- `bias`: the mean of what a removed channel put out goes into b_o.
- `least_squares`: W_o and b_o are fitted anew on calibration samples, by ridge regression, so that after each attention
  block the residual stream is as near as it can be to that of the model before the cut. Layer after layer, each on the
  inputs that the layers already cut and refitted give it, so that a layer also makes up for those before it (mask tuning of
  Kwon et al., arXiv 2204.09656, §4.3, there by layer on the original's inputs and with one factor a head).
- `least_squares_feed_forward`: so is the second projection of every feed-forward block, in its turn. It loses nothing itself,
  but sees in its inputs some of what attention no longer brings.

Shapes: B batch, T tokens, D model width, C channels of the cut layer, all heads.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from checkpoints.families import Layout
from worker.engine.checkpoint.load import LoadedModel
from worker.engine.data.split import Inputs
from worker.engine.models.attention import attention_blocks, linear_at
from worker.engine.models.feed_forward import Neurons, feed_forward_blocks
from worker.engine.pruning.selection import KeptHeads
from worker.engine.scoring.observations import Observations

RIDGE = 1e-3
"""Pull towards the present weights of a map whose input channels have gone, as a share of the mean square of what goes in."""

UNPRUNED_RIDGE = 1e-1
"""The same of a map from which nothing was cut: it moves only for good reasons."""


def fold_means(before: LoadedModel, cut: LoadedModel, keep: KeptHeads, observed: Observations) -> None:
    """Add W_o·E[x] of every removed VO channel to the cut model's b_o, in place. A projection without bias is left alone.

    `observed`: contexts of `before`. Raises ValueError where they were not observed.
    """
    old = attention_blocks(before.model, before.model_spec, before.widths)
    new = attention_blocks(cut.model, cut.model_spec, cut.widths)
    for before_block, block, layer, kept in zip(old, new, observed.layers, keep, strict=True):
        bias = block.projections["o"].bias
        if bias is None or not before_block.widths.heads:
            continue
        if layer.context is None:
            raise ValueError("bias compensation needs the context observed")
        gone_C = torch.ones(before_block.widths.vo_total, dtype=torch.bool)
        for head in kept:
            start = before_block.rows("v", head.head).start
            gone_C[[start + channel for channel in head.vo]] = False
        weight_DC = before_block.projections["o"].weight.detach().double().cpu()
        lost_D = weight_DC[:, gone_C] @ layer.context.mean[gone_C]
        with torch.no_grad():
            bias.add_(lost_D.to(bias))


def fold_neurons(before: LoadedModel, cut: LoadedModel, neurons: Neurons, observed: Observations) -> None:
    """Add W₂·E[a] of every removed neuron to the second map's bias, in place. One without bias is left alone.

    `observed`: activations of `before`. Raises ValueError where they were not observed.
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
    """Ridges of W_o and of the second feed-forward projections, shares of the mean square of what goes in; None: not fitted."""

    attention: float | None = RIDGE
    feed_forward: float | None = None


class _StopForward(Exception):
    """Ends a forward pass where nothing more of it is needed."""


@contextmanager
def _hooked(*handles: Any) -> Iterator[None]:
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _LayerCall(NamedTuple):
    """A layer about to be called: its hidden states (B, T, D) and the rest of its arguments."""

    hidden: Tensor
    rest: tuple[Any, ...]
    kwargs: dict[str, Any]

    def run(self, layer: nn.Module, carries: str | None = None) -> "_LayerCall":
        """The call of the layer after this one, where it follows directly."""
        output = layer(self.hidden, *self.rest, **self.kwargs)
        hidden = output[0] if isinstance(output, tuple) else output
        kwargs = self.kwargs if carries is None else {**self.kwargs, carries: output[1]}
        return _LayerCall(hidden, self.rest, kwargs)

    def run_until(self, layer: nn.Module) -> None:
        """Run it for its hooks, which may end it early."""
        with suppress(_StopForward):
            layer(self.hidden, *self.rest, **self.kwargs)


def _hidden_states(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """A module's input, however it was handed over."""
    found: Tensor = args[0] if args else kwargs["hidden_states"]
    return found


def _call_of_first_layer(model: nn.Module, first: nn.Module, inputs: Inputs) -> _LayerCall:
    """What a stack's first layer is called with."""
    found: list[_LayerCall] = []

    def stop(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        others = {name: value for name, value in kwargs.items() if args or name != "hidden_states"}
        # A decoder's cache would grow each time its layer is run again.
        others |= {name: None for name in ("past_key_values", "use_cache") if name in others}
        found.append(_LayerCall(_hidden_states(args, kwargs), args[1:], others))
        raise _StopForward

    with _hooked(first.register_forward_pre_hook(stop, with_kwargs=True)), suppress(_StopForward):
        model(**inputs)
    if not found:
        raise ValueError("the model never called its first layer")
    return found[0]


@dataclass(frozen=True)
class _OutputProjection:
    """A linear map that writes to one model's residual stream: W_o of an attention, or the second of a feed-forward block."""

    linear: nn.Linear
    stream: nn.Module | None
    """Its input is what the map's output is added to."""
    layer: nn.Module
    ridge: float
    product: torch.dtype = torch.float64

    def tap_stream(self, found: list[Tensor]) -> tuple[Any, ...]:
        """Handles of what puts the latest residual stream last in `found`."""
        if self.stream is None:
            return ()

        def seen(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            found.append(_hidden_states(args, kwargs))

        return (self.stream.register_forward_pre_hook(seen, with_kwargs=True),)

    def input_and_stream(self, call: _LayerCall) -> tuple[Tensor, Tensor | None]:
        """The map's input (B, T, C), and the residual stream that its output will be added to (B, T, D)."""
        stream: list[Tensor] = []
        taken: list[Tensor] = []

        def stop(_module: nn.Module, args: tuple[Any, ...]) -> None:
            taken.append(args[0])
            raise _StopForward

        with _hooked(*self.tap_stream(stream), self.linear.register_forward_pre_hook(stop)):
            call.run_until(self.layer)
        return taken[0], stream[-1] if stream else None


class _Followed(NamedTuple):
    """What the model before the cut shows of a layer."""

    sums: dict[str, Tensor]
    """By map, the residual stream (B, T, D) with its output added; where there is no stream, the output alone."""
    after: _LayerCall
    """Of the next layer."""


def _follow(
    outputs: Mapping[str, _OutputProjection], call: _LayerCall, layer: nn.Module, carries: str | None
) -> _Followed:
    """Run a layer once, and look at all its `outputs`."""
    sums: dict[str, Tensor] = {}
    handles: list[Any] = []
    for path, output in outputs.items():
        stream: list[Tensor] = []

        def seen(
            _module: nn.Module, _args: object, put_out: Tensor, path: str = path, stream: list[Tensor] = stream
        ) -> None:
            sums[path] = put_out + stream[-1] if stream else put_out

        handles += [*output.tap_stream(stream), output.linear.register_forward_hook(seen)]
    with _hooked(*handles):
        return _Followed(sums, call.run(layer, carries))


class _RidgeRegression:
    """Normal equations of y ≈ W x + b, summed in float64."""

    def __init__(self, o: nn.Linear, product: torch.dtype = torch.float64) -> None:
        """`product`: the precision in which one batch's products are taken."""
        self._o, self._product = o, product
        size = o.in_features + (o.bias is not None)
        device = o.weight.device
        self._xx = torch.zeros(size, size, dtype=torch.float64, device=device)
        self._xy = torch.zeros(size, o.out_features, dtype=torch.float64, device=device)

    def add(self, x_BTC: Tensor, y_BTD: Tensor) -> None:
        x_NC, y_ND = (states.flatten(0, -2).to(self._product) for states in (x_BTC, y_BTD))
        if self._o.bias is not None:
            x_NC = torch.cat([x_NC, x_NC.new_ones(len(x_NC), 1)], 1)
        self._xx += x_NC.mT @ x_NC
        self._xy += x_NC.mT @ y_ND

    def fit(self, ridge: float) -> None:
        """Write the solution of min Σ‖y − W x − b‖² + λ‖W − W_now‖² into the projection."""
        weight, bias = self._o.weight, self._o.bias
        channels = self._o.in_features
        now = weight.detach().double().mT
        if bias is not None:
            now = torch.cat([now, bias.detach().double()[None]])
        penalty = torch.zeros(len(now), dtype=torch.float64, device=now.device)
        if channels:
            # The floor keeps a layer of which nothing is ever active solvable.
            penalty[:channels] = ridge * self._xx.diagonal()[:channels].mean() + torch.finfo(torch.float64).tiny
        solved = torch.linalg.solve(self._xx + torch.diag(penalty), self._xy + penalty[:, None] * now)
        if not torch.isfinite(solved).all():
            return
        with torch.no_grad():
            weight.copy_(solved[:channels].mT)
            if bias is not None:
                bias.copy_(solved[channels])


def refit_outputs(
    before: LoadedModel,
    cut: LoadedModel,
    batches: Iterable[Inputs],
    ridges: Ridges,
    *,
    fixed: Collection[str] = (),
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> None:
    """Fit what writes to the residual stream of `cut` anew, in place, so that the stream follows that of `before`.

    Args:
        before: the model that was cut, of any basis: only its hidden states are used.
        batches: calibration inputs on the models' device. The hidden states of all of them are held in memory, at four
            places of a layer.
        ridges: what is fitted, and how freely it moves.
        fixed: paths of maps that stay as they are.
        progress: called with layers done and in all.
    """
    layout = cut.model_spec.layout_of(cut.model)
    total, done = sum(map(len, layout.stacks)), 0
    with torch.no_grad():
        taken = list(batches)
        for stack in layout.stacks:
            places = [place for place, path in enumerate(stack) if _fitted(layout, path, ridges, fixed)]
            # Behind the last layer that has something to fit nothing has to be known.
            needed = stack[: places[-1] + 1] if places else ()
            calls = [
                [_call_of_first_layer(model, model.get_submodule(stack[0]), inputs) for inputs in taken if needed]
                for model in (before.model, cut.model)
            ]
            for place, path in enumerate(needed):
                calls = _refit_layer(
                    before.model, cut.model, layout, path, ridges, fixed, calls, last=place == len(needed) - 1
                )
                progress(done + place + 1, total)
            done += len(stack)
            progress(done, total)


def tokens_in(loaded: LoadedModel, inputs: Inputs) -> int:
    """How many tokens enter the first layer, of all samples of a batch together."""
    first = loaded.model_spec.layout_of(loaded.model).stacks[0][0]
    with torch.no_grad():
        return _call_of_first_layer(loaded.model, loaded.model.get_submodule(first), inputs).hidden[..., 0].numel()


class _Fitted(NamedTuple):
    """A map to be fitted: its path, the path of the stream it writes to, its ridge, and the precision of its products."""

    path: str
    stream: str | None
    ridge: float
    product: torch.dtype


def _fitted(layout: Layout, layer: str, ridges: Ridges, fixed: Collection[str]) -> list[_Fitted]:
    """What writes to the residual stream in a layer and is to be fitted, in the order in which it does."""
    found: list[_Fitted] = []
    if ridges.attention is not None:
        found += [_Fitted(site.o, site.stream, ridges.attention, torch.float64) for site in layout.attention]
    if ridges.feed_forward is not None:
        # Its rounding is far below the ridge here, and float64 would take half the time of the whole.
        found += [_Fitted(site.second, site.stream, ridges.feed_forward, torch.float32) for site in layout.feed_forward]
    return [each for each in found if each.path.startswith(f"{layer}.") and each.path not in fixed]


def _output_projection(model: nn.Module, layer: str, fitted: _Fitted) -> _OutputProjection:
    stream = None if fitted.stream is None else model.get_submodule(fitted.stream)
    return _OutputProjection(
        linear_at(model, fitted.path), stream, model.get_submodule(layer), fitted.ridge, fitted.product
    )


def _refit_layer(
    before: nn.Module,
    cut: nn.Module,
    layout: Layout,
    layer: str,
    ridges: Ridges,
    fixed: Collection[str],
    calls: list[list[_LayerCall]],
    *,
    last: bool,
) -> list[list[_LayerCall]]:
    """Fit the maps of one layer. `calls`: of the layer, by batch, of both models; of the next layer, unless it is the `last`.

    The first list is emptied: what is behind is freed batch by batch, as what comes after it is kept.
    """
    chosen = _fitted(layout, layer, ridges, fixed)
    originals = {fitted.path: _output_projection(before, layer, fitted) for fitted in chosen}
    wanted, given = calls
    module = before.get_submodule(layer)
    wanted.reverse()
    followed = []
    while wanted:
        followed.append(_follow(originals, wanted.pop(), module, layout.carries))
    for fitted in chosen:
        own = _output_projection(cut, layer, fitted)
        regression = _RidgeRegression(own.linear, own.product)
        for of_original, call in zip(followed, given, strict=True):
            x_BTC, stream_BTD = own.input_and_stream(call)
            target_BTD = of_original.sums[fitted.path]
            regression.add(x_BTC, target_BTD if stream_BTD is None else target_BTD - stream_BTD)
        regression.fit(own.ridge)
    if last:
        return [[], []]
    module = cut.get_submodule(layer)
    return [[each.after for each in followed], [call.run(module, layout.carries) for call in given]]
