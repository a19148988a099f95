"""`secateur show`, `compare`, `limits` and `schema`: one thing in full."""

from collections.abc import Callable
from typing import Annotated, Any

import typer
from rich.table import Table

from api_schemas.api.resources import Limits, Quota
from api_schemas.spec.job import spec_schema
from secateur.commands.shared import arguments, completion
from secateur.commands.shared.arguments import PREFIXES, kind_of
from secateur.commands.shared.exit_status import write_json
from secateur.commands.shared.group import JOBS, SERVICE
from secateur.commands.shared.outputs import OUTPUTS, output_schema
from secateur.commands.shared.session import Session, served, with_errors
from secateur.errors import InvalidRequest
from secateur.near_matches import near
from secateur.terminal import consoles
from secateur.terminal.comparison import comparison, comparison_document
from secateur.terminal.details import dataset_page, job_page, model_page
from secateur.terminal.formatting import size
from secateur.terminal.sweeps import sweep_page


def register(app: typer.Typer) -> None:
    """The four."""
    served(app, JOBS)(show)
    served(app, JOBS)(compare)
    served(app, SERVICE)(limits)
    app.command(rich_help_panel=SERVICE)(schema)


def show(session: Session, identifier: arguments.Anything) -> None:
    """Show a job, a sweep, a model or a dataset in full."""
    identifier = session.whole_id(identifier, *PREFIXES)
    match kind_of(identifier):
        case "job":
            job = session.client.job(identifier).view
            session.give(job, job_page(job, session.out.width))
        case "sweep":
            sweep = session.client.sweep(identifier).view
            session.give(sweep, sweep_page(sweep, session.out.width))
        case "model":
            model = session.client.model(identifier)
            session.give(model, model_page(model))
        case "dataset":
            dataset = session.client.dataset(identifier)
            session.give(dataset, dataset_page(dataset))


def compare(
    session: Session,
    ids: Annotated[
        list[str], typer.Argument(metavar="JOB JOB…", help="Two or more jobs.", autocompletion=completion.jobs)
    ],
) -> None:
    """Compare the steps of several jobs: sparsity, metric, drop, parameters, FLOPs, bytes, speed-up."""
    jobs = [session.client.job(each).view for each in dict.fromkeys(session.whole_id(each, "job") for each in ids)]
    if len({job.request.model.model_dump_json() for job in jobs}) > 1:
        session.note("These jobs started from different models: each drop is relative to the job's own original.")
    session.give(comparison_document(jobs), comparison(jobs, session.out.width))


def limits(session: Session) -> None:
    """Show what the service accepts, and how much of your quotas you use."""
    found = session.client.limits()
    session.give(found, _limits_table(found))


def schema(
    command: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="COMMAND", help="Schema of what it prints with --json: `jobs`, `keys list`.", show_default=False
        ),
    ] = None,
) -> None:
    """Print the JSON Schema of a spec, for editors and validators; or of what a command prints with --json."""
    with_errors(False, lambda: write_json(_schema(" ".join(command or ())), consoles.results()))


def _schema(command: str) -> dict[str, Any]:
    if not command:
        return spec_schema()
    if command not in OUTPUTS:
        meant = near(command, OUTPUTS)
        hint = f"; did you mean {meant}?" if meant else ". The commands with it: " + ", ".join(OUTPUTS)
        raise InvalidRequest(f"No command {command!r} has --json{hint}", code="usage")
    return output_schema(command)


def _limits_table(found: Limits) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    quotas = found.quotas
    for name, value in (
        ("key allows", ", ".join(found.scopes)),
        ("families", ", ".join(found.families)),
        ("largest file", size(found.max_file_bytes)),
        ("files per upload", str(found.max_files)),
        ("buckets", ", ".join(found.model_buckets)),
        ("stored", _used(quotas.stored_bytes, size)),
        ("waiting jobs", _used(quotas.waiting_jobs)),
        ("running jobs", _used(quotas.running_jobs)),
        ("requests per minute", _used(quotas.requests_per_minute)),
    ):
        if value:
            table.add_row(name, consoles.clean(value))
    return table


def _used(quota: Quota, write: Callable[[int], str] = str) -> str:
    bound = "no limit" if quota.limit is None else f"at most {write(quota.limit)}"
    return bound if quota.used is None else f"{write(quota.used)} used, {bound}"
