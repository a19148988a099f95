"""Labels drawn from the model's own predictive distribution: calibration without anybody's labels.

With them the mean squared gradient is a draw of the Fisher information itself; with the data's labels it is the empirical
Fisher (Kunstner et al., arXiv 1905.12558, §2). Shapes: B batch, N classes.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Loss = Callable[[Tensor, Tensor], Tensor]
"""(logits (B, N), targets) -> one loss a sample (B)."""


def draw_labels(logits_BN: Tensor, multi_label: bool, generator: torch.Generator) -> Tensor:
    """One draw a sample: class numbers (B) from the softmax, or 0/1 of each class (B, N) from its sigmoid.

    `generator` lives on the logits' device; nothing waits for that device.
    """
    logits_BN = logits_BN.detach().float()
    uniform_BN = torch.rand(logits_BN.shape, generator=generator, device=logits_BN.device)
    if multi_label:
        return (uniform_BN < logits_BN.sigmoid()).to(logits_BN.dtype)
    # The argmax of logits plus Gumbel noise is distributed as their softmax.
    tiny = torch.finfo(uniform_BN.dtype).tiny
    gumbel_BN = -(-uniform_BN.clamp_min(tiny).log()).clamp_min(tiny).log()
    return (logits_BN + gumbel_BN).argmax(1)


def with_drawn_labels(loss: Loss, *, multi_label: bool, seed: int) -> Callable[[Tensor, object], Tensor]:
    """`loss` on labels drawn from the very logits it is given: no further forward pass, and the targets are not read."""
    generators: dict[torch.device, torch.Generator] = {}

    def drawn(logits_BN: Tensor, _targets: object) -> Tensor:
        device = logits_BN.device
        if device not in generators:
            generators[device] = torch.Generator(device).manual_seed(seed)
        return loss(logits_BN, draw_labels(logits_BN, multi_label, generators[device]))

    return drawn
