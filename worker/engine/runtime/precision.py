"""The precision in which a device computes matrix products. Weights and losses keep theirs; sums over batches are float64."""

from contextlib import AbstractContextManager, nullcontext

import torch

_FAST_FLOAT64 = ((6, 0), (7, 0), (8, 0), (9, 0), (10, 0))
"""Compute capabilities with at least half as many float64 operations a cycle as float32 ones (P100, V100, A100, H100, B200).
Others have a thirty-second or a sixty-fourth (CUDA C++ Programming Guide, throughput of native arithmetic instructions)."""


def native_half(device: torch.device) -> torch.dtype | None:
    """bfloat16 on a GPU that computes it natively; None elsewhere: a CPU computes in the dtype of the weights throughout."""
    native = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if native else None


def moment_dtype(device: torch.device) -> torch.dtype:
    """Of one batch's products in second moments: float64; float32 where that is slow, on GPUs for consumers and for inference."""
    slow = device.type == "cuda" and torch.cuda.get_device_capability(device) not in _FAST_FLOAT64
    return torch.float32 if slow else torch.float64


def products_in(dtype: torch.dtype | None, device: torch.device) -> AbstractContextManager[object]:
    """Autocast of matrix products on `device` to `dtype`; None: as they are."""
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype)
