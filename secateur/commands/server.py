"""Commands that need no service: `up`, `doctor`, `version`, and managing keys directly in the database."""

import sys
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from secateur.commands.shared.group import HERE
from secateur.doctor import run as doctor_module
from secateur.documents import Version
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
    data_dir: Annotated[Path, typer.Option(help="Folder for the database, artifacts and logs.")] = Path(".secateur"),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 picks a free one.")] = 8000,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document on standard output once the service is ready.")
    ] = False,
) -> None:
    """Run the whole service on this machine: API, job worker, maintenance worker, scheduler (beat) and broker."""
    console = Console(soft_wrap=True, stderr=as_json)
    raise typer.Exit(up_module.up(data_dir, port, console, sys.stdout if as_json else None))


def database_keys(
    context: typer.Context,
    data_dir: Annotated[
        Path | None, typer.Option(help="Data folder of `secateur up`; set SECATEUR_DATABASE_URL for other databases.")
    ] = None,
) -> None:
    """Manage keys directly in the database, as the operator: the first one (`create --bootstrap`), and those of any tenant."""
    raise typer.Exit(services.keys(data_dir, context.args))


def doctor(
    url: Annotated[
        str | None,
        typer.Option(help="Server to check. Default: SECATEUR_URL, then the profile's, then the one on this machine."),
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Data folder of `secateur up`, to check the parts of a server on this machine.")
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(help="Service saved by `secateur login` to check. Default: SECATEUR_PROFILE, then `default`."),
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port that `secateur up` will use.")] = 8000,
    fix: Annotated[bool, typer.Option("--fix", help="Fix what is safe to fix.")] = False,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Check every file in the database against the artifact store; may take hours."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Check the installation, and say what is wrong and how to fix it. Exits with 1 if something is wrong.

    With --data-dir or SECATEUR_… settings, it also checks the parts of a server.
    """
    console = Console(width=None if sys.stdout.isatty() else 200)
    raise typer.Exit(
        doctor_module.doctor(
            url, data_dir, port, profile_name=profile, fix=fix, verify=verify, as_json=as_json, console=console
        )
    )


def version(as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False) -> None:
    """Print the version."""
    found = installed_version("secateur")
    print(Version(version=found).model_dump_json() if as_json else found)
