"""Least squares of one linear map: its normal equations, their solution, and which of its inputs matter least.

The last is the optimal brain surgeon rule (Hassibi and Stork, NIPS 1992) on a layer's own least squares, extended to whole
columns as in ZipLM (arXiv 2302.04089, eq. 4) and SlimGPT (arXiv 2412.18110, §3): with H the normal matrix and W the solution,
removing column n costs ‖W[:, n]‖² / [H⁻¹]_nn, once all others have compensated. The cheapest is removed, W and H⁻¹ are updated,
and so on. Bias and ridge are part of the problem that is solved, so the costs are exact.

Shapes: R rows (tokens), C columns (input channels or neurons), D outputs.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

GROUP = 32
"""Columns that go between two updates of the whole inverse: these are matrix products, and meanwhile a column at a time is
brought up to date. The order is that of one column at a time."""


class _Solved(NamedTuple):
    """W (C, D) of min Σ‖y − x W − b‖² + λ‖W − W_now‖², without b, and the inverse (C, C) of its normal matrix."""

    weight: Tensor
    inverse: Tensor


class RidgeRegression:
    """Normal equations of y ≈ W x + b, summed in float64: memory does not depend on how many rows they are of."""

    def __init__(
        self, linear: nn.Linear, product: torch.dtype = torch.float64, device: torch.device | None = None
    ) -> None:
        """`product`: the precision in which one batch's products are taken. `device`: where they are, and are solved; None: where
        the map's weight is."""
        self._linear, self._product = linear, product
        size = linear.in_features + (linear.bias is not None)
        device = linear.weight.device if device is None else device
        self._xx = torch.zeros(size, size, dtype=torch.float64, device=device)
        self._xy = torch.zeros(size, linear.out_features, dtype=torch.float64, device=device)

    def add(self, x_BTC: Tensor, y_BTD: Tensor) -> None:
        """Add the rows of one batch."""
        x_RC, y_RD = (states.flatten(0, -2).to(self._product) for states in (x_BTC, y_BTD))
        if self._linear.bias is not None:
            x_RC = torch.cat([x_RC, x_RC.new_ones(len(x_RC), 1)], 1)
        self._xx += x_RC.mT @ x_RC
        self._xy += x_RC.mT @ y_RD

    def fit(self, ridge: float, kept: Tensor | None = None) -> None:
        """Write the solution of min Σ‖y − W x − b‖² + λ‖W − W_now‖² into the map.

        ridge: λ as a share of the mean square of what goes in. kept: the columns (K) that the map is to be made of; the others
        become zero. Where the sums are not finite the map stays as it is, but for those.
        """
        weight, bias = self._linear.weight, self._linear.bias
        channels, device = self._linear.in_features, self._xx.device
        chosen = torch.arange(channels, device=device) if kept is None else kept.to(device)
        now_CD = self._now()[chosen]
        rows = chosen
        if bias is not None:
            now_CD = torch.cat([now_CD, bias.detach().to(device).double()[None]])
            rows = torch.cat([chosen, torch.arange(channels, channels + 1, device=device)])
        penalty_C = torch.zeros(len(now_CD), dtype=torch.float64, device=device)
        if len(chosen):
            penalty_C[: len(chosen)] = self._penalty(ridge, chosen)
        normal_CC = self._xx[rows][:, rows] + torch.diag(penalty_C)
        solved_CD = torch.linalg.solve(normal_CC, self._xy[rows] + penalty_C[:, None] * now_CD)
        columns_C = chosen.to(weight.device)
        with torch.no_grad():
            if kept is not None:
                gone_C = torch.ones(channels, dtype=torch.bool, device=weight.device)
                gone_C[columns_C] = False
                weight[:, gone_C] = 0.0
            if not torch.isfinite(solved_CD).all():
                return
            weight[:, columns_C] = solved_CD[: len(chosen)].mT.to(weight)
            if bias is not None:
                bias.copy_(solved_CD[len(chosen)])

    def most_needed(self, ridge: float, count: int) -> Tensor:
        """The `count` columns (rising numbers, on the CPU) that stay where one after another leaves whose loss costs least.

        After each, all that are left make up for it. Where the sums are not finite, those of the largest weights.
        """
        channels = self._linear.in_features
        solved = self._solved(ridge)
        if solved is None:
            norms_C = self._linear.weight.detach().double().square().sum(0)
            return norms_C.argsort(descending=True, stable=True)[:count].sort().values.cpu()
        return _least_missed(solved, channels - count)

    def _now(self) -> Tensor:
        """The map's weight (C, D), where the sums are."""
        return self._linear.weight.detach().to(self._xx.device).double().mT

    def _penalty(self, ridge: float, columns: Tensor) -> Tensor:
        # The floor keeps a layer of which nothing is ever active solvable.
        return ridge * self._xx.diagonal()[columns].mean() + torch.finfo(torch.float64).tiny

    def _solved(self, ridge: float) -> _Solved | None:
        """With all columns. None where the sums are not finite."""
        channels = self._linear.in_features
        xx_CC, xy_CD = self._xx[:channels, :channels], self._xy[:channels]
        if self._linear.bias is not None:
            # The bias is solved for first: what is left are sums around the means.
            sums_C, rows = self._xx[channels, :channels], self._xx[channels, channels].clamp_min(1)
            xx_CC = xx_CC - sums_C.outer(sums_C) / rows
            xy_CD = xy_CD - sums_C.outer(self._xy[channels]) / rows
        if not (torch.isfinite(xx_CC).all() and torch.isfinite(xy_CD).all()):
            return None
        penalty = self._penalty(ridge, torch.arange(channels, device=xx_CC.device))
        now_CD = self._now()
        eye_CC = torch.eye(channels, dtype=torch.float64, device=xx_CC.device)
        factor_CC, failed = torch.linalg.cholesky_ex(xx_CC + penalty * eye_CC)
        if failed:
            # Without a ridge, inputs that say the same twice have no inverse.
            least = torch.finfo(torch.float64).eps * channels * self._xx.diagonal().mean() + penalty
            factor_CC = torch.linalg.cholesky(xx_CC + least * eye_CC)
        return _Solved(torch.cholesky_solve(xy_CD + penalty * now_CD, factor_CC), torch.cholesky_inverse(factor_CC))


