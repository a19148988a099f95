"""One job, without `await`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Self

from api_schemas.api.resources import JobResource
from api_schemas.results.events import JobEvent
from secateur import errors
from secateur.client.async_job import AsyncCheckpoint, AsyncJob, CheckpointBase
from secateur.client.files.downloads import download
from secateur.client.job_base import JobBase
from secateur.client.progress import ProgressCallback
from secateur.client.transport.backend import iterate, run


class Checkpoint(CheckpointBase):
    """One finished step of a job.

    >>> for checkpoint in job.checkpoints:
    ...     print(checkpoint.step, checkpoint.metrics.validation.accuracy)
    >>> again = client.submit(job.checkpoints[0], data, sparsity=0.5)  # goes on from there
    """

    def download(self, folder: str | Path, progress: ProgressCallback | None = None) -> Path:
        """All its files into `folder`; see `Job.download`.

        >>> job.checkpoints[-1].download("./pruned/last")
        """
        return run(download(self._connection, self._job_id, self.view, Path(folder), progress))


class Job(JobBase):
    """A job. What it knows is as old as the last call about it; `refresh()` renews it.

    >>> job = client.submit(model, data, sparsity=0.5)
    >>> job.wait().download("./pruned")
    """

    def __init__(self, job: AsyncJob) -> None:
        self._job = job

    @property
    def view(self) -> JobResource:
        """All that the service last said of it."""
        return self._job.view

    def refresh(self) -> Self:
        """Ask the service how the job is; costs little where nothing has changed.

        >>> job.refresh().state
        """
        run(self._job.refresh())
        return self

    def wait(self, timeout: float | None = None, progress: ProgressCallback | None = None) -> Self:
        """Until the job has succeeded. A paused job is waited for. In a notebook a bar shows where it is.

        >>> job.wait(timeout=3600, progress=lambda p: print(p.phase, f"{p.fraction:.0%}"))

        Args:
            timeout: seconds; then WaitTimeout is raised, and the job goes on.
            progress: called with a Progress whenever the job has come further.

        Raises JobFailed, JobTimedOut (its own `limits.max_runtime`), JobCancelled, WaitTimeout, and ConnectionFailed after five
        minutes without the service.
        """
        try:
            run(self._job.wait(timeout, progress))
        except (errors.JobFailed, errors.JobCancelled) as error:
            error.job = self
            raise
        return self

    def events(self, after: int | None = None, follow: bool = True) -> Iterator[JobEvent]:
        """What happened and what happens, each once and in order, until the job has ended. `after`: only events numbered above;
        without `follow`, only what happened so far.

        >>> for event in job.events():
        ...     print(event.seq, event.body.type)
        """
        return iterate(self._job.events(after, follow))

    def cancel(self) -> Self:
        """End it; its finished steps stay. Of a job that has ended otherwise: Conflict.

        >>> job.cancel()
        """
        run(self._job.cancel())
        return self

    def pause(self) -> Self:
        """After the step that runs; nothing that is finished is lost.

        >>> job.pause()
        """
        run(self._job.pause())
        return self

    def resume(self) -> Self:
        """Queue a paused job again; it goes on after its last step.

        >>> job.resume()
        """
        run(self._job.resume())
        return self

    def delete(self) -> None:
        """Remove it with its checkpoints, events and logs. Before its end: Conflict.

        >>> job.delete()
        """
        run(self._job.delete())

    def logs(self, follow: bool = False, attempt: int | None = None) -> Iterator[str]:
        """The engine's log, line by line. `follow`: until the job has ended. `attempt`: that one, not the newest.

        >>> print(*job.logs(), sep="\\n")
        """
        return iterate(self._job.logs(follow, attempt))

    @property
    def checkpoints(self) -> list[Checkpoint]:
        """Its finished steps that can be downloaded, in order; the service is asked each time.

        >>> job.checkpoints[-1].download("./last")
        """
        return [_blocking(each) for each in run(self._job.checkpoints)]

    def checkpoint(self, step: int | None = None, *, partial: bool = False) -> Checkpoint:
        """One step, by default the result. With `partial`, of a job that has none (yet) the last step that it finished.

        >>> job.checkpoint(3).metrics.validation.accuracy

        Raises Conflict where the job has no result and neither a step nor `partial` is given, NotFound where there is no such
        step, or where the result is the original (step 0).
        """
        return _blocking(run(self._job.checkpoint(step, partial=partial)))

    def download(
        self,
        folder: str | Path,
        step: int | None = None,
        progress: ProgressCallback | None = None,
        *,
        partial: bool = False,
    ) -> Path:
        """The files of a step, by default of the result, into `folder`; returns it. `partial` as in `checkpoint`.

        What an earlier call began is gone on with. Every file's SHA-256 is checked, and none has its name before all are right.

        >>> job.download("./pruned")

        Raises as `checkpoint` does, and ChecksumMismatch.
        """
        return run(self._job.download(folder, step, progress, partial=partial))

    def report(self) -> str:
        """The report of its newest step: a page of HTML.

        >>> Path("report.html").write_text(job.report())
        """
        return run(self._job.report())


def _blocking(checkpoint: AsyncCheckpoint) -> Checkpoint:
    return Checkpoint(checkpoint._connection, checkpoint._job_id, checkpoint.view)
