"""The `secateur` command: puts the commands together, and nothing else."""

import typer

from secateur.commands import (
    downloading,
    following,
    keys,
    listing,
    local,
    pruning,
    showing,
    steering,
    submitting,
    uploading,
    waiting,
)
from secateur.commands.shared.exits import EXPLAINED
from secateur.commands.shared.group import Commands
from secateur.commands.shared.panels import SERVICE, UPLOADS

HELP = "Makes transformer checkpoints smaller and faster by structured pruning of attention."
app = typer.Typer(cls=Commands, no_args_is_help=True, pretty_exceptions_enable=False, help=HELP, epilog=EXPLAINED)

# In this order they stand in the help.
submitting.register(app)
waiting.register(app)
listing.register(app)
showing.register(app)
downloading.register(app)
following.register(app)
steering.register(app)
app.add_typer(uploading.app, name="upload", rich_help_panel=UPLOADS)
app.add_typer(keys.app, name="keys", rich_help_panel=SERVICE)
pruning.register(app)
local.register(app)