def _least_missed(solved: _Solved, gone: int) -> Tensor:
    """The columns that stay after `gone` have left, in rising order, on the CPU.

    Column n leaves: W −= p w_nᵀ / p_n and H⁻¹ −= p pᵀ / p_n, p its column of H⁻¹. Within a group these are kept as factors, and
    only what the next choice needs is computed: the diagonal, the squared norms of W's rows, and the chosen column.
    """
    weight_CD, inverse_CC = solved
    numbers = torch.arange(len(weight_CD), device=weight_CD.device)
    while gone:
        size = min(GROUP, gone)
        diagonal_C, square_C = inverse_CC.diagonal().clone(), weight_CD.square().sum(1)
        # p / √p_n by column, and w_n / √p_n by row, of those that have left since the last whole update.
        columns_CG = inverse_CC.new_zeros(len(weight_CD), size)
        rows_GD = weight_CD.new_zeros(size, weight_CD.shape[1])
        there_C = torch.ones(len(weight_CD), dtype=torch.bool, device=weight_CD.device)
        for done in range(size):
            cost_C = torch.where(there_C, square_C.clamp_min(0) / diagonal_C, torch.inf)
            least = cost_C.argmin()
            before_CG, before_GD = columns_CG[:, :done], rows_GD[:done]
            column_C = inverse_CC[:, least] - before_CG @ before_CG[least]
            row_D = weight_CD[least] - before_CG[least] @ before_GD
            scale = column_C[least].rsqrt()
            column_C, row_D = column_C * scale, row_D * scale
            along_C = weight_CD @ row_D - before_CG @ (before_GD @ row_D)
            square_C += column_C * (column_C * row_D.square().sum() - 2 * along_C)
            diagonal_C -= column_C.square()
            columns_CG[:, done], rows_GD[done] = column_C, row_D
            there_C[least] = False
        inverse_CC = inverse_CC[there_C][:, there_C] - columns_CG[there_C] @ columns_CG[there_C].mT
        weight_CD = weight_CD[there_C] - columns_CG[there_C] @ rows_GD
        numbers = numbers[there_C]
        gone -= size
    return numbers.cpu()
