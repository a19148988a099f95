"""`secateur wait`: waits until jobs have ended, watching all of them at once."""

import asyncio
from collections.abc import Sequence

import typer
from rich.padding import Padding

from api_schemas.api.resources import JobResource
from secateur import errors
from secateur.client.async_client import AsyncSecateur
from secateur.client.async_job import AsyncJob
from secateur.commands.shared import arguments
from secateur.commands.shared.exit_status import Interrupted, say
from secateur.commands.shared.group import JOBS
from secateur.commands.shared.session import Session, served
from secateur.errors import SecateurError
from secateur.terminal.details import job_page
from secateur.terminal.progress_bars import JobBars

_WORST_FIRST = (errors.JobFailed, errors.JobCancelled, errors.WaitTimeout)


def register(app: typer.Typer) -> None:
    """The command."""
    served(app, JOBS, patient=True)(wait)


def wait(session: Session, ids: arguments.Jobs, timeout: arguments.Timeout = None) -> None:
    """Wait until jobs have ended. Ctrl-C stops waiting, not the jobs.

    With several jobs the worst outcome is the exit status: 3 if one failed, else 4 if one was cancelled, else 5 on a timeout.
    """
    wait_for(session, [session.whole_id(each, "job") for each in ids], timeout)


def wait_for(session: Session, ids: Sequence[str], timeout: float | None, alone: bool = False) -> None:
    """Wait and give the jobs, `alone` the one job; raises how the worst of them ended, or Interrupted."""
    jobs: dict[str, AsyncJob] = {}
    interrupted = False
    ends: list[SecateurError] = []
    try:
        with JobBars(session.err) as bars:
            ends = asyncio.run(_all_of(session.awaiting_client(), ids, timeout, jobs, bars))
    except KeyboardInterrupt:
        interrupted = True
    views = [jobs[each].view for each in dict.fromkeys(ids) if each in jobs]
    pages = [] if interrupted else [job_page(view, session.out.width) for view in views]
    if views:
        session.give(
            views[0] if alone else views, *(Padding(page, (0, 0, int(page is not pages[-1]), 0)) for page in pages)
        )
    if interrupted:
        raise _interrupted(views, ids)
    ends.sort(key=lambda end: [isinstance(end, kind) for kind in _WORST_FIRST], reverse=True)
    for end in ends[1:] if not session.as_json else ():
        say(end, session.err, as_json=False)
    if ends:
        raise ends[0]


async def _all_of(
    client: AsyncSecateur, ids: Sequence[str], timeout: float | None, jobs: dict[str, AsyncJob], bars: JobBars
) -> list[SecateurError]:
    """How those ended that did not succeed; `jobs` is filled, so that it is known whatever happens."""
    async with client:
        for each in dict.fromkeys(ids):
            jobs[each] = await client.job(each)
            bars.show(jobs[each].view)
        ends = await asyncio.gather(*(_end_of(job, timeout, bars) for job in jobs.values()))
    return [end for end in ends if end is not None]


async def _end_of(job: AsyncJob, timeout: float | None, bars: JobBars) -> SecateurError | None:
    try:
        await job.wait(timeout, progress=lambda _: bars.show(job.view))
    except _WORST_FIRST as end:
        return end
    return None


def _interrupted(views: Sequence[JobResource], ids: Sequence[str]) -> Interrupted:
    open_ = [view.id for view in views if view.finished_at is None] or list(ids)
    them, goes = " ".join(open_), "continues" if len(open_) == 1 else "continue"
    detail = f"Stopped waiting. {', '.join(open_)} {goes}."
    detail += f"\n  to wait again: secateur wait {them}\n  to cancel:     secateur cancel {them}"
    return Interrupted(detail, code="interrupted")
