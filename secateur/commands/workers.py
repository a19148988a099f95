"""`secateur workers` lists the workers of a service; `secateur worker` runs workers on this machine, one per device."""

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
    """List the workers of the service: name, device, memory, current job. The key needs the scope admin."""
    found = list(islice(session.client.workers(), limit))
    session.give(found, workers_table(found, session.out.width) if found else "No workers are registered.")


def worker(
    devices: Annotated[
        str,
        typer.Option(metavar="LIST", help="GPUs, numbered as in nvidia-smi: `0,1,2,3`; or `cpu`.", show_default=False),
    ],
    together: Annotated[
        bool, typer.Option("--together", help="One worker whose jobs use all of these GPUs together.")
    ] = False,
) -> None:
    """Run job workers on this machine, one per device, each with a stable name. Configure them with SECATEUR_… variables.

    Their names begin with SECATEUR_WORKER_NAME, or else the host name: gpu-7-cuda0, gpu-7-cuda1.
    """
    raise typer.Exit(local.run(devices, Console(soft_wrap=True, stderr=True), together=together))
