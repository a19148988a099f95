"""One sweep, without `await`."""

from collections.abc import Iterator
from typing import Self

from api_schemas.api.sweeps import SweepDetail
from secateur.client.async_sweep import AsyncSweep, SweepBase
from secateur.client.job import Job
from secateur.client.progress import ProgressCallback
from secateur.client.transport.backend import iterate, run


class Sweep(SweepBase):
    """A sweep: many jobs on one model and one dataset. Its properties are as old as the last call about it.

    >>> sweep = client.submit_sweep(model, data, methods="paper", sparsity=0.5, finetune=None)
    >>> for row in sweep.wait().rows:
    ...     print(row.label, row.validation, row.job in sweep.fronts.flops)
    """

    def __init__(self, sweep: AsyncSweep) -> None:
        self._sweep = sweep

    @property
    def view(self) -> SweepDetail:
        """The service's last description of the sweep."""
        return self._sweep.view

    def refresh(self) -> Self:
        """Fetch the current state from the service; cheap if nothing has changed.

        >>> sweep.refresh().state
        """
        run(self._sweep.refresh())
        return self

    def wait(self, timeout: float | None = None, progress: ProgressCallback | None = None) -> Self:
        """Wait until all its jobs have ended, successfully or not: the rows say which. In a notebook, shows the table
        meanwhile.

        >>> sweep.wait(timeout=3600, progress=lambda p: print(f"{p.done:g} of {p.total:g} jobs"))

        Raises WaitTimeout after `timeout` seconds; the sweep continues.
        """
        run(self._sweep.wait(timeout, progress))
        return self

    def jobs(self) -> Iterator[Job]:
        """Its jobs in order, each fetched when you reach it; deleted jobs are skipped.

        >>> best = sweep.fronts.flops[-1]
        >>> next(job for job in sweep.jobs() if job.id == best).download("./pruned")
        """
        return (Job(job) for job in iterate(self._sweep.jobs()))

    def cancel(self) -> Self:
        """Cancel all unfinished jobs. Raises Conflict if all have ended otherwise.

        >>> sweep.cancel()
        """
        run(self._sweep.cancel())
        return self

    def pause(self) -> Self:
        """Pause every job after its current step; no finished work is lost.

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
        """Delete the sweep with its jobs and their checkpoints. Raises Conflict if any job has not ended.

        >>> sweep.delete()
        """
        run(self._sweep.delete())
