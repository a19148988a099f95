"""`secateur prune`: runs the engine here, without a server."""

import os
from pathlib import Path
from typing import Annotated

import typer

from api_schemas.cpu_cores import threads_alone
from api_schemas.results import speed
from api_schemas.spec.job import EngineSpec
from secateur import prune as prune_module
from secateur.commands.shared import arguments
from secateur.commands.shared.exit_status import write_json
from secateur.commands.shared.group import HERE
from secateur.commands.shared.pruning_options import PruningOptions, with_pruning_options
from secateur.commands.shared.session import with_errors
from secateur.documents import PruneOutput
from secateur.specs.job_request import target_of
from secateur.specs.overrides import overridden, placed
from secateur.specs.spec_file import read_spec
from secateur.specs.validation import validated
from secateur.terminal import consoles
from secateur.terminal.metrics import exports_table, steps_table


def register(app: typer.Typer) -> None:
    """The command."""
    app.command(rich_help_panel=HERE)(with_pruning_options(prune))


def prune(
    model: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Checkpoint folder.")],
    data: Annotated[
        Path, typer.Option(exists=True, file_okay=False, help="Dataset folder: parquet, audio, images or texts.")
    ],
    out: Annotated[Path, typer.Option(file_okay=False, help="Output folder for step-0, step-1, ….")],
    pruning: PruningOptions,
    spec: arguments.Spec = None,
    settings: arguments.Settings = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 or auto.")] = "auto",
    processes: Annotated[
        int, typer.Option(min=1, help="Processes that share the work; on cuda, each has its own GPU.")
    ] = 1,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1,
            envvar="SECATEUR_ENGINE_THREADS",
            help="CPU threads. Default: OMP_NUM_THREADS, otherwise the number of cores or the container's CPU quota.",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the metrics as JSON; errors as JSON on standard error.")
    ] = False,
) -> None:
    """Prune a checkpoint on this machine, offline, without a server. Exit status: 3 if pruning failed, 2 if it was refused."""

    def run() -> None:
        values = placed(read_spec(spec) if spec else {}, pruning.by_path())
        targeted = isinstance(values.get("pruning"), dict) and "target" in values["pruning"]
        # `--of flops` alone is half of them.
        share = 0.5 if pruning.of and pruning.within is None and pruning.sparsity is None else pruning.sparsity
        if (target := target_of(share, pruning.of, pruning.within)) is not None:
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
        write_json(PruneOutput(out=found.out, result=found.result, steps=found.steps), console)
        return
    console.print(steps_table(found.steps))
    if exports := found.steps[-1].exports:
        console.print(exports_table(exports))
    for said in filter(None, (speed.slower(step, spec.pruning) for step in found.steps)):
        console.print(said, highlight=False)
    prune_module.say_result(found.result, found.out, found.steps[-1].step, console)
