"""Progress of uploads, downloads and jobs, reported to a callback."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """Progress of an upload, a download or a job.

    >>> client.upload_model("./my-ast", progress=lambda p: print(f"{p.phase} {p.fraction:.0%}"))
    """

    phase: str
    """`hashing`, `packing`, `uploading`, `checking`, `downloading`; for a job its phase (`scoring`, `finetuning`, …), and
    `succeeded` at its end."""
    done: float
    total: float
    unit: str
    """`bytes`, `files`, `rows`; for a job `%`, the share of the whole job, not of the phase."""

    @property
    def fraction(self) -> float:
        """A number in [0, 1]."""
        return min(1.0, self.done / self.total) if self.total else 1.0


ProgressCallback = Callable[[Progress], object]
"""Called with a Progress, in the thread or on the event loop of the call; its return value is ignored."""


def tell(progress: ProgressCallback | None, phase: str, done: float, total: float, unit: str = "bytes") -> None:
    """Call `progress`, if there is one."""
    if progress is not None:
        progress(Progress(phase, done, total, unit))
