"""How much is measured: for a GPU, and as little as shows that it runs."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """Models and amounts; tokens are 12 n + 2, as a spectrogram's patches and two special tokens come to."""

    shape: str
    """Of benchmarks.latency.SHAPES."""
    latency_tokens: tuple[int, ...]
    latency_batches: tuple[int, ...]
    latency_seconds: float
    """Of timing, a batch size and dtype."""
    fisher_cases: tuple[tuple[int, int], ...]
    """Tokens and batch size."""
    fisher_rounds: int
    recovery_tokens: int
    recovery_batch: int
    recovery_batches: int
    """An epoch."""
    clips: Mapping[str, int]
    """Of the job, by split."""
    job_seconds: float
    """After which the job is given up."""


SIZES: Mapping[str, Size] = {
    "base": Size(
        shape="base",
        latency_tokens=(1214,),
        latency_batches=(1, 2, 4, 8, 16, 32, 64),
        latency_seconds=4.0,
        fisher_cases=((146, 64), (1214, 16)),
        fisher_rounds=3,
        recovery_tokens=146,
        recovery_batch=64,
        recovery_batches=40,
        clips={"train": 2000, "validation": 400, "test": 400},
        job_seconds=300.0,
    ),
    "tiny": Size(
        shape="tiny",
        latency_tokens=(26,),
        latency_batches=(1, 2),
        latency_seconds=0.0,
        fisher_cases=((26, 4),),
        fisher_rounds=1,
        recovery_tokens=26,
        recovery_batch=4,
        recovery_batches=2,
        clips={"train": 12, "validation": 6, "test": 6},
        job_seconds=120.0,
    ),
}
