"""The options that say how a model is pruned: one definition for `prune`, `submit`, `estimate` and `sweep`."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import wraps
from typing import Annotated, Any, TypeVar

import typer

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
    Side,
    TargetKind,
)
from api_schemas.spec.presets import PresetName
from secateur.specs.job_request import Options, target_of

R = TypeVar("R")
_PANEL = "Pruning"


def _option(explained: str, **more: Any) -> Any:
    return typer.Option(help=explained, show_default=False, rich_help_panel=_PANEL, **more)


@dataclass(frozen=True)
class PruningOptions:
    """What was given of them. None, or nothing: it is left to the spec file, the preset and the service."""

    preset: Annotated[PresetName | None, _option("Fills in every setting that you leave out. Default: best.")] = None
    sparsity: Annotated[
        float | None, _option("Share to remove of what `--of` names, such as 0.5. Default of `prune`: 0.5.")
    ] = None
    within: Annotated[
        float | None,
        _option(
            "Instead of --sparsity: find the smallest model that loses at most this on validation (0.01: one point)."
        ),
    ] = None
    of: Annotated[
        TargetKind | None,
        _option(
            "What `--sparsity` is a share of (default: attention parameters); with --within, what is minimised (FLOPs)."
        ),
    ] = None
    granularity: Annotated[Granularity | None, _option("Unit to remove.")] = None
    criterion: Annotated[Criterion | None, _option("How units are scored.")] = None
    basis: Annotated[Basis | None, _option("Prune the model's own channels, or each head's principal axes.")] = None
    compensation: Annotated[Compensation | None, _option("What to refit right after a cut.")] = None
    neuron_selection: Annotated[
        NeuronSelection | None,
        _option("Which neurons to remove: by `--criterion`, or by how well the others replace them."),
    ] = None
    normalization: Annotated[Normalization | None, _option("How scores are normalised before layers are compared.")] = (
        None
    )
    scope: Annotated[Scope | None, _option("One threshold for the model, or one per layer.")] = None
    balance: Annotated[Balance | None, _option("Rank QK and VO together, or remove equal shares.")] = None
    only: Annotated[
        Side | None, _option("For models with both (Whisper): prune only the encoder's or only the decoder's layers.")
    ] = None
    layout: Annotated[Layout | None, _option("`stock`: the result loads without custom code.")] = None
    align: Annotated[
        int | None,
        _option("Keep widths that are multiples of this: 1, 4, 8 or 16. Default: what is fast on the device."),
    ] = None
    steps: Annotated[int | None, _option("Number of cuts, with recovery in between. Default: the preset's.", min=1)] = (
        None
    )
    epochs: Annotated[int | None, _option("Recovery epochs per step; 0 for none. Default: 3.", min=0)] = None
    max_drop: Annotated[
        float | None,
        _option("Stop before the validation metric gets worse by more than this (0.01: one point). Default: no limit."),
    ] = None
    export: Annotated[list[ExportFormat] | None, _option("Also export the result in this format; may be repeated.")] = (
        None
    )
    seed: Annotated[int | None, _option("Random seed. Default: 0.", min=0)] = None

    def by_path(self) -> dict[str, Any]:
        """What was given, by its path in a spec; all but the target."""
        names = ("preset", "granularity", "criterion", "basis", "compensation", "neuron_selection", "normalization")
        given = {name: getattr(self, name) for name in (*names, "scope", "balance", "only", "layout", "align")}
        chosen: dict[str, Any] = {f"pruning.{name}": value for name, value in given.items()}
        chosen["pruning.schedule.steps"] = self.steps
        chosen["finetune.epochs"] = self.epochs or None
        chosen |= {"stop.max_drop": self.max_drop, "exports": self.export or None, "seed": self.seed}
        found = {path: value for path, value in chosen.items() if value is not None}
        return found | ({"finetune": None} if self.epochs == 0 else {})


def options_of(
    pruning: PruningOptions,
    model: str | None,
    data: str | None,
    name: str | None = None,
    labels: Mapping[str, str] | None = None,
    priority: int | None = None,
) -> Options:
    """What a command was told of a job, for the draft of a request."""
    target = target_of(pruning.sparsity, pruning.of, pruning.within)
    return Options(model, data, name, labels or {}, priority, target, pruning.by_path())


def with_pruning_options(function: Callable[..., R]) -> Callable[..., R]:
    """The function for Typer: in place of its parameter `pruning: PruningOptions` it has an option for every field."""
    parameters: list[inspect.Parameter] = []
    for each in inspect.signature(function).parameters.values():
        if each.annotation is PruningOptions:
            parameters += [
                inspect.Parameter(
                    field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=field.type
                )
                for field in fields(PruningOptions)
            ]
        else:
            # The session stays the first argument.
            parameters.append(each.replace(kind=inspect.Parameter.KEYWORD_ONLY) if parameters else each)

    @wraps(function)
    def command(*args: Any, **options: Any) -> R:
        chosen = PruningOptions(**{field.name: options.pop(field.name) for field in fields(PruningOptions)})
        return function(*args, pruning=chosen, **options)

    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {each.name: each.annotation for each in parameters}
    return command
