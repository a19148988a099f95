"""The `secateur` command: registers the commands, and nothing else."""

from importlib.metadata import version
from typing import Annotated

import typer

from secateur.commands import (
    convert,
    download,
    job_control,
    lists,
    logs,
    overview,
    prune,
    server,
    show,
    submit,
    sweep,
    upload,
    wait,
    workers,
)
from secateur.commands.access import keys, login, webhooks
from secateur.commands.shared.exit_status import EXPLAINED
from secateur.commands.shared.group import SERVICE, UPLOADS, Commands

HELP = "Makes transformer checkpoints smaller and faster by structured pruning of attention and feed-forward blocks."
app = typer.Typer(
    cls=Commands,
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=HELP,
    epilog=EXPLAINED,
)


def _version(wanted: bool) -> None:
    if wanted:
        print(version("secateur"))
        raise typer.Exit


@app.callback()
def alone(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """See HELP. Without a command, it prints an overview."""
    del version
    if context.invoked_subcommand is None:
        overview.overview()


# In this order they stand in the help.
submit.register(app)
sweep.register(app)
wait.register(app)
lists.register(app)
show.register(app)
download.register(app)
overview.register(app)
logs.register(app)
job_control.register(app)
app.add_typer(upload.app, name="upload", rich_help_panel=UPLOADS)
app.add_typer(keys.app, name="keys", rich_help_panel=SERVICE)
app.add_typer(webhooks.app, name="webhooks", rich_help_panel=SERVICE)
keys.register(app)
login.register(app)
prune.register(app)
convert.register(app)
server.register(app)
workers.register(app)
