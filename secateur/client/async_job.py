"""One job: the calls about it, with `await`. `Job` runs the same without it."""

import time
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from pathlib import Path
from typing import Any, Self

from api_schemas.api.resources import CheckpointResource, JobResource, Page
from api_schemas.enums import TERMINAL_STATES, JobState
from api_schemas.errors import ErrorCode
from api_schemas.results.events import JobEvent
from api_schemas.results.metrics import StepMetrics
from api_schemas.spec.inputs import StepModel
from secateur import errors
from secateur.client import notebook
from secateur.client.event_stream import Deadline, events_so_far, follow_events
from secateur.client.files.downloads import download
from secateur.client.job_base import JobBase
from secateur.client.job_log import lines
from secateur.client.progress import ProgressCallback, tell
from secateur.client.transport.connection import Connection, parsed, segment

_REFRESH = 1.0
"""Seconds between polls of a job in `wait`."""


class CheckpointBase:
    """One finished step of a job. `view` is the service's description of it."""

    def __init__(self, connection: Connection, job_id: str, view: CheckpointResource) -> None:
        self._connection, self._job_id, self.view = connection, job_id, view

    @property
    def step(self) -> int:
        """Number of the step, from 1."""
        return self.view.step

    @property
    def metrics(self) -> StepMetrics:
        """Metrics of the step."""
        return self.view.metrics

    @property
    def reference(self) -> StepModel:
        """A reference to use as the model of another job. You can also pass the checkpoint itself to `submit`."""
        return StepModel(type="step", job=self._job_id, step=self.step)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._job_id} step {self.step}>"


class AsyncCheckpoint(CheckpointBase):
    """One finished step of a job."""

    async def download(self, folder: str | Path, progress: ProgressCallback | None = None) -> Path:
        """As `Checkpoint.download`."""
        return await download(self._connection, self._job_id, self.view, Path(folder), progress)


