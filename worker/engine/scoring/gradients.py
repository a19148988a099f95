"""Per-sample gradients of a linear layer, reduced to one number per row without ever being stored.

For a linear layer y = W x + b applied at T positions, a sample's weight gradient is dYᵀX, with X (T, I) its inputs and dY (T, O)
the gradient at its outputs; the bias gradient is Σ_t dy_t. Row o's squared norm is dy_oᵀ(XXᵀ)dy_o: the T×T Gram matrix XXᵀ serves
every row of every projection that reads the same X, and with few tokens it is far cheaper than the gradient itself (the "ghost
norm" of Li et al., arXiv 2110.05679, eq. 3, by row). For the columns of a weight the two change places: column i's squared norm
is x_iᵀ(dY dYᵀ)x_i. Shapes: B batch, T tokens, I inputs, O outputs.
"""

import torch
from torch import Tensor

_TEMPORARY = {"cpu": 2**21, "cuda": 2**27}
"""Elements of the per-sample gradients that exist at once."""


class Factor:
    """One factor X (B, T, I) of per-sample weight gradients dYᵀX, and what its users share: the Gram matrix XXᵀ.

    X may be on another device than the gradients.
    """

    def __init__(self, x_BTI: Tensor) -> None:
        self._x_BTI = x_BTI
        self.rows = 0
        """Rows of all weights whose gradients have this factor; counted up before the first norm is asked for."""
        self._gram_BTT: Tensor | None = None

    def squared_norms(self, dy_BTO: Tensor, weight_OI: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Σ over samples of each row's squared gradient norm (O), and, with a weight W, of the same of W ∘ gradient."""
        x_BTI = self._x_BTI.to(dy_BTO.device)
        _, tokens, width = x_BTI.shape
        if weight_OI is None and tokens * (width + self.rows) < width * self.rows:
            if self._gram_BTT is None:
                self._gram_BTT = torch.bmm(x_BTI, x_BTI.mT)
            return torch.bmm(self._gram_BTT, dy_BTO).mul_(dy_BTO).sum((0, 1)), None
        return _by_forming(x_BTI, dy_BTO, weight_OI)


def _by_forming(x_BTI: Tensor, dy_BTO: Tensor, weight_OI: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """The same by forming the gradients, a few samples at a time."""
    samples, rows, width = len(x_BTI), dy_BTO.shape[2], x_BTI.shape[2]
    at_once = max(1, _TEMPORARY.get(x_BTI.device.type, _TEMPORARY["cpu"]) // max(1, rows * width))
    plain_O, weighted_O = dy_BTO.new_zeros(rows), None if weight_OI is None else dy_BTO.new_zeros(rows)
    for start in range(0, samples, at_once):
        these = slice(start, start + at_once)
        gradient_bOI = torch.bmm(dy_BTO[these].mT, x_BTI[these])
        plain_O += torch.linalg.vector_norm(gradient_bOI, dim=2).square_().sum(0)
        if weight_OI is not None and weighted_O is not None:
            gradient_bOI *= weight_OI
            weighted_O += torch.linalg.vector_norm(gradient_bOI, dim=2).square_().sum(0)
    return plain_O, weighted_O
