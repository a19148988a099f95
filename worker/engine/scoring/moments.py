"""Second moments of activations and of gradients, summed batch by batch in float64.

Float64 from the product on, unless requested otherwise: second moments of activations are ill-conditioned (3e6 and more on AST
checkpoints), and the small end decides what may be cut. Shapes: N tokens of all samples, C channels of all heads, K channels of
one head.
"""

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

from worker.engine.runtime.mapped import empty_mapped


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add left·right, in their precision, to a float64 total, in place; batches of matrices or single ones."""
    if left.dtype != total.dtype:
        total += left @ right
    elif total.ndim == 3:
        total.baddbmm_(left, right)
    else:
        total.addmm_(left, right)


class SecondMomentsByHead:
    """Σ x xᵀ within every head (K×K each), heads of any widths. Heads of one width are one batched product."""

    def __init__(self, widths: Sequence[int], device: torch.device, product: torch.dtype = torch.float64) -> None:
        """`product`: the precision in which one batch's products are taken."""
        self._product = product
        starts = [sum(widths[:h]) for h in range(len(widths))]
        alike: dict[int, list[int]] = defaultdict(list)
        for head, width in enumerate(widths):
            alike[width].append(head)
        self._heads = len(widths)
        self._groups = [
            (
                heads,
                torch.tensor([starts[h] + c for h in heads for c in range(width)], device=device),
                torch.zeros(len(heads), width, width, dtype=torch.float64, device=device),
            )
            for width, heads in alike.items()
        ]

    def add(self, x_NC: Tensor) -> None:
        """Add these tokens."""
        x_NC = x_NC.to(self._product)
        for heads, channels, sum_HKK in self._groups:
            # Heads of one width lie as they are needed; others are copied together.
            of_group_NC = x_NC if len(self._groups) == 1 else x_NC.index_select(1, channels)
            x_NHK = of_group_NC.unflatten(1, (len(heads), -1))
            _add_product(sum_HKK, x_NHK.permute(1, 2, 0), x_NHK.transpose(0, 1))

    def sums(self) -> list[Tensor]:
        """What has been added up so far, itself."""
        return [sum_HKK for _, _, sum_HKK in self._groups]

    def mean(self, count: int) -> tuple[Tensor, ...]:
        """By head, the sum over `count`, on the CPU. Nothing can be added after it: the sum is not copied."""
        found: dict[int, Tensor] = {}
        for heads, _, sum_HKK in self._groups:
            found.update(zip(heads, sum_HKK.div_(count).cpu(), strict=True))
        return tuple(found[head] for head in range(self._heads))


class SecondMoments:
    """Σ x and Σ x xᵀ over all channels together (C, C×C)."""

    def __init__(self, width: int, device: torch.device, product: torch.dtype = torch.float64) -> None:
        """`product`: the precision in which one batch's products are taken."""
        self._product = product
        self.sum_C = torch.zeros(width, dtype=torch.float64, device=device)
        self.square_CC = empty_mapped((width, width), torch.float64, device).zero_()

    def add(self, x_NC: Tensor) -> None:
        """Add these tokens, or samples."""
        x_NC = x_NC.to(self._product)
        self.sum_C += x_NC.sum(0)
        _add_product(self.square_CC, x_NC.mT, x_NC)

    def sums(self) -> list[Tensor]:
        """What has been added up so far, itself."""
        return [self.sum_C, self.square_CC]

    def mean(self, count: int) -> tuple[Tensor, Tensor]:
        """Mean (C) and second moment, not centred (C, C), over `count`, on the CPU. The last call: sums are not copied."""
        return self.sum_C.div_(count).cpu(), self.square_CC.div_(count).cpu()
