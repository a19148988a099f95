"""Which VO channels of a layer go, by what the others make up for: all heads together, from the normal equations of W_o.

Three ways, all by ε_n = ‖W[:, n]‖² / [H⁻¹]_nn and its updates (worker/engine/pruning/regression.py):

- `any`: whichever channel costs least, so that heads may come to differ in width;
- `even`: the same of those heads that are still wider than all are to become;
- `turned`: no channels but directions. Within a head any basis of the values is as good, and to go without the directions U costs
  tr((Uᵀ H⁻¹ U)⁻¹ Uᵀ W Wᵀ U), which the least generalised eigenvectors of (W Wᵀ, H⁻¹) of the head's own rows make least. Taken as
  many at a time as widths are multiples of, from the head where they cost least.

Shapes: C channels of all heads, K of one head, D model width.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def remove(weight_CD: Tensor, inverse_CC: Tensor, gone: Sequence[int]) -> None:
    """Bring W and H⁻¹ up to date, in place, once these channels have left together: their rows become zero."""
    at = torch.tensor(list(gone))
    columns_CG = inverse_CC[:, at].clone()
    factor_GC = torch.linalg.solve(columns_CG[at], columns_CG.mT)
    weight_CD -= factor_GC.mT @ weight_CD[at]
    inverse_CC -= columns_CG @ factor_GC
    weight_CD[at] = 0.0
    inverse_CC[at], inverse_CC[:, at] = 0.0, 0.0


def channels(weight_CD: Tensor, inverse_CC: Tensor, heads: Sequence[int], width: int, *, even: bool) -> Tensor:
    """The channels that stay, in rising order: `width` of every head, or as many in all. `heads`: of each channel, its head."""
    weight_CD, inverse_CC = weight_CD.clone(), inverse_CC.clone()
    head_C = torch.tensor(list(heads))
    there_C = torch.ones(len(head_C), dtype=torch.bool)
    number = int(head_C.max()) + 1
    while int(there_C.sum()) > width * number:
        counts_H = torch.bincount(head_C[there_C], minlength=number)
        able_C = there_C & (counts_H[head_C] > width) if even else there_C
        cost_C = weight_CD.square().sum(1) / inverse_CC.diagonal()
        least = int(torch.where(able_C, cost_C, torch.inf).argmin())
        remove(weight_CD, inverse_CC, [least])
        there_C[least] = False
    return there_C.nonzero().flatten()


def directions(
    weight_CD: Tensor, inverse_CC: Tensor, heads: Sequence[int], width: int, together: int
) -> tuple[Tensor, Tensor]:
    """An orthogonal turn (C, C), x → Tᵀ x, block by block of heads, and the channels of the turned heads that stay."""
    weight_CD, inverse_CC = weight_CD.clone(), inverse_CC.clone()
    head_C = torch.tensor(list(heads))
    turn_CC = torch.eye(len(head_C), dtype=weight_CD.dtype)
    left = {h: (head_C == h).nonzero().flatten() for h in range(int(head_C.max()) + 1)}
    found: dict[int, tuple[float, Tensor]] = {}
    while any(len(rows) > width for rows in left.values()):
        for h, rows in left.items():
            many = min(together, len(rows) - width)
            if many <= 0:
                found.pop(h, None)
                continue
            # With L Lᵀ = H⁻¹ of the head, the least eigenvectors of L⁻¹ W Wᵀ L⁻ᵀ.
            factor_KK = torch.linalg.cholesky(inverse_CC[rows][:, rows])
            whitened_KD = torch.linalg.solve_triangular(factor_KK, weight_CD[rows], upper=False)
            cost_K, axes_KK = torch.linalg.eigh(whitened_KD @ whitened_KD.mT)
            gone_KG = torch.linalg.solve_triangular(factor_KK.mT, axes_KK[:, :many], upper=True)
            found[h] = float(cost_K[:many].sum()) / many, gone_KG
        h = min(found, key=lambda head: found[head][0])
        rows, gone_KG = left[h], found[h][1]
        many = gone_KG.shape[1]
        basis_KK = torch.linalg.qr(gone_KG, mode="complete").Q.flip(1)
        weight_CD[rows] = basis_KK.mT @ weight_CD[rows]
        inverse_CC[rows] = basis_KK.mT @ inverse_CC[rows]
        inverse_CC[:, rows] = inverse_CC[:, rows] @ basis_KK
        turn_CC[:, rows] = turn_CC[:, rows] @ basis_KK
        remove(weight_CD, inverse_CC, rows[-many:].tolist())
        left[h] = rows[:-many]
    return turn_CC, torch.cat(list(left.values())).sort().values
