"""One sweep, without `await`."""

from collections.abc import Iterator
from typing import Self

from api_schemas.api.sweeps import SweepDetail
from secateur.client.async_sweep import AsyncSweep, SweepBase
from secateur.client.job import Job
from secateur.client.progress import ProgressCallback
from secateur.client.transport.backend import iterate, run


class Sweep(SweepBase):
    """A sweep: many jobs on one model and one dataset. What it knows is as old as the last call about it.

    >>> sweep = client.submit_sweep(model, data, methods="paper", sparsity=0.5, finetune=None)
    >>> for row in sweep.wait().rows:
    ...     print(row.label, row.validation, row.job in sweep.fronts.flops)
    """

    def __init__(self, sweep: AsyncSweep) -> None:
        self._sweep = sweep

    @property
    def view(self) -> SweepDetail:
        """All that the service last said of it."""
        return self._sweep.view

    def refresh(self) -> Self:
        """Ask the service how the sweep is; costs little where nothing has changed.

        >>> sweep.refresh().state
        """
        run(self._sweep.refresh())
        return self

    def wait(self, timeout: float | None = None, progress: ProgressCallback | None = None) -> Self:
        """Until all its jobs have ended, well or not: the rows say how. In a notebook the table is shown meanwhile.

        >>> sweep.wait(timeout=3600, progress=lambda p: print(f"{p.done:g} of {p.total:g} jobs"))

        Raises WaitTimeout after `timeout` seconds; the sweep goes on.
        """
        run(self._sweep.wait(timeout, progress))
        return self

    def jobs(self) -> Iterator[Job]:
        """Its jobs in order, each fetched as it is asked for; deleted ones are left out.

        >>> best = sweep.fronts.flops[-1]
        >>> next(job for job in sweep.jobs() if job.id == best).download("./pruned")
        """
        return (Job(job) for job in iterate(self._sweep.jobs()))

    def cancel(self) -> Self:
        """End what has not ended. Where all have ended otherwise: Conflict.

        >>> sweep.cancel()
        """
        run(self._sweep.cancel())
        return self

    def pause(self) -> Self:
        """Every job after the step that runs; nothing that is finished is lost.

        >>> sweep.pause()
        """
        run(self._sweep.pause())
        return self

    def resume(self) -> Self:
        """Queue its paused jobs again.

        >>> sweep.resume()
        """
        run(self._sweep.resume())
        return self

    def delete(self) -> None:
        """Remove it with its jobs and their checkpoints. Before the end of all: Conflict.

        >>> sweep.delete()
        """
        run(self._sweep.delete())
