"""Calibration without anybody's labels: the Fisher information over the model's own predictive distribution.

The Fisher information is the mean squared gradient over labels drawn from the model's predictions; with the data's labels it is
the empirical Fisher (Kunstner et al., arXiv 1905.12558, §2). Drawing labels is a poor estimate of it: a model that is sure of
itself draws nearly always the same one, whose gradient is small, and the rare other one carries the whole sum. But the label y
enters a gradient only by p − y at the logits, whose covariance is known: diag(p) − ppᵀ for a softmax (Martens, arXiv
1412.1193, §9). Any random vector with that covariance gives the same mean of every squared gradient; here it is made of random
signs, as in Hutchinson's estimator of a trace. Shapes: B batch, N classes.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Loss = Callable[[Tensor, object], Tensor]
"""(logits (B, N), targets) -> one loss a sample (B)."""


def draw_gradients(logits_BN: Tensor, multi_label: bool, generator: torch.Generator) -> Tensor:
    """One draw a sample of a gradient at the logits (B, N), with the mean (0) and covariance that the model's own labels give.

    One label a clip: that of the cross entropy. Several: of the mean over classes of the binary cross entropies.
    `generator` lives on the logits' device; nothing waits for that device.
    """
    logits_BN = logits_BN.detach().float()
    uniform_BN = torch.rand(logits_BN.shape, generator=generator, device=logits_BN.device)
    signs_BN = torch.where(uniform_BN < 0.5, -1.0, 1.0)
    if multi_label:
        deviation_BN = (logits_BN.sigmoid() * (-logits_BN).sigmoid()).sqrt()
        return deviation_BN * signs_BN / logits_BN.shape[1]
    p_BN = logits_BN.softmax(1)
    weighted_BN = p_BN.sqrt() * signs_BN
    return weighted_BN - p_BN * weighted_BN.sum(1, keepdim=True)


def own_labels(*, multi_label: bool, seed: int) -> Loss:
    """A loss whose gradient at the logits is such a draw: no further forward pass, and the targets are not read.

    Its value means nothing.
    """
    generators: dict[torch.device, torch.Generator] = {}

    def drawn(logits_BN: Tensor, _targets: object) -> Tensor:
        device = logits_BN.device
        if device not in generators:
            generators[device] = torch.Generator(device).manual_seed(seed)
        gradient_BN = draw_gradients(logits_BN, multi_label, generators[device])
        return (logits_BN * gradient_BN.to(logits_BN.dtype)).sum(1)

    return drawn
