"""The `secateur` command: parses arguments, and nothing else."""

import json
import os
import sys
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console

from api_schemas.enums import (
    Balance,
    Basis,
    Compensation,
    Criterion,
    ExportFormat,
    Granularity,
    Layout,
    Normalization,
    Scope,
    TargetKind,
)
from api_schemas.presets import PresetName
from api_schemas.spec import EngineSpec
from secateur import prune as prune_module
from secateur import stack
from secateur import up as up_module
from secateur.doctor import run as doctor_module

HELP = "Makes transformer checkpoints smaller and faster by structured pruning of attention."
app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=HELP)


@app.command()
def up(
    data_dir: Annotated[Path, typer.Option(help="Where database, artifacts and logs are kept.")] = Path(".secateur"),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 takes a free one.")] = 8000,
) -> None:
    """Run the whole service on this machine: API, job worker, maintenance, beat and broker."""
    raise typer.Exit(up_module.up(data_dir, port, Console(soft_wrap=True)))


@app.command()
def prune(
    model: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Checkpoint folder.")],
    data: Annotated[
        Path, typer.Option(exists=True, file_okay=False, help="Dataset folder: parquet, audio, images or texts.")
    ],
    out: Annotated[Path, typer.Option(file_okay=False, help="Where step-0, step-1, … are written.")],
    sparsity: Annotated[float | None, typer.Option(help="Share to remove, of what `--of` says. Default: 0.5.")] = None,
    of: Annotated[
        TargetKind | None, typer.Option(help="What the share is of. Default: attention's parameters.")
    ] = None,
    preset: Annotated[PresetName | None, typer.Option(help="What fills whatever is left out. Default: best.")] = None,
    granularity: Annotated[Granularity | None, typer.Option(help="What is removed as one.")] = None,
    criterion: Annotated[Criterion | None, typer.Option(help="How it is scored.")] = None,
    basis: Annotated[
        Basis | None, typer.Option(help="The model's own channels, or each head's principal axes.")
    ] = None,
    compensation: Annotated[Compensation | None, typer.Option(help="What is refitted at once after a cut.")] = None,
    normalization: Annotated[Normalization | None, typer.Option(help="Of scores, before layers are compared.")] = None,
    scope: Annotated[Scope | None, typer.Option(help="One threshold, or one a layer.")] = None,
    balance: Annotated[Balance | None, typer.Option(help="QK and VO in one ranking, or equal shares.")] = None,
    layout: Annotated[Layout | None, typer.Option(help="`stock` loads without custom code.")] = None,
    align: Annotated[int | None, typer.Option(help="Widths kept are multiples of this: 1, 8 or 16.")] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Cuts, with recovery between. Default: the preset's.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=0, help="Of recovery a step; 0 for none. Default: 3.")] = None,
    export: Annotated[
        list[ExportFormat] | None, typer.Option(help="A further file beside the result's weights; may be repeated.")
    ] = None,
    max_drop: Annotated[
        float | None, typer.Option(help="Stop before validation falls by more (0.01 is one point). Default: no bound.")
    ] = None,
    spec: Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="A spec as JSON; options win.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Default: 0.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 or auto.")] = "auto",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = os.cpu_count() or 1,
) -> None:
    """Prune a checkpoint here and now, offline, without a server. Exit status 3 where it failed."""
    console = Console(soft_wrap=True, width=None if sys.stdout.isatty() else 140)
    try:
        values: dict[str, Any] = json.loads(spec.read_text()) if spec else {}
        pruning = values.setdefault("pruning", {})
        given = {
            "preset": preset,
            "granularity": granularity,
            "criterion": criterion,
            "basis": basis,
            "compensation": compensation,
            "normalization": normalization,
            "scope": scope,
            "balance": balance,
            "layout": layout,
            "align": align,
        }
        pruning.update({name: value for name, value in given.items() if value is not None})
        if sparsity is not None or of is not None or "target" not in pruning:
            pruning["target"] = {of or TargetKind.ATTENTION_SPARSITY: 0.5 if sparsity is None else sparsity}
        if steps is not None:
            pruning["schedule"] = {**pruning.get("schedule", {}), "steps": steps}
        if epochs is not None:
            values["finetune"] = {**(values.get("finetune") or {}), "epochs": epochs} if epochs else None
        if export:
            values["exports"] = export
        if max_drop is not None:
            values["stop"] = {"max_drop": max_drop}
        if seed is not None:
            values["seed"] = seed
        checked = EngineSpec.model_validate(values)
    except (ValidationError, ValueError, AttributeError) as error:
        console.print(f"[red]error:[/] not a valid spec{f' in {spec}' if spec else ''}:")
        console.print(str(error), markup=False, highlight=False)
        raise typer.Exit(2) from None
    raise typer.Exit(prune_module.prune(model, data, out, checked, device, threads, console))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []})
def keys(
    context: typer.Context,
    data_dir: Annotated[
        Path | None, typer.Option(help="The folder of `secateur up`; other databases by SECATEUR_DATABASE_URL.")
    ] = None,
) -> None:
    """API keys: create, list, revoke. `secateur keys --help`, `secateur keys create --bootstrap`."""
    raise typer.Exit(stack.keys(data_dir, context.args))


@app.command()
def doctor(
    url: Annotated[
        str | None, typer.Option(help="The server to call. Default: SECATEUR_URL, then this machine's.")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="The folder of a `secateur up`, to look at the parts of a server here.")
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port that `secateur up` is to have.")] = 8000,
    fix: Annotated[bool, typer.Option("--fix", help="Mend what is safe to mend.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Findings as JSON.")] = False,
) -> None:
    """Look over the installation, and say what is wrong and what to do. Exit status 1 where something is wrong.

    With --data-dir or SECATEUR_… settings the parts of a server are looked at, too.
    """
    console = Console(width=None if sys.stdout.isatty() else 200)
    raise typer.Exit(doctor_module.doctor(url, data_dir, port, fix=fix, as_json=as_json, console=console))


@app.command()
def version() -> None:
    """Print the version."""
    print(installed_version("secateur"))
