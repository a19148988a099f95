"""One sweep: the calls about it, with `await`. `Sweep` runs the same without it."""

from collections.abc import AsyncGenerator
from html import escape
from typing import Any, Protocol, Self

from api_schemas.api.resources import JobResource
from api_schemas.api.sweeps import SweepDetail, SweepFronts, SweepRow
from api_schemas.enums import TERMINAL_STATES, JobState, SweepState
from secateur import errors
from secateur.client import notebook
from secateur.client.async_job import AsyncJob
from secateur.client.event_stream import Deadline
from secateur.client.progress import ProgressCallback, tell
from secateur.client.transport.connection import Connection, parsed, segment

_REFRESH = 2.0
"""Seconds between polls of a sweep in `wait`."""


class _Viewed(Protocol):
    @property
    def view(self) -> SweepDetail: ...


class SweepBase:
    """Properties read from `view`, which is as old as the last call about the sweep; `refresh()` updates it."""

    @property
    def id(self: _Viewed) -> str:
        """`swp_…`."""
        return self.view.id

    @property
    def name(self: _Viewed) -> str | None:
        """The name given by the user."""
        return self.view.name

    @property
    def state(self: _Viewed) -> SweepState:
        """A string: `queued`, `running`, `paused` or `ended`."""
        return self.view.state

    @property
    def ended(self: _Viewed) -> bool:
        """Whether all its jobs have ended."""
        return self.view.state is SweepState.ENDED

    @property
    def rows(self: _Viewed) -> tuple[SweepRow, ...]:
        """One row per job, with its results."""
        return self.view.rows

    @property
    def fronts(self: _Viewed) -> SweepFronts:
        """Pareto-optimal jobs by `parameters`, `flops` and `latency`: ids, cheapest first."""
        return self.view.fronts

    def __repr__(self: _Viewed) -> str:
        jobs = ", ".join(f"{count} {state.value}" for state, count in self.view.jobs.items())
        return f"<{type(self).__name__} {self.view.id} {self.view.state.value}: {jobs}>"

    def _repr_html_(self: _Viewed) -> str:
        """A table, for notebooks."""
        return _html(self.view)

    def _ipython_display_(self: _Viewed) -> None:
        notebook.unless_shown(_html(self.view))


class AsyncSweep(SweepBase):
    """A sweep. `view` is the service's last description of it.

    >>> sweep = await client.submit_sweep(model, data, methods="paper", sparsity=0.5, finetune=None)
    >>> await sweep.wait()
    """

    def __init__(self, connection: Connection, view: SweepDetail) -> None:
        self._connection, self._view = connection, view
        self._path = f"/sweeps/{segment(view.id)}"
        self._etag: str | None = None

    @property
    def view(self) -> SweepDetail:
        """The service's last description of the sweep."""
        return self._view

    async def refresh(self) -> Self:
        """As `Sweep.refresh`."""
        headers = {"If-None-Match": self._etag} if self._etag else {}
        answer = await self._connection.call("GET", self._path, headers=headers)
        if answer.status_code != 304:
            self._view, self._etag = parsed(SweepDetail, answer), answer.headers.get("etag")
        return self

    async def wait(self, timeout: float | None = None, progress: ProgressCallback | None = None) -> Self:
        """As `Sweep.wait`."""
        deadline = Deadline(timeout)
        with notebook.live(self) as show:
            while True:
                await self.refresh()
                show()
                jobs = self.view.jobs
                done = sum(count for state, count in jobs.items() if state in TERMINAL_STATES)
                tell(progress, self.state.value, done, sum(jobs.values()), "jobs")
                if self.ended:
                    return self
                if deadline.remaining <= 0:
                    detail = (
                        f"Sweep {self.id} has not ended after {timeout:g} s. It continues: wait again, or cancel it."
                    )
                    raise errors.WaitTimeout(detail, code="wait_timeout")
                await self._connection.backend.sleep(min(_REFRESH, deadline.remaining))

    async def jobs(self) -> AsyncGenerator[AsyncJob]:
        """As `Sweep.jobs`."""
        for row in self.rows:
            if not row.deleted:
                yield AsyncJob(self._connection, await self._connection.get(JobResource, f"/jobs/{segment(row.job)}"))

    async def cancel(self) -> Self:
        """As `Sweep.cancel`."""
        return await self._move("cancel", {JobState.CANCELLING, JobState.CANCELLED})

    async def pause(self) -> Self:
        """As `Sweep.pause`."""
        return await self._move("pause", {JobState.PAUSED})

    async def resume(self) -> Self:
        """As `Sweep.resume`."""
        return await self._move("resume", {JobState.QUEUED, JobState.RUNNING})

    async def delete(self) -> None:
        """As `Sweep.delete`."""
        await self._connection.delete(self._path)

    async def _move(self, verb: str, reached: set[JobState]) -> Self:
        """What has come about already is no error: a first try may have done it."""
        try:
            self._view = await self._connection.post(SweepDetail, f"{self._path}/{verb}")
            self._etag = None
        except errors.Conflict:
            await self.refresh()
            if not reached & self.view.jobs.keys():
                raise
        return self


def _html(view: SweepDetail) -> str:
    """Everything in it is escaped: names are a user's, or a server's."""
    names = ("job", "state", "validation", "test", "parameters", "FLOPs", "front")
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    rows = ("".join(f"<td>{escape(cell)}</td>" for cell in _cells(view, row)) for row in view.rows)
    title = escape(f"{view.name or ''} ({view.id})".strip())
    return (
        f"<b>{title}</b>: {escape(view.state.value)}<table><tr>{head}</tr>"
        + "".join(f"<tr>{row}</tr>" for row in rows)
        + "</table>"
    )


def _cells(view: SweepDetail, row: SweepRow) -> list[str]:
    scores: list[Any] = [found.text if each and (found := each.headline) else "" for each in (row.validation, row.test)]
    sizes = ("", "") if row.size is None else (f"{row.size.total_parameters:,}", f"{row.size.flops:,}")
    on = [cost for cost, jobs in view.fronts.model_dump().items() if row.job in jobs]
    return [row.label, row.state.value, *scores, *sizes, ", ".join(on)]
