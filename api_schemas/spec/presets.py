"""Named starting points, as plain data: they fill what the request leaves out of `pruning`, and of `finetune`."""

import json
from collections.abc import Mapping
from typing import Any, Literal

PresetName = Literal["best", "paper"]

PRESETS: dict[str, dict[str, Any]] = {
    # What our own measurements rank first (docs/adr/0006): heads turned into their principal axes, ranks given out over the
    # whole model by Fisher information (docs/adr/0052), the heads of a layer as wide as each other, which is faster, whole
    # heads and layers gone where they are worth least, W_o refitted.
    "best": {
        "granularity": "head_and_width",
        "align": None,
        "criterion": None,
        "scope": "global",
        "basis": "principal",
        "compensation": "least_squares_feed_forward",
        "neuron_selection": "brain_surgeon",
        "part_shares": "searched",
        "balance": "joint",
        "min_heads": 0,
        "schedule": {"shape": "linear", "largest_step": 0.25},
        "calibration": {"split": "train", "samples": 512, "refit_samples": 2048, "labels": "model", "draws": 4},
    },
    # arXiv 2509.26207: native channels, Fisher information on validation data, one global threshold, whole heads, steps of
    # 10% of the original attention parameters with LoRA between.
    "paper": {
        "granularity": "entire_head",
        "align": 1,
        "criterion": "fisher",
        "scope": "global",
        "basis": "native",
        "compensation": "none",
        "neuron_selection": "ranked",
        "part_shares": "ranked",
        "balance": "joint",
        "min_heads": 1,
        "schedule": {"shape": "linear", "largest_step": 0.1},
        "calibration": {"split": "validation", "samples": None, "refit_samples": None, "labels": "data", "draws": 1},
    },
}

FINETUNE: dict[str, dict[str, Any]] = {
    "best": {"distill": {"weight": 0.5, "temperature": 2.0}, "only_if_better": True},
    "paper": {"distill": None, "only_if_better": False},
}
"""What a preset says of recovery."""

DEFAULT: PresetName = "best"


def filled(preset: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """What was given, and the preset's for the rest. Half of an object leaves the other half to the preset too."""
    result = {**preset, **given}
    for key, inner in preset.items():
        if isinstance(inner, dict) and isinstance(given.get(key), dict):
            result[key] = {**inner, **given[key]}
    return result


def tell(schema: dict[str, Any], by_preset: Mapping[str, Mapping[str, Any]]) -> None:
    """Say in a model's JSON Schema what each preset gives its fields.

    Such a field has no `default` there: programs that are generated from the schema would send it, and so undo the preset.
    """
    fields: dict[str, dict[str, Any]] = schema["properties"]
    for name in {name: None for given in by_preset.values() for name in given}:
        field, values = fields[name], [given.get(name) for given in by_preset.values()]
        if all(value == field.get("default") for value in values):
            continue
        field.pop("default", None)
        told = "; ".join(f"{_in_words(value)} with `{preset}`" for preset, value in zip(by_preset, values, strict=True))
        # Of an object that every preset has, the fields say it.
        told = "the preset's values" if all(isinstance(value, dict) for value in values) else told
        field["description"] = f"{field.get('description', '')} Default: {told}.".strip()


def of_part(presets: Mapping[str, Mapping[str, Any]], part: str) -> dict[str, dict[str, Any]]:
    """What each preset says of an object in it."""
    return {name: given[part] for name, given in presets.items()}


def _in_words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_in_words(inner)}" for key, inner in value.items())
    return value if isinstance(value, str) else json.dumps(value)
