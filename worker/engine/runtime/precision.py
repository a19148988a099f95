"""In which precision matrix products are computed. Weights, losses and sums are not in it: those are the callers'."""

from contextlib import AbstractContextManager, nullcontext

import torch


def native_half(device: torch.device) -> torch.dtype | None:
    """bfloat16 on a GPU that computes it natively; None elsewhere: a CPU computes in the dtype of the weights throughout."""
    native = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if native else None


def products_in(dtype: torch.dtype | None, device: torch.device) -> AbstractContextManager[object]:
    """Autocast of matrix products on `device` to `dtype`; None: as they are."""
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype)
