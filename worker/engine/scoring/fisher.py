"""Fisher information of the attention projections: the mean of squared per-sample gradients.

F(w) = 1/N Σ_n (∂ℓ_n/∂w)², the diagonal of the empirical Fisher (arXiv 2509.26207; for the name, Kunstner et al.,
arXiv 1905.12558). It is not the square of the batch's gradient, in which samples cancel.

For a linear layer y = W x + b applied at T positions, a sample's weight gradient is dYᵀX with X (T, in) its inputs
and dY (T, out) the gradient at its outputs. Hooks keep X in the forward pass and meet dY in the backward pass, so one
backward pass of a batch gives all its per-sample gradients, and autograd never forms a weight's gradient itself.
Shapes: B batch, T tokens, I in, O out.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

Moments = dict[str, tuple[Tensor, Tensor | None]]
"""By projection name: E[g²] of the weight (O, I), and of the bias (O) where there is one."""


class _Accumulator:
    """Sums squared per-sample gradients of one projection over the batches it sees."""

    def __init__(self, linear: nn.Linear) -> None:
        self.weight_OI = torch.zeros_like(linear.weight, requires_grad=False)
        self.bias_O = torch.zeros_like(linear.bias, requires_grad=False) if linear.bias is not None else None

    def before(self, _module: nn.Module, args: tuple[Any, ...]) -> None:
        # No parameter asks for a gradient, so the graph has to start somewhere: at the first projection's input.
        if not args[0].requires_grad:
            args[0].requires_grad_(True)

    def after(self, _module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        x_BTI = args[0].detach()
        output.register_hook(lambda dy_BTO: self.add(x_BTI, dy_BTO))

    def add(self, x_BTI: Tensor, dy_BTO: Tensor) -> None:
        per_sample_BOI = torch.bmm(dy_BTO.mT, x_BTI)
        self.weight_OI += per_sample_BOI.square_().sum(0)
        if self.bias_O is not None:
            self.bias_O += dy_BTO.sum(1).square_().sum(0)


def fisher_information(
    model: nn.Module,
    projections: Mapping[str, nn.Linear],
    batches: Iterable[tuple[Tensor, Tensor]],
    loss: Callable[[Tensor, Tensor], Tensor],
    progress: Callable[[int], None] = lambda _samples: None,
) -> Moments:
    """E[g²] of every weight and bias of `projections`, over all samples of `batches`.

    Args:
        model: called with one positional tensor; its output has `logits`. Mode and requires_grad are left as found.
        batches: (inputs, targets), on the model's device.
        loss: (logits, targets) -> one loss a sample, (B). Samples must not see each other (no batch norm).
        progress: called after each batch with the number of samples seen so far.

    Raises ValueError where `batches` is empty.
    """
    sums = {name: _Accumulator(linear) for name, linear in projections.items()}
    switches = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    training = model.training
    handles = []
    samples = 0
    try:
        model.eval()
        model.requires_grad_(False)
        for name, linear in projections.items():
            handles.append(linear.register_forward_pre_hook(sums[name].before))
            handles.append(linear.register_forward_hook(sums[name].after))
        for inputs, targets in batches:
            with torch.enable_grad():
                loss(model(inputs).logits, targets).sum().backward()
            samples += len(inputs)
            progress(samples)
    finally:
        for handle in handles:
            handle.remove()
        for parameter, switch in switches:
            parameter.requires_grad_(switch)
        model.train(training)
    if not samples:
        raise ValueError("no samples to score on")
    return {
        name: (total.weight_OI / samples, None if total.bias_O is None else total.bias_O / samples)
        for name, total in sums.items()
    }
