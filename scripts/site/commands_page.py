"""The page of the command line, made of the commands themselves."""

import typer
from typer.cli import get_docs_for_click

from secateur.cli import app

_HEAD = """# Commands

Generated from `secateur --help` and the help of every command. [How to use them](../cli.md); what they print
with `--json` is [listed as well](json.md).

"""


def page() -> str:
    """The whole page: a heading a command, with its arguments and options."""
    command = typer.main.get_command(app)
    with typer.Context(command, info_name="secateur") as context:
        text = get_docs_for_click(obj=command, ctx=context, name="secateur")
    # The page has its own title.
    return _HEAD + text.partition("\n")[2].lstrip()
