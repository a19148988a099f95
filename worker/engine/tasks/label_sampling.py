"""Calibration without given labels: the Fisher information over the model's own predictive distribution.

The Fisher information is the mean squared gradient over labels drawn from the model's predictions; with the data's labels it is
the empirical Fisher (Kunstner et al., arXiv 1905.12558, §2). Drawing labels estimates it poorly: a confident model draws nearly
always the same one, whose gradient is small, and the rare other one carries the whole sum. But the label y enters a gradient only
by p − y at the logits, whose covariance is known: diag(p) − ppᵀ for a softmax (Martens, arXiv 1412.1193, §9). Any random vector
with that covariance gives the same mean of every squared gradient; here it is made of random signs, as in Hutchinson's estimator
of a trace. Shapes: B batch, N classes.
"""

import torch
from torch import Tensor


class LabelGenerators:
    """A generator on every device that asks for one, each with the same seed: nothing waits for a device."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._generators: dict[torch.device, torch.Generator] = {}

    def generator(self, device: torch.device) -> torch.Generator:
        """The device's own, where it was left."""
        if device not in self._generators:
            self._generators[device] = torch.Generator(device).manual_seed(self._seed)
        return self._generators[device]


def signs_like(answers: Tensor, generator: torch.Generator) -> Tensor:
    """−1 or 1, as likely, of the same shape; float32."""
    uniform = torch.rand(answers.shape, generator=generator, device=answers.device)
    return torch.where(uniform < 0.5, -1.0, 1.0)


def softmax_gradients(logits_BN: Tensor, generator: torch.Generator) -> Tensor:
    """Of the cross entropy of one label: a draw (B, N) with covariance diag(p) − ppᵀ in each row."""
    logits_BN = logits_BN.detach().float()
    signs_BN = signs_like(logits_BN, generator)
    p_BN = logits_BN.softmax(1)
    weighted_BN = p_BN.sqrt() * signs_BN
    return weighted_BN - p_BN * weighted_BN.sum(1, keepdim=True)


def sigmoid_gradients(logits_BN: Tensor, generator: torch.Generator) -> Tensor:
    """Of the mean over classes of the binary cross entropies: a draw (B, N) with variance p(1 − p) / N² in each class."""
    logits_BN = logits_BN.detach().float()
    signs_BN = signs_like(logits_BN, generator)
    deviation_BN = (logits_BN.sigmoid() * (-logits_BN).sigmoid()).sqrt()
    return deviation_BN * signs_BN / logits_BN.shape[1]
