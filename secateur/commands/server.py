"""Commands that need no service: `up`, `doctor`, `version`, and the operator's own hand on keys."""

import json
import sys
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from secateur.commands.shared.group import HERE
from secateur.doctor import run as doctor_module
from secateur.local_server import services
from secateur.local_server import up as up_module


def register(app: typer.Typer) -> None:
    """All of them."""
    app.command(rich_help_panel=HERE)(up)
    app.command(rich_help_panel=HERE)(doctor)
    passed_on = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
    app.command("database-keys", rich_help_panel=HERE, context_settings=passed_on)(database_keys)
    app.command(rich_help_panel=HERE)(version)


def up(
    data_dir: Annotated[Path, typer.Option(help="Where database, artifacts and logs are kept.")] = Path(".secateur"),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 takes a free one.")] = 8000,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON document on standard output, once it is ready.")
    ] = False,
) -> None:
    """Run the whole service on this machine: API, job worker, maintenance, beat and broker."""
    console = Console(soft_wrap=True, stderr=as_json)
    raise typer.Exit(up_module.up(data_dir, port, console, sys.stdout if as_json else None))


def database_keys(
    context: typer.Context,
    data_dir: Annotated[
        Path | None, typer.Option(help="The folder of `secateur up`; other databases by SECATEUR_DATABASE_URL.")
    ] = None,
) -> None:
    """The operator's keys, straight at the database: the first one (`create --bootstrap`), and those of any tenant."""
    raise typer.Exit(services.keys(data_dir, context.args))


def doctor(
    url: Annotated[
        str | None, typer.Option(help="The server to call. Default: SECATEUR_URL, then this machine's.")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="The folder of a `secateur up`, to look at the parts of a server here.")
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port that `secateur up` is to have.")] = 8000,
    fix: Annotated[bool, typer.Option("--fix", help="Mend what is safe to mend.")] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare every row of a file with the artifact store; may take hours.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Findings as JSON.")] = False,
) -> None:
    """Look over the installation, and say what is wrong and what to do. Exit status 1 where something is wrong.

    With --data-dir or SECATEUR_… settings the parts of a server are looked at, too.
    """
    console = Console(width=None if sys.stdout.isatty() else 200)
    raise typer.Exit(
        doctor_module.doctor(url, data_dir, port, fix=fix, verify=verify, as_json=as_json, console=console)
    )


def version(as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """Print the version."""
    found = installed_version("secateur")
    print(json.dumps({"version": found}) if as_json else found)
