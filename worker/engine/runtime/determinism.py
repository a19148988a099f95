"""Same inputs, same bytes: seeds each step, and enables torch's deterministic algorithms."""

import hashlib
import os

import torch


def step_seed(seed: int, step: int, purpose: str = "") -> int:
    """A generator seed for one purpose in one step. Depends on nothing else, so a resumed step draws what it would have."""
    digest = hashlib.sha256(f"{seed}/{step}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:4], "big")


def prepare_torch(*, deterministic: bool, threads: int | None) -> None:
    """Set the thread count, and deterministic kernels where asked. Before the first CUDA call."""
    if threads:
        torch.set_num_threads(threads)
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
        # TF32 would round inputs to ten bits where the CPU does not.
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
