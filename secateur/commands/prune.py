"""`secateur prune`: the engine here and now, without a server."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from api_schemas.cpu_cores import threads_alone
from api_schemas.enums import (
    Balance,
    Basis,
    Compensation,
    Criterion,
    ExportFormat,
    Granularity,
    Layout,
    NeuronSelection,
    Normalization,
    Scope,
    TargetKind,
)
from api_schemas.results import speed
from api_schemas.spec.job import EngineSpec
from api_schemas.spec.presets import PresetName
from secateur import prune as prune_module
from secateur.commands.shared import arguments
from secateur.commands.shared.exit_status import write_json
from secateur.commands.shared.group import HERE
from secateur.commands.shared.session import with_errors
from secateur.specs.job_request import target_of
from secateur.specs.overrides import overridden, placed
from secateur.specs.spec_file import read_spec
from secateur.specs.validation import validated
from secateur.terminal import consoles
from secateur.terminal.metrics import exports_table, steps_table


def register(app: typer.Typer) -> None:
    """The command."""
    app.command(rich_help_panel=HERE)(prune)


def prune(
    model: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Checkpoint folder.")],
    data: Annotated[
        Path, typer.Option(exists=True, file_okay=False, help="Dataset folder: parquet, audio, images or texts.")
    ],
    out: Annotated[Path, typer.Option(file_okay=False, help="Where step-0, step-1, … are written.")],
    sparsity: Annotated[float | None, typer.Option(help="Share to remove, of what `--of` says. Default: 0.5.")] = None,
    within: arguments.Within = None,
    of: Annotated[
        TargetKind | None,
        typer.Option(help="What the share is of (default: attention's parameters), or the smallest is by (FLOPs)."),
    ] = None,
    preset: Annotated[PresetName | None, typer.Option(help="What fills whatever is left out. Default: best.")] = None,
    granularity: Annotated[Granularity | None, typer.Option(help="What is removed as one.")] = None,
    criterion: Annotated[Criterion | None, typer.Option(help="How it is scored.")] = None,
    basis: Annotated[
        Basis | None, typer.Option(help="The model's own channels, or each head's principal axes.")
    ] = None,
    compensation: Annotated[Compensation | None, typer.Option(help="What is refitted at once after a cut.")] = None,
    neuron_selection: Annotated[
        NeuronSelection | None,
        typer.Option(help="Which neurons go: by `--criterion`, or by what the others make up for."),
    ] = None,
    normalization: Annotated[Normalization | None, typer.Option(help="Of scores, before layers are compared.")] = None,
    scope: Annotated[Scope | None, typer.Option(help="One threshold, or one a layer.")] = None,
    balance: Annotated[Balance | None, typer.Option(help="QK and VO in one ranking, or equal shares.")] = None,
    layout: Annotated[Layout | None, typer.Option(help="`stock` loads without custom code.")] = None,
    align: Annotated[
        int | None, typer.Option(help="Widths kept are multiples of this: 1, 4, 8 or 16. Default: what is fast here.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Cuts, with recovery between. Default: the preset's.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=0, help="Of recovery a step; 0 for none. Default: 3.")] = None,
    export: Annotated[
        list[ExportFormat] | None, typer.Option(help="A further file beside the result's weights; may be repeated.")
    ] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(help="Stop before validation falls by more (0.01 is one point). Default: no bound."),
    ] = None,
    spec: arguments.Spec = None,
    settings: arguments.Settings = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Default: 0.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 or auto.")] = "auto",
    processes: Annotated[int, typer.Option(min=1, help="That share the work; on cuda each has a GPU of its own.")] = 1,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1,
            envvar="SECATEUR_ENGINE_THREADS",
            help="CPU threads. Default: OMP_NUM_THREADS, else the cores or the container's CPU quota.",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="The metrics as JSON; errors as JSON on standard error.")
    ] = False,
) -> None:
    """Prune a checkpoint here and now, offline, without a server. Exit status 3 where it failed, 2 where it was refused."""
    given = {
        "preset": preset,
        "granularity": granularity,
        "criterion": criterion,
        "basis": basis,
        "compensation": compensation,
        "neuron_selection": neuron_selection,
        "normalization": normalization,
        "scope": scope,
        "balance": balance,
        "layout": layout,
        "align": align,
        "schedule.steps": steps,
    }
    chosen: dict[str, Any] = {f"pruning.{name}": value for name, value in given.items() if value is not None}
    if epochs == 0:
        chosen["finetune"] = None
    elif epochs is not None:
        chosen["finetune.epochs"] = epochs
    chosen |= {"exports": export} if export else {}
    chosen |= {} if max_drop is None else {"stop": {"max_drop": max_drop}}
    chosen |= {} if seed is None else {"seed": seed}

    def run() -> None:
        values = placed(read_spec(spec) if spec else {}, chosen)
        targeted = isinstance(values.get("pruning"), dict) and "target" in values["pruning"]
        if (target := target_of(sparsity, of, within)) is not None:
            values = placed(values, {"pruning.target": target})
        elif not targeted and not any(each.startswith("pruning.target") for each in settings or ()):
            values = placed(values, {"pruning.target.attention_sparsity": 0.5})
        wanted = validated(EngineSpec, overridden(values, settings or ()), spec)
        used = threads or threads_alone(os.environ)
        found = prune_module.prune(model, data, out, wanted, device, used, consoles.notes(), processes)
        _give(found, wanted, as_json)

    with_errors(as_json, run)


def _give(found: prune_module.Pruned, spec: EngineSpec, as_json: bool) -> None:
    console = consoles.results()
    if as_json:
        write_json({"out": str(found.out), "result": found.result, "steps": found.steps}, console)
        return
    console.print(steps_table(found.steps))
    if exports := found.steps[-1].exports:
        console.print(exports_table(exports))
    for said in filter(None, (speed.slower(step, spec.pruning) for step in found.steps)):
        console.print(said, highlight=False)
    prune_module.say_result(found.result, found.out, found.steps[-1].step, console)
