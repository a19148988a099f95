"""`secateur sweep` and `secateur sweeps`: many jobs on one model and one dataset, managed together."""

from itertools import islice
from typing import Annotated

import typer

from api_schemas.api.sweeps import SweepDetail
from api_schemas.enums import JobState
from api_schemas.errors import ErrorCode
from api_schemas.spec.sweep import MOST_JOBS, Methods
from secateur import errors
from secateur.client.sweep import Sweep
from secateur.commands.shared import arguments, completion
from secateur.commands.shared.exit_status import Interrupted
from secateur.commands.shared.group import JOBS
from secateur.commands.shared.pruning_options import PruningOptions, options_of, with_pruning_options
from secateur.commands.shared.session import Session, served
from secateur.commands.upload import uploaded
from secateur.specs.job_request import labels_of
from secateur.specs.sweep_request import draft_sweep
from secateur.terminal.progress_bars import transfer
from secateur.terminal.sweeps import sweep_page, sweeps_table


def register(app: typer.Typer) -> None:
    """Both commands."""
    served(app, JOBS, patient=True)(with_pruning_options(sweep))
    served(app, JOBS)(sweeps)


def sweep(
    session: Session,
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL", help="Like --model of submit.", autocompletion=completion.models, show_default=False
        ),
    ] = None,
    data: arguments.Data = None,
    methods: Annotated[
        Methods | None,
        typer.Option(
            help="Named methods, one job each: paper is the twelve methods of arXiv 2509.26207.", show_default=False
        ),
    ] = None,
    grid: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH=VALUE,VALUE",
            help="Values of a field, combined with all others and all methods: --grid seed=0,1,2. May be repeated.",
            show_default=False,
        ),
    ] = None,
    *,
    pruning: PruningOptions,
    one_shot: Annotated[bool, typer.Option("--one-shot", help="One cut per job, without recovery.")] = False,
    settings: arguments.Settings = None,
    spec: Annotated[
        arguments.SpecFile,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="A sweep as YAML or JSON: base, methods, grid, specs; options override it.",
            show_default=False,
        ),
    ] = None,
    name: arguments.JobName = None,
    label: arguments.Labels = None,
    priority: arguments.Priority = None,
    max_parallel: Annotated[
        int | None,
        typer.Option(
            min=1, max=MOST_JOBS, help="Most jobs of the sweep that run at once. Default: 4.", show_default=False
        ),
    ] = None,
    idempotency_key: Annotated[
        str | None,
        typer.Option(help="The same key and request within a day create no second sweep.", show_default=False),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until all jobs have ended; Ctrl-C stops waiting, not the sweep.")
    ] = False,
    timeout: arguments.Timeout = None,
) -> None:
    """Submit many jobs on one model and one dataset; prints the sweep's id. With --wait, prints its table.

    For example: `secateur sweep ./my-ast --data ./my-data --methods paper --sparsity 0.5 --one-shot --wait`
    """
    options = options_of(pruning, model, data, name, labels_of(label or ()), priority)
    draft = draft_sweep(
        spec, options, settings or (), methods=methods, grid=grid or (), one_shot=one_shot, max_parallel=max_parallel
    )
    body = uploaded(session, draft)
    found = session.client.submit_sweep(spec=body, idempotency_key=idempotency_key)
    if not wait:
        session.note(f"{len(found.rows)} jobs. See their state: secateur show {found.id}")
        session.give(found.view, found.id)
        return
    session.note(f"{found.id}: {len(found.rows)} jobs.")
    _wait(session, found, timeout)


def sweeps(session: Session, limit: arguments.Limit = 20) -> None:
    """List sweeps, newest first."""
    found = list(islice(session.client.sweeps(), limit))
    session.give(found, sweeps_table(found, session.out.width) if found else "There are no sweeps.")


def _wait(session: Session, sweep: Sweep, timeout: float | None) -> None:
    """Gives the table; raises how the worst of its jobs ended, or Interrupted."""
    try:
        with transfer(session.err, "jobs") as told:
            sweep.wait(timeout, told)
    except KeyboardInterrupt:
        detail = f"Stopped waiting. {sweep.id} continues.\n  to look: secateur show {sweep.id}"
        raise Interrupted(f"{detail}\n  to cancel: secateur cancel {sweep.id}", code="interrupted") from None
    session.give(sweep.view, sweep_page(sweep.view, session.out.width))
    _raise_for_end(sweep.view)


def _raise_for_end(view: SweepDetail) -> None:
    failed = [row for row in view.rows if row.state is JobState.FAILED]
    if failed:
        detail = f"{len(failed)} of {len(view.rows)} jobs failed; the first is {failed[0].label}"
        error = failed[0].error
        code = ErrorCode.ENGINE_ERROR if error is None else error.code
        raise errors.JobFailed(f"{detail}: {error.detail if error else ''}", code=code.value)
    if view.jobs.get(JobState.CANCELLED):
        raise errors.JobCancelled(f"{view.jobs[JobState.CANCELLED]} jobs were cancelled.", code="cancelled")
