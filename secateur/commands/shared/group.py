"""The command group: the headings of its help; with `--json`, wrong usage is reported as JSON as well."""

import sys
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperGroup

from secateur.commands.shared.exit_status import ExitStatus, say
from secateur.errors import InvalidRequest
from secateur.terminal.consoles import notes

# Headings of `secateur --help`.
JOBS = "Jobs"
UPLOADS = "Models and data"
SERVICE = "The service"
HERE = "On this machine"


class Commands(TyperGroup):
    """All of `secateur`."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        given = sys.argv[1:] if args is None else list(args)
        as_json = standalone_mode and "--json" in given
        try:
            status = super().main(
                given, prog_name, complete_var, standalone_mode and not as_json, windows_expand_args, **extra
            )
        except typer.TyperException as error:
            say(InvalidRequest(error.format_message(), code="usage"), notes(), as_json=True)
            sys.exit(ExitStatus.REFUSED)
        if as_json:
            sys.exit(status or 0)
        return status
