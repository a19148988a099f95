"""One split of the data as the rest of the engine sees it: features that stay on disk, targets in memory."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class FeatureSplit:
    """Samples in a fixed order.

    features: float32 [N, frames, mels], usually a read-only memory map, so that a split may be larger than memory.
    targets: int64 [N] for one label a clip, float32 [N, C] of zeros and ones for several.
    """

    features: NDArray[np.float32]
    targets: Tensor

    def __post_init__(self) -> None:
        if len(self.features) != len(self.targets):
            raise ValueError(f"{len(self.features)} rows of features, but {len(self.targets)} targets")

    def __len__(self) -> int:
        return len(self.targets)

    def batch(self, indices: Sequence[int] | Tensor) -> tuple[Tensor, Tensor]:
        """(input_values float32 [B, frames, mels], targets [B] or [B, C]) on the CPU, in the order of `indices`.

        The tensors are copies: changing them in place does not reach the split.
        """
        rows = torch.as_tensor(indices, dtype=torch.int64)
        # Fancy indexing of a memory map reads just these rows, and copies.
        features = np.ascontiguousarray(self.features[rows.numpy()], dtype=np.float32)
        return torch.from_numpy(features), self.targets[rows]

    def drawn(self, samples: int, seed: int) -> "FeatureSplit":
        """`samples` rows drawn by `seed`, in their order; the split itself where it has no more."""
        if samples >= len(self):
            return self
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        return self.subset(order[:samples].sort().values)

    def subset(self, indices: Sequence[int] | Tensor) -> "FeatureSplit":
        """A split of its own with these rows, copied into memory."""
        features, targets = self.batch(indices)
        return FeatureSplit(features.numpy(), targets)
