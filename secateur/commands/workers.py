"""`secateur workers`, what runs jobs on a service; `secateur worker`, workers of this machine, one a device."""

from itertools import islice
from typing import Annotated

import typer
from rich.console import Console

from secateur.commands.shared import arguments
from secateur.commands.shared.group import HERE, SERVICE
from secateur.commands.shared.session import Session, served
from secateur.local_server import workers as local
from secateur.terminal.listings import workers_table

_LIMIT = 100


def register(app: typer.Typer) -> None:
    """Both."""
    served(app, SERVICE)(workers)
    app.command(rich_help_panel=HERE)(worker)


def workers(session: Session, limit: arguments.Limit = _LIMIT) -> None:
    """List the workers of the service: name, device, memory, what they run. Needs a key whose scope is admin."""
    found = list(islice(session.client.workers(), limit))
    session.give(found, workers_table(found, session.out.width) if found else "No worker has announced itself.")


def worker(
    devices: Annotated[
        str,
        typer.Option(
            metavar="LIST", help="GPUs by the numbers of nvidia-smi, `0,1,2,3`; or `cpu`.", show_default=False
        ),
    ],
    together: Annotated[
        bool, typer.Option("--together", help="One worker, whose jobs compute on all of these GPUs at once.")
    ] = False,
) -> None:
    """Run workers of a server on this machine: one a device, each with a name that stays. Settings are SECATEUR_… variables.

    They are called after SECATEUR_WORKER_NAME, else the host: gpu-7-cuda0, gpu-7-cuda1.
    """
    raise typer.Exit(local.run(devices, Console(soft_wrap=True, stderr=True), together=together))
