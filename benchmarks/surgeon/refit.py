"""Least squares of many cuts of one model, as compensation.refit_outputs has them; what the original gives is kept between.

The cuts stay as they are in memory: columns that are gone are zero, which answers alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from benchmarks.surgeon import value_channels
from worker.engine.checkpoint.load import LoadedModel
from worker.engine.data.split import FeatureSplit
from worker.engine.models.attention import attention_blocks
from worker.engine.models.feed_forward import all_neurons
from worker.engine.pruning.calibration import Batches
from worker.engine.pruning.compensation import Ridges, _fitted, _output_projection
from worker.engine.pruning.cutting import Cutting, ScoredModel
from worker.engine.pruning.layer_calls import LayerCall, call_of_first_layer
from worker.engine.pruning.regression import RidgeRegression, _least_missed, _Solved
from worker.engine.pruning.selection import KeptHeads, Selection

Values = Literal["principal", "any", "even", "turned"]
BATCH = 8


@dataclass(frozen=True)
class Order:
    """Of a feed-forward block: the order in which its neurons go, and what all that have gone cost by then."""

    neurons: Tensor
    """Numbers, those that go first in front; those that never go at the end."""
    cost: Tensor
    """By how many STEPs of neurons have gone: the share of the residual stream behind the block that is lost."""

    def stay(self, count: int) -> tuple[int, ...]:
        """The neurons that stay when `count` do."""
        return tuple(sorted(self.neurons[len(self.neurons) - count :].tolist()))


STEP = 32


def order(solved: _Solved, square: float) -> Order:
    """By brain_surgeon, down to STEP neurons; within a STEP by their costs at its beginning. `square`: of the stream, in all."""
    weight_CD, inverse_CC = solved
    numbers, gone_first, costs = torch.arange(len(weight_CD)), [], [0.0]
    while len(numbers) > STEP:
        stay = _least_missed(_Solved(weight_CD, inverse_CC), STEP)
        leaves_C = torch.ones(len(numbers), dtype=torch.bool)
        leaves_C[stay] = False
        gone = leaves_C.nonzero().flatten()
        single = weight_CD[gone].square().sum(1) / inverse_CC.diagonal()[gone]
        gone_first.append(numbers[gone][single.argsort()])
        factor = torch.linalg.cholesky(inverse_CC[gone][:, gone])
        block_GD = torch.cholesky_solve(weight_CD[gone], factor)
        costs.append(costs[-1] + float((weight_CD[gone] * block_GD).sum()) / square)
        across = inverse_CC[stay][:, gone]
        weight_CD = weight_CD[stay] - across @ block_GD
        inverse_CC = inverse_CC[stay][:, stay] - across @ torch.cholesky_solve(across.mT, factor)
        numbers = numbers[stay]
    return Order(torch.cat([*gone_first, numbers]), torch.tensor(costs))


class Refitter:
    """Cuts of one scored model, refitted on `rows` of the calibration split."""

    def __init__(self, cutting: Cutting, scored: ScoredModel, rows: Tensor, ridges: Ridges) -> None:
        self.cutting, self.scored, self.samples = cutting, scored, len(rows)
        before = scored.loaded
        split: FeatureSplit = cutting._split
        self.inputs = [inputs for inputs, _ in Batches(split, cutting.device, BATCH, rows)]
        layout = before.model_spec.layout_of(before.model)
        (self.stack,) = layout.stacks
        self.carries = layout.carries
        self.fitted = [_fitted(layout, path, ridges, (), cutting.device) for path in self.stack]
        self.wanted: dict[str, list[Tensor]] = {}
        """By map, the residual stream of the original behind it, batch by batch."""
        with torch.inference_mode():
            calls = self._first(before)
            for path, maps in zip(self.stack, self.fitted, strict=True):
                for fitted in maps:
                    projection = _output_projection(before.model, path, fitted)
                    self.wanted[fitted.path] = [projection.sum_after(call) for call in calls]
                calls = self._next(before, path, calls)

    def _first(self, loaded: LoadedModel) -> list[LayerCall]:
        first = {"": loaded.model.get_submodule(self.stack[0])}  # all layers of these models are of one type
        return [call_of_first_layer(loaded.model, first, inputs) for inputs in self.inputs]

    def _next(self, loaded: LoadedModel, path: str, calls: list[LayerCall]) -> list[LayerCall]:
        layer = loaded.model.get_submodule(path)
        return [call.run(layer, self.carries) for call in calls]

    def cut(
        self,
        heads: KeptHeads,
        counts: Sequence[int],
        values: Values = "principal",
        orders: list[Order] | None = None,
        known: Sequence[Order] = (),
    ) -> LoadedModel:
        """A model of these heads, and of as many neurons as `counts` by brain_surgeon. `values` says how VO channels are chosen:
        as `heads` has them, or as many by the surgeon's rule. `orders` is filled with
        the blocks' own. `known`: neurons go in these orders instead.
        """
        scored, kept = self.scored, Selection(heads, all_neurons(self.scored.loaded.widths))
        widths = scored.loaded.widths
        if known:
            kept = replace(kept, neurons=tuple(each.stay(count) for each, count in zip(known, counts, strict=True)))
        vo = [len(layer[0].vo) if layer else 0 for layer in heads]
        if values != "principal":
            wide = tuple(
                tuple(replace(head, vo=tuple(range(before.vo[head.head]))) for head in layer)
                for layer, before in zip(heads, widths.layers, strict=True)
            )
            kept = replace(kept, heads=wide)
        cut = self.cutting.apply(scored, kept, refit=False)
        layout = cut.model_spec.layout_of(cut.model)
        blocks = {block.names["o"]: block for block in attention_blocks(cut.model, cut.model_spec, cut.widths)}
        seconds = {site.second: number for number, site in enumerate(layout.feed_forward)}
        with torch.no_grad():
            calls = self._first(cut)
            for path, maps in zip(self.stack, self.fitted, strict=True):
                for fitted in maps:
                    projection = _output_projection(cut.model, path, fitted)
                    regression = RidgeRegression(projection.linear, fitted.product)
                    for call, wanted in zip(calls, self.wanted[fitted.path], strict=True):
                        x_BTC, stream_BTD = projection.input_and_stream(call)
                        regression.add(x_BTC, wanted if stream_BTD is None else wanted - stream_BTD)
                    stay = None
                    if fitted.path in seconds:
                        number = seconds[fitted.path]
                        if orders is not None:
                            solved = regression._solved(fitted.ridge)
                            assert solved is not None
                            wanted_BTD = torch.cat([w.flatten(0, 1) for w in self.wanted[fitted.path]]).double()
                            orders.append(order(solved, float((wanted_BTD - wanted_BTD.mean(0)).square().sum())))
                        if not known:
                            stay = regression.most_needed(fitted.ridge, counts[number])
                    elif values != "principal" and heads[blocks[fitted.path].number]:
                        block = blocks[fitted.path]
                        solved = regression._solved(fitted.ridge)
                        assert solved is not None
                        of = [h for h, width in enumerate(block.widths.vo) for _ in range(width)]
                        width = vo[block.number]
                        if values == "turned":
                            turn_CC, stay = value_channels.directions(*solved, of, width, 4)
                            _turn(block.projections["v"], block.projections["o"], regression, turn_CC)
                        else:
                            stay = value_channels.channels(*solved, of, width, even=values == "even")
                    regression.fit(fitted.ridge, stay)
                calls = self._next(cut, path, calls)
        return cut


def _turn(value: torch.nn.Linear, output: torch.nn.Linear, regression: RidgeRegression, turn_CC: Tensor) -> None:
    """Turn the values, what takes them, and the sums that have been taken of them."""
    value.weight.copy_((turn_CC.mT @ value.weight.double()).to(value.weight))
    if value.bias is not None:
        value.bias.copy_((turn_CC.mT @ value.bias.double()).to(value.bias))
    output.weight.copy_((output.weight.double() @ turn_CC).to(output.weight))
    size = len(turn_CC)
    for sums in (regression._xx, regression._xy):
        sums[:size] = turn_CC.mT @ sums[:size]
    regression._xx[:, :size] = regression._xx[:, :size] @ turn_CC
