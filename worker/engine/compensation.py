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

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from worker.engine.attention import AttentionBlock, attention_blocks
from worker.engine.checkpoint.load import Loaded
from worker.engine.data.split import Inputs
from worker.engine.scoring.observations import Observations
from worker.engine.selection import Keep

RIDGE = 1e-3
"""Pull towards the present W_o, as a share of the mean square of the context."""

FEED_FORWARD_RIDGE = 1e-1
"""The same for the second feed-forward projection: nothing was cut there, so it moves only for good reasons."""

TOKENS = 65_536
"""Enough to fit some hundred numbers a row; beyond it, calibration samples are left out to bound memory."""


def fold_means(before: Loaded, cut: Loaded, keep: Keep, observed: Observations) -> None:
    """Add W_o·E[x] of every removed VO channel to the cut model's b_o, in place. A projection without bias is left alone.

    `observed`: contexts of `before`. Raises ValueError where they were not observed.
    """
    old = attention_blocks(before.model, before.family, before.widths)
    new = attention_blocks(cut.model, cut.family, cut.widths)
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


class _Reached(Exception):
    """Ends a forward pass where nothing more of it is needed."""


@contextmanager
def _hooked(*handles: Any) -> Iterator[None]:
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _layer_inputs(model: nn.Module, first: nn.Module, inputs: Inputs) -> tuple[Tensor, dict[str, Any]]:
    """What the first transformer layer is called with: hidden states (B, T, D) and keyword arguments."""
    found: list[tuple[Tensor, dict[str, Any]]] = []

    def stop(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        found.append((args[0], kwargs))
        raise _Reached

    with _hooked(first.register_forward_pre_hook(stop, with_kwargs=True)):
        try:
            model(**inputs)
        except _Reached:
            return found[0]
    raise ValueError("the model never called its first layer")


def _run(layer: nn.Module, hidden_BTD: Tensor, kwargs: dict[str, Any]) -> Tensor:
    output = layer(hidden_BTD, **kwargs)
    result: Tensor = output[0] if isinstance(output, tuple) else output
    return result


def _context(layer: nn.Module, o: nn.Linear, hidden_BTD: Tensor, kwargs: dict[str, Any]) -> Tensor:
    """The input of the layer's output projection (B, T, C); what comes after it is not computed."""
    if not o.in_features:  # a layer without heads never calls it
        return hidden_BTD.new_zeros(*hidden_BTD.shape[:2], 0)
    found: list[Tensor] = []

    def stop(_module: nn.Module, args: tuple[Any, ...]) -> None:
        found.append(args[0])
        raise _Reached

    with _hooked(o.register_forward_pre_hook(stop)), suppress(_Reached):
        _run(layer, hidden_BTD, kwargs)
    return found[0]


def _run_and_tap(layer: nn.Module, o: nn.Linear, hidden_BTD: Tensor, kwargs: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """The layer's output and its attention's, both (B, T, D)."""
    found: list[Tensor] = []
    with _hooked(o.register_forward_hook(lambda _m, _a, y: found.append(y))):
        output = _run(layer, hidden_BTD, kwargs)
    if not found:  # a layer without heads puts out its bias alone
        return output, torch.zeros_like(hidden_BTD) + (0.0 if o.bias is None else o.bias)
    return output, found[0]


class _Regression:
    """Normal equations of y ≈ W x + b, summed in float64."""

    def __init__(self, o: nn.Linear, product: torch.dtype = torch.float64) -> None:
        """`product`: the precision in which one batch's products are taken."""
        self._o, self._product = o, product
        size = o.in_features + (o.bias is not None)
        device = o.weight.device
        self._xx = torch.zeros(size, size, dtype=torch.float64, device=device)
        self._xy = torch.zeros(size, o.out_features, dtype=torch.float64, device=device)

    def add(self, x_BTC: Tensor, y_BTD: Tensor) -> None:
        x_NC, y_ND = (states.flatten(0, 1).to(self._product) for states in (x_BTC, y_BTD))
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
    before: Loaded,
    cut: Loaded,
    batches: Iterable[Inputs],
    *,
    feed_forward: bool = False,
    ridge: float = RIDGE,
    tokens: int = TOKENS,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> None:
    """Fit W_o and b_o of every layer of `cut` anew, in place, so that its residual stream follows that of `before`.

    Args:
        before: the model that was cut, of any basis: only its hidden states are used.
        batches: calibration inputs on the models' device; taken until `tokens` tokens are reached.
        feed_forward: fit the second projections of the feed-forward blocks too.
        progress: called with layers done and in all.
    """
    layers_before, blocks_before = _layers(before)
    layers, blocks = _layers(cut)
    with torch.no_grad():
        stream: list[_Batch] = []
        seen = 0
        for inputs in batches:
            hidden_BTD, kwargs = _layer_inputs(before.model, layers_before[0], inputs)
            stream.append(_Batch(hidden_BTD, hidden_BTD, kwargs))
            seen += hidden_BTD.shape[0] * hidden_BTD.shape[1]
            if seen >= tokens:
                break
        for number, layer in enumerate(layers):
            o_before, o = (side[number].projections["o"] for side in (blocks_before, blocks))
            regression, wanted = _Regression(o), []
            for batch in stream:
                next_BTD, attended_BTD = _run_and_tap(layers_before[number], o_before, batch.wanted, batch.kwargs)
                regression.add(
                    _context(layer, o, batch.hidden, batch.kwargs), attended_BTD + batch.wanted - batch.hidden
                )
                wanted.append(next_BTD)
            regression.fit(ridge)
            if feed_forward:
                path = cut.family.feed_forward_outputs.format(layer=number)
                _refit_feed_forward(layer, _linear(cut.model, path), stream, wanted)
            if number < len(layers) - 1:
                stream = [
                    _Batch(next_BTD, _run(layer, batch.hidden, batch.kwargs), batch.kwargs)
                    for next_BTD, batch in zip(wanted, stream, strict=True)
                ]
            progress(number + 1, len(layers))


def _refit_feed_forward(
    layer: nn.Module, second: nn.Linear, stream: Sequence["_Batch"], wanted: Sequence[Tensor]
) -> None:
    """Fit a layer's second feed-forward projection so that the layer's output comes near to `wanted`."""
    # Its rounding is far below the ridge here, and float64 would take half the time of the whole.
    regression = _Regression(second, product=torch.float32)
    for batch, next_BTD in zip(stream, wanted, strict=True):
        found: list[tuple[Tensor, Tensor]] = []
        with _hooked(second.register_forward_hook(lambda _m, args, y, found=found: found.append((args[0], y)))):
            output_BTD = _run(layer, batch.hidden, batch.kwargs)
        inner_BTC, added_BTD = found[0]
        regression.add(inner_BTC, next_BTD - (output_BTD - added_BTD))
    regression.fit(FEED_FORWARD_RIDGE)


class _Batch(NamedTuple):
    """Where a batch stands: the residual stream of the model before the cut, that of the cut one, and what goes with them."""

    wanted: Tensor
    hidden: Tensor
    kwargs: dict[str, Any]


def _linear(model: nn.Module, path: str) -> nn.Linear:
    module = model.get_submodule(path)
    if not isinstance(module, nn.Linear):
        raise ValueError(f"{path} is a {type(module).__name__}, not a Linear")
    return module


def _layers(loaded: Loaded) -> tuple[list[nn.Module], Sequence[AttentionBlock]]:
    """The transformer layers, and their attention."""
    count = len(loaded.widths.layers)
    layers = [loaded.model.get_submodule(loaded.family.layer_modules.format(layer=n)) for n in range(count)]
    return layers, attention_blocks(loaded.model, loaded.family, loaded.widths)
