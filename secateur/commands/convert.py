"""`secateur convert`: converts pickles and adapters to a checkpoint that can be uploaded."""

from pathlib import Path
from typing import Annotated

import typer

from secateur import convert as convert_module
from secateur.commands.shared.exit_status import write_json
from secateur.commands.shared.group import HERE
from secateur.commands.shared.session import with_errors
from secateur.documents import Converted
from secateur.terminal import consoles


def register(app: typer.Typer) -> None:
    """The command."""
    app.command(rich_help_panel=HERE)(convert)


def convert(
    folder: Annotated[
        Path,
        typer.Argument(exists=True, file_okay=False, help="Folder with pytorch_model.bin or a LoRA adapter from peft."),
    ],
    out: Annotated[
        Path | None,
        typer.Argument(file_okay=False, help="Output folder. Default: FOLDER-safetensors.", show_default=False),
    ] = None,
    base: Annotated[
        Path | None,
        typer.Option(
            exists=True, file_okay=False, help="For an adapter: the folder of its base model.", show_default=False
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document; errors as JSON on standard error.")
    ] = False,
) -> None:
    """Convert a checkpoint with pickles, or an adapter and its base model, to a checkpoint with safetensors. Nothing is uploaded.

    For example: `secateur convert ./old-bert && secateur upload model ./old-bert-safetensors`
    """

    def run() -> None:
        found = convert_module.convert(folder, out, base)
        for warning in found.warnings:
            consoles.notes().print(f"warning: {warning}", markup=False, highlight=False, soft_wrap=True)
        if as_json:
            said = Converted(out=found.out, architecture=found.architecture, warnings=found.warnings)
            write_json(said, consoles.results())
            return
        consoles.notes().print(f"{found.architecture}, in:", markup=False, highlight=False)
        consoles.results().print(str(found.out), markup=False, highlight=False, soft_wrap=True)

    with_errors(as_json, run)
