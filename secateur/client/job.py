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
    >>> again = client.submit(job.checkpoints[0], data, sparsity=0.5)  # continues from there
    """

    def download(self, folder: str | Path, progress: ProgressCallback | None = None) -> Path:
        """Download all its files into `folder`; see `Job.download`.

        >>> job.checkpoints[-1].download("./pruned/last")
        """
        return run(download(self._connection, self._job_id, self.view, Path(folder), progress))


class Job(JobBase):
    """A job. Its properties are as old as the last call about it; `refresh()` updates them.

    >>> job = client.submit(model, data, sparsity=0.5)
    >>> job.wait().download("./pruned")
    """

    def __init__(self, job: AsyncJob) -> None:
        self._job = job

    @property
    def view(self) -> JobResource:
        """The service's last description of the job."""
        return self._job.view

    def refresh(self) -> Self:
        """Fetch the current state from the service; cheap if nothing has changed.

        >>> job.refresh().state
        """
        run(self._job.refresh())
        return self

    def wait(self, timeout: float | None = None, progress: ProgressCallback | None = None) -> Self:
        """Wait until the job has succeeded, also while it is paused. In a notebook, shows a progress bar.

        >>> job.wait(timeout=3600, progress=lambda p: print(p.phase, f"{p.fraction:.0%}"))

        Args:
            timeout: seconds after which WaitTimeout is raised; the job continues.
            progress: called with a Progress whenever the job has advanced.

        Raises JobFailed, JobTimedOut (its own `limits.max_runtime`), JobCancelled, WaitTimeout, and ConnectionFailed if the
        service cannot be reached for five minutes.
        """
        try:
            run(self._job.wait(timeout, progress))
        except (errors.JobFailed, errors.JobCancelled) as error:
            error.job = self
            raise
        return self

    def events(self, after: int | None = None, follow: bool = True) -> Iterator[JobEvent]:
        """All events, each once and in order, until the job has ended. `after`: only events with a greater number;
        `follow=False`: only those so far.

        >>> for event in job.events():
        ...     print(event.seq, event.body.type)
        """
        return iterate(self._job.events(after, follow))

    def cancel(self) -> Self:
        """Cancel the job; its finished steps are kept. Raises Conflict if it has ended otherwise.

        >>> job.cancel()
        """
        run(self._job.cancel())
        return self

    def pause(self) -> Self:
        """Pause the job after its current step; no finished work is lost.

        >>> job.pause()
        """
        run(self._job.pause())
        return self

    def resume(self) -> Self:
        """Queue a paused job again; it continues after its last step.

        >>> job.resume()
        """
        run(self._job.resume())
        return self

    def delete(self) -> None:
        """Delete the job with its checkpoints, events and logs. Raises Conflict if it has not ended.

        >>> job.delete()
        """
        run(self._job.delete())

    def logs(self, follow: bool = False, attempt: int | None = None) -> Iterator[str]:
        """The engine's log, line by line. `follow`: until the job has ended. `attempt`: a certain attempt instead of the
        newest.

        >>> print(*job.logs(), sep="\\n")
        """
        return iterate(self._job.logs(follow, attempt))

    @property
    def checkpoints(self) -> list[Checkpoint]:
        """Its finished steps that can be downloaded, in order; fetched on every access.

        >>> job.checkpoints[-1].download("./last")
        """
        return [_blocking(each) for each in run(self._job.checkpoints)]

    def checkpoint(self, step: int | None = None, *, partial: bool = False) -> Checkpoint:
        """One step, by default the result. With `partial`, the last finished step if the job has no result (yet).

        >>> job.checkpoint(3).metrics.validation.accuracy

        Raises Conflict if the job has no result and neither a step nor `partial` is given, NotFound if there is no such step or
        if the result is the original (step 0).
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
        """Download the files of a step, by default of the result, into `folder`; returns the folder. `partial` as in
        `checkpoint`.

        An earlier, interrupted download is resumed. Every file's SHA-256 is checked, and files get their names only after all
        are correct.

        >>> job.download("./pruned")

        Raises the errors of `checkpoint`, and ChecksumMismatch.
        """
        return run(self._job.download(folder, step, progress, partial=partial))

    def report(self) -> str:
        """The report of its newest step, as HTML.

        >>> Path("report.html").write_text(job.report())
        """
        return run(self._job.report())


def _blocking(checkpoint: AsyncCheckpoint) -> Checkpoint:
    return Checkpoint(checkpoint._connection, checkpoint._job_id, checkpoint.view)