class AsyncJob(JobBase):
    """A job. `view` is the service's last description of it.

    >>> job = await client.submit(model, data, sparsity=0.5)
    >>> await job.wait()
    >>> await job.download("./pruned")
    """

    def __init__(self, connection: Connection, view: JobResource) -> None:
        self._connection, self._view = connection, view
        self._path = f"/jobs/{segment(view.id)}"
        self._etag: str | None = None
        self._last_event = 0

    @property
    def view(self) -> JobResource:
        """The service's last description of the job."""
        return self._view

    async def refresh(self) -> Self:
        """As `Job.refresh`."""
        headers = {"If-None-Match": self._etag} if self._etag else {}
        answer = await self._connection.call("GET", self._path, headers=headers)
        if answer.status_code != 304:
            self._view, self._etag = parsed(JobResource, answer), answer.headers.get("etag")
        return self

    async def wait(self, timeout: float | None = None, progress: ProgressCallback | None = None) -> Self:
        """As `Job.wait`."""
        with notebook.live(self) as show:
            looked = float("-inf")
            following = follow_events(self._connection, self.id, self._last_event, Deadline(timeout))
            async with aclosing(following):
                async for event in following:
                    if event is not None:
                        self._last_event = event.seq
                    if time.monotonic() - looked >= _REFRESH:
                        looked = time.monotonic()
                        await self._look(progress)
                        show()
            await self._look(progress)
            show()
        self._raise_for_end()
        tell(progress, self.state.value, 100.0, 100.0, "%")
        return self

    async def events(self, after: int | None = None, follow: bool = True) -> AsyncGenerator[JobEvent]:
        """As `Job.events`."""
        if not follow:
            async with aclosing(events_so_far(self._connection, self.id, after or 0)) as known:
                async for each in known:
                    yield each
            return
        following = follow_events(self._connection, self.id, after or 0, Deadline(None))
        async with aclosing(following):
            async for event in following:
                if event is not None:
                    yield event

    async def cancel(self) -> Self:
        """As `Job.cancel`."""
        return await self._move("cancel", (JobState.CANCELLING, JobState.CANCELLED))

    async def pause(self) -> Self:
        """As `Job.pause`."""
        return await self._move("pause", (JobState.PAUSED,))

    async def resume(self) -> Self:
        """As `Job.resume`."""
        return await self._move("resume", (JobState.QUEUED, JobState.RUNNING))

    async def delete(self) -> None:
        """As `Job.delete`."""
        await self._connection.delete(self._path)

    async def logs(self, follow: bool = False, attempt: int | None = None) -> AsyncGenerator[str]:
        """As `Job.logs`."""

        async def ended() -> bool:
            await self.refresh()
            return self.ended

        source = lines(self._connection, f"{self._path}/logs", attempt, ended if follow else None)
        async with aclosing(source):
            async for line in source:
                yield line

    @property
    def checkpoints(self) -> Coroutine[Any, Any, list[AsyncCheckpoint]]:
        """As `Job.checkpoints`, but awaited: `await job.checkpoints`."""
        return self._checkpoints()

    async def checkpoint(self, step: int | None = None, *, partial: bool = False) -> AsyncCheckpoint:
        """As `Job.checkpoint`."""
        if step is None:
            step = await self._result_step(partial=partial)
        found = await self._connection.get(CheckpointResource, f"{self._path}/checkpoints/{step}")
        return AsyncCheckpoint(self._connection, self.id, found)

    async def download(
        self,
        folder: str | Path,
        step: int | None = None,
        progress: ProgressCallback | None = None,
        *,
        partial: bool = False,
    ) -> Path:
        """As `Job.download`."""
        return await (await self.checkpoint(step, partial=partial)).download(folder, progress)

    async def report(self) -> str:
        """As `Job.report`."""
        return (await self._connection.call("GET", f"{self._path}/report")).text

    async def _checkpoints(self) -> list[AsyncCheckpoint]:
        page = await self._connection.get(Page[CheckpointResource], f"{self._path}/checkpoints")
        return [AsyncCheckpoint(self._connection, self.id, each) for each in page.items]

    async def _result_step(self, *, partial: bool) -> int:
        """The step that the job calls its result; with `partial`, of one that has none, its last."""
        if self.result is None:
            await self.refresh()
        if (result := self.result) is not None:
            if result.step:
                return result.step
            detail = f"The result of {self.id} is step 0, the original: {result.detail} To get another step, give its number."
            raise errors.NotFound(detail, code=ErrorCode.NO_CHECKPOINT)
        found = [each.step for each in await self.checkpoints]
        if not found:
            detail = f"Job {self.id} is {self.state.value} and has no checkpoint yet: its first step is not complete."
            raise errors.NotFound(detail, code=ErrorCode.NO_CHECKPOINT)
        if not partial:
            state = f"ended as {self.state.value}" if self.ended else f"is {self.state.value}"
            way = "Name a step" if self.ended else "Wait until it ends, name a step"
            advice = f"{way}, or ask for the last one with `partial=True`."
            steps = ", ".join(map(str, found))
            detail = f"Job {self.id} {state} and has no result; finished steps: {steps}."
            raise errors.Conflict(detail, code="no_result", advice=advice)
        return max(found)

    async def _move(self, verb: str, reached: tuple[JobState, ...]) -> Self:
        """What has come about already is no error: a first try may have done it."""
        try:
            self._view = await self._connection.post(JobResource, f"{self._path}/{verb}")
            self._etag = None
        except errors.Conflict:
            await self.refresh()
            if self.state not in reached:
                raise
        return self

    async def _look(self, progress: ProgressCallback | None) -> None:
        before = self.progress
        await self.refresh()
        now = self.progress
        if now is not None and now != before:
            tell(progress, now.phase.value, 100.0 * now.fraction, 100.0, "%")

    def _raise_for_end(self) -> None:
        view = self.view
        if view.state is JobState.CANCELLED:
            raise errors.JobCancelled(
                f"Job {self.id} was cancelled. Its finished steps can be downloaded by number.",
                code="cancelled",
                job=self,
            )
        if view.state not in TERMINAL_STATES or view.error is None:
            return
        kind = errors.JobTimedOut if view.error.code is ErrorCode.MAX_RUNTIME else errors.JobFailed
        detail = f"Job {self.id} failed: {view.error.detail}"
        raise kind(detail, code=view.error.code.value, items=view.error.errors, job=self)
