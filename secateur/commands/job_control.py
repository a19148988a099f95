"""`secateur cancel`, `pause`, `resume` and `delete`."""

import sys
from collections.abc import Callable, Sequence
from typing import Annotated

import typer
from rich.text import Text

from api_schemas.api.resources import JobResource
from api_schemas.api.sweeps import SweepDetail
from secateur.client.job import Job
from secateur.client.sweep import Sweep
from secateur.commands.shared import arguments
from secateur.commands.shared.arguments import PREFIXES, kind_of
from secateur.commands.shared.exit_status import ExitStatus
from secateur.commands.shared.group import JOBS, UPLOADS
from secateur.commands.shared.session import Session, served
from secateur.documents import Deleted
from secateur.terminal.formatting import job_state
from secateur.terminal.sweeps import in_words


def register(app: typer.Typer) -> None:
    """The four."""
    served(app, JOBS)(cancel)
    served(app, JOBS)(pause)
    served(app, JOBS)(resume)
    served(app, UPLOADS)(delete)


def cancel(session: Session, ids: arguments.Steered) -> None:
    """Cancel jobs, or all jobs of a sweep; finished steps are kept."""
    _move(session, ids, Job.cancel, Sweep.cancel)


def pause(session: Session, ids: arguments.Steered) -> None:
    """Pause jobs, each after its current step; finished steps are kept."""
    _move(session, ids, Job.pause, Sweep.pause)


def resume(session: Session, ids: arguments.Steered) -> None:
    """Queue paused jobs again; each continues after its last step."""
    _move(session, ids, Job.resume, Sweep.resume)


def delete(
    session: Session,
    ids: arguments.Things,
    yes: Annotated[
        bool,
        typer.Option("--yes", "-y", help="Do not ask for confirmation. Without a terminal, the command never asks."),
    ] = False,
) -> None:
    """Delete ended jobs with their checkpoints, sweeps with their jobs, and models and datasets that no unfinished job needs."""
    removers = {
        "job": session.client.delete_job,
        "sweep": session.client.delete_sweep,
        "model": session.client.delete_model,
        "dataset": session.client.delete_dataset,
    }
    ids = [session.whole_id(each, *PREFIXES) for each in ids]
    chosen = [(each, removers[kind_of(each)]) for each in ids]
    if not yes and sys.stdin.isatty() and session.err.is_terminal:
        asked = f"Delete {', '.join(ids)} permanently?"
        if not typer.confirm(asked, err=True):
            raise typer.Exit(ExitStatus.REFUSED)
    gone: list[str] = []
    try:
        for identifier, remove in chosen:
            remove(identifier)
            gone.append(identifier)
    finally:
        if gone:
            session.give([Deleted(id=each) for each in gone], *(f"{each} is deleted." for each in gone))


def _move(session: Session, ids: Sequence[str], verb: Callable[[Job], Job], of_sweep: Callable[[Sweep], Sweep]) -> None:
    moved: list[JobResource | SweepDetail] = []
    try:
        for each in [session.whole_id(each, "job", "swp") for each in ids]:
            if each.startswith("swp_"):
                moved.append(of_sweep(session.client.sweep(each)).view)
            else:
                moved.append(verb(session.client.job(each)).view)
    finally:
        if moved:
            session.give(moved, *map(_line, moved))


def _line(view: JobResource | SweepDetail) -> Text:
    if isinstance(view, SweepDetail):
        return Text(f"{in_words(view)}  {view.id}")
    return job_state(view).append(f"  {view.id}", "default")
