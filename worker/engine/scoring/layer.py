"""One observed layer: hooks on its four projections, and the sums that they add to.

Hooks keep what the forward pass shows (X, q, v, the context) and receive the gradients in the backward pass, so one backward pass
of a batch gives all its per-sample gradients. No parameter requires a gradient, so autograd never computes one. Shapes: B batch,
T tokens, D model width, C channels of one side of the layer, O rows of a projection, I its inputs.
"""

from collections.abc import Callable, Set
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from worker.engine.models.attention import AttentionBlock
from worker.engine.runtime.offload import on_host
from worker.engine.scoring.channels import by_head
from worker.engine.scoring.gradients import Factor
from worker.engine.scoring.moments import SecondMoments, SecondMomentsByHead
from worker.engine.scoring.observations import (
    NEEDS_GRADIENTS,
    Channels,
    Context,
    Gates,
    GradientMoments,
    LayerObservations,
    QKMoments,
    Statistic,
)


def _full(x: Tensor) -> Tensor:
    """Under autocast activations have half precision; sums of squares do not bear it."""
    return x.detach().float() if x.dtype in (torch.bfloat16, torch.float16) else x.detach()


class LayerObserver:
    """Adds up the statistics of one layer. `attach` before the pass, `result` after it."""

    def __init__(
        self,
        block: AttentionBlock,
        statistics: Set[Statistic],
        product: torch.dtype = torch.float64,
        device: torch.device | None = None,
    ) -> None:
        """`product`: the precision in which one batch's products in second moments are taken. `device`: where the layer computes;
        None: where its weights are."""
        self.block, self.statistics, self._product = block, statistics, product
        device = block.projections["o"].weight.device if device is None else device
        self.widths = {"qk": block.widths.qk, "vo": block.widths.vo}
        self.fisher = {side: self._zeros(sum(widths), device) for side, widths in self.widths.items()}
        self.saliency = {side: self._zeros(sum(widths), device) for side, widths in self.widths.items()}
        if Statistic.GATES in statistics:
            self.gates = {side: SecondMoments(sum(widths), device, product) for side, widths in self.widths.items()}
        if Statistic.QK_MOMENTS in statistics:
            self.q, self.k = (SecondMomentsByHead(block.query_widths(side), device, product) for side in "qk")
            self.k_sum_C = self._zeros(block.widths.qk_total, device)
        if Statistic.CONTEXT in statistics:
            self.context = SecondMoments(sum(block.query_widths("o")), device, product)
        if Statistic.GRADIENTS in statistics:
            self.gradients = {side: SecondMomentsByHead(block.query_widths(side), device, product) for side in "qko"}
        if Statistic.OUTPUT_GRADIENT in statistics:
            self.output_gradient = SecondMoments(block.projections["o"].out_features, device, product)
        self.samples = 1
        """Of the batch that runs now. Attention in windows sees each as many short sequences, one after another."""
        self.seen = {"q": 0, "k": 0, "o": 0}
        """Tokens that have passed; those of queries and keys differ where they come from two streams."""
        self._seen_by_all: Tensor | None = None
        self._last: tuple[Tensor, Factor] | None = None

    @staticmethod
    def _zeros(width: int, device: torch.device) -> Tensor:
        return torch.zeros(width, dtype=torch.float64, device=device)

    def attach(self) -> list[RemovableHandle]:
        """Hook the projections. A layer without heads has nothing to observe."""
        if not self.block.widths.heads:
            return []
        handles = []
        for side, linear in self.block.projections.items():
            if self.statistics & NEEDS_GRADIENTS and side != "o":
                handles.append(linear.register_forward_pre_hook(self._begin))
            handles.append(linear.register_forward_hook(self._output if side == "o" else self._row(side)))
        handles += [norm.register_forward_hook(self._normed(side)) for side, norm in self.block.norms.items()]
        return handles

    def _begin(self, _module: nn.Module, args: tuple[Any, ...]) -> None:
        # No parameter asks for a gradient, so the graph has to start somewhere: at the first projection's input.
        if not args[0].requires_grad:
            args[0].requires_grad_(True)

    def _by_sample(self, x_BTC: Tensor) -> Tensor:
        """(samples, T, C), whatever sequences a sample was cut into."""
        return x_BTC if len(x_BTC) == self.samples else x_BTC.reshape(self.samples, -1, x_BTC.shape[-1])

    def _factor(self, x_BTI: Tensor, rows: int) -> Factor:
        """The factor of the gradients that this input makes; projections that read one tensor share it."""
        if self._last is None or self._last[0] is not x_BTI:
            self._last = x_BTI, Factor(on_host(self._by_sample(_full(x_BTI))))
        self._last[1].rows += rows
        return self._last[1]

    def _dotted(self, side: str) -> bool:
        """Whether dot products are taken of what this projection puts out, and not of what a norm behind it does."""
        return side != "v" and side not in self.block.norms

    def _row(self, side: str) -> Callable[..., None]:
        """The forward hook of q, k or v."""
        statistics = self.statistics
        dotted = self._dotted(side)

        def seen(linear: nn.Linear, args: tuple[Any, ...], y_BTO: Tensor) -> None:
            if side != "v":
                self.seen[side] += y_BTO.shape[0] * y_BTO.shape[1]
            if dotted:
                self._add_moments(side, y_BTO)
            by_weight = bool({Statistic.FISHER, Statistic.SALIENCY} & statistics)
            gated = Statistic.GATES in statistics and side != "k"
            if by_weight or gated or (Statistic.GRADIENTS in statistics and dotted):
                factor = self._factor(args[0], linear.out_features) if by_weight else None
                kept_BTO = on_host(y_BTO.detach()) if gated else None
                y_BTO.register_hook(
                    lambda dy_BTO: self._row_gradient(side, linear, factor, kept_BTO, self._by_sample(_full(dy_BTO)))
                )

        return seen

    def _normed(self, side: str) -> Callable[..., None]:
        """The forward hook of a norm behind q or k: what the dot product has is its output, (B, T, H, K)."""

        def seen(_norm: nn.Module, _args: tuple[Any, ...], y_BTHK: Tensor) -> None:
            self._add_moments(side, y_BTHK.flatten(-2))
            if Statistic.GRADIENTS in self.statistics:
                y_BTHK.register_hook(lambda dy_BTHK: self.gradients[side].add(_full(dy_BTHK).flatten(-2).flatten(0, 1)))

        return seen

    def _add_moments(self, side: str, y_BTC: Tensor) -> None:
        """Of the queries or keys of a batch."""
        if Statistic.QK_MOMENTS not in self.statistics:
            return
        if side == "q":
            self.q.add(y_BTC.detach().flatten(0, 1))
            return
        k_BTC = y_BTC.detach().to(self._product)
        if self.block.widths.rotary:
            # What all keys share before they are rotated they do not share after it.
            self.k.add(k_BTC.flatten(0, 1))
        else:
            mean_B1C = k_BTC.mean(1, keepdim=True)
            self.k.add((k_BTC - mean_B1C).flatten(0, 1))
            self.k_sum_C += mean_B1C.sum((0, 1)) * k_BTC.shape[1]

    def _row_gradient(
        self, side: str, linear: nn.Linear, factor: Factor | None, y_BTO: Tensor | None, dy_BTO: Tensor
    ) -> None:
        """The gradient has reached the output of q, k or v."""
        pair = "qk" if side in "qk" else "vo"
        if factor is not None:
            self._add_squares(side, factor, dy_BTO, linear.weight.detach())
            if linear.bias is not None:
                squared_O = dy_BTO.sum(1).square_().sum(0)
                self.fisher[pair] += self.block.over_queries(side, squared_O)
                bias_O = linear.bias.detach().to(squared_O.device)
                self.saliency[pair] += self.block.over_queries(side, squared_O * bias_O.square())
        if y_BTO is not None:
            gates_BO = (dy_BTO * self._by_sample(_full(y_BTO.to(dy_BTO.device)))).sum(1)
            self.gates[pair].add(self.block.over_queries(side, gates_BO))
        if Statistic.GRADIENTS in self.statistics and self._dotted(side):
            self.gradients[side].add(dy_BTO.flatten(0, 1))

    def _output(self, linear: nn.Linear, args: tuple[Any, ...], y_BTD: Tensor) -> None:
        """The forward hook of o."""
        context_BTC: Tensor = args[0]
        self.seen["o"] += context_BTC.shape[0] * context_BTC.shape[1]
        # Held any longer, it would keep this batch's graph while the next one runs.
        self._last = None
        if Statistic.CONTEXT in self.statistics:
            self.context.add(context_BTC.detach().flatten(0, 1))
        if Statistic.GRADIENTS in self.statistics:
            context_BTC.register_hook(lambda dx_BTC: self.gradients["o"].add(dx_BTC.flatten(0, 1)))
        if self.statistics & {Statistic.FISHER, Statistic.SALIENCY, Statistic.OUTPUT_GRADIENT}:
            by_weight = bool(self.statistics & {Statistic.FISHER, Statistic.SALIENCY})
            kept_BTC = on_host(context_BTC.detach()) if by_weight else None
            y_BTD.register_hook(lambda dy_BTD: self._output_gradient(linear, kept_BTC, self._by_sample(_full(dy_BTD))))

    def _output_gradient(self, linear: nn.Linear, context_BTC: Tensor | None, dy_BTD: Tensor) -> None:
        """The gradient has reached the output of o. Its weight's columns are the channels: the factors change places."""
        if context_BTC is not None:
            factor = Factor(dy_BTD)
            factor.rows = linear.in_features
            context_BTC = _full(self._by_sample(context_BTC.to(dy_BTD.device)))
            self._add_squares("o", factor, context_BTC, linear.weight.detach().mT)
        if Statistic.OUTPUT_GRADIENT in self.statistics:
            self.output_gradient.add(dy_BTD.flatten(0, 1))

    def _add_squares(self, side: str, factor: Factor, dy_BTO: Tensor, weight_OI: Tensor) -> None:
        pair = "qk" if side in "qk" else "vo"
        weighted = Statistic.SALIENCY in self.statistics
        plain_O, weighted_O = factor.squared_norms(dy_BTO, weight_OI.to(dy_BTO.device) if weighted else None)
        self.fisher[pair] += self.block.over_queries(side, plain_O)
        if weighted_O is not None:
            self.saliency[pair] += self.block.over_queries(side, weighted_O)

    def sums(self) -> list[Tensor]:
        """What has been added up so far, itself: processes that observe a part of the samples each add these."""
        self._seen_by_all = torch.tensor(list(self.seen.values()))
        found = [self._seen_by_all, *self.fisher.values(), *self.saliency.values()]
        moments: list[SecondMoments | SecondMomentsByHead] = []
        if Statistic.GATES in self.statistics:
            moments += self.gates.values()
        if Statistic.QK_MOMENTS in self.statistics:
            moments += [self.q, self.k]
            found.append(self.k_sum_C)
        if Statistic.CONTEXT in self.statistics:
            moments.append(self.context)
        if Statistic.GRADIENTS in self.statistics:
            moments += self.gradients.values()
        if Statistic.OUTPUT_GRADIENT in self.statistics:
            moments.append(self.output_gradient)
        return found + [tensor for each in moments for tensor in each.sums()]

    def result(self, samples: int, draws: int = 1) -> LayerObservations:
        """The means over what was added; of gradients `draws` times, each time all samples."""
        statistics, passes = self.statistics, samples * draws
        seen = self.seen.values() if self._seen_by_all is None else self._seen_by_all.tolist()
        tokens = {side: max(1, count) for side, count in zip(self.seen, seen, strict=True)}

        def channels(sums: dict[str, Tensor]) -> Channels:
            return Channels((sums["qk"] / passes).cpu(), (sums["vo"] / passes).cpu())

        gates, qk, context, gradients = None, None, None, None
        if Statistic.GATES in statistics:
            (qk_mean_C, qk_CC), (vo_mean_C, vo_CC) = (self.gates[side].mean(passes) for side in ("qk", "vo"))
            gates = Gates(Channels(qk_mean_C, vo_mean_C), qk_CC, vo_CC)
        if Statistic.QK_MOMENTS in statistics:
            k_mean_C = (self.k_sum_C / tokens["k"]).cpu()
            qk = QKMoments(self.q.mean(tokens["q"]), self.k.mean(tokens["k"]), by_head(self.block, "k", k_mean_C))
        if Statistic.CONTEXT in statistics:
            context = Context(*self.context.mean(tokens["o"]))
        if Statistic.GRADIENTS in statistics:
            gradients = GradientMoments(*(self.gradients[side].mean(tokens[side] * draws) for side in "qko"))
        return LayerObservations(
            fisher=channels(self.fisher) if Statistic.FISHER in statistics else None,
            saliency=channels(self.saliency) if Statistic.SALIENCY in statistics else None,
            gates=gates,
            qk=qk,
            context=context,
            gradients=gradients,
            output_gradient=self.output_gradient.mean(tokens["o"] * draws)[1]
            if Statistic.OUTPUT_GRADIENT in statistics
            else None,
            tokens=tokens["q"],
        )
