"""The `secateur` command: puts the commands together, and nothing else."""

import typer

from secateur.commands import (
    convert,
    download,
    job_control,
    keys,
    lists,
    logs,
    prune,
    server,
    show,
    submit,
    sweep,
    upload,
    wait,
    workers,
)
from secateur.commands.shared.exit_status import EXPLAINED
from secateur.commands.shared.group import SERVICE, UPLOADS, Commands

HELP = "Makes transformer checkpoints smaller and faster by structured pruning of attention."
app = typer.Typer(cls=Commands, no_args_is_help=True, pretty_exceptions_enable=False, help=HELP, epilog=EXPLAINED)

# In this order they stand in the help.
submit.register(app)
sweep.register(app)
wait.register(app)
lists.register(app)
show.register(app)
download.register(app)
logs.register(app)
job_control.register(app)
app.add_typer(upload.app, name="upload", rich_help_panel=UPLOADS)
app.add_typer(keys.app, name="keys", rich_help_panel=SERVICE)
prune.register(app)
convert.register(app)
server.register(app)
workers.register(app)
