"""The defaults that the JSON Schema of a job shows: a program made of it may send every one of them and asks for the same job."""

from typing import Any

import pytest

from api_schemas.spec.job import JobRequest, spec_schema
from api_schemas.spec.presets import FINETUNE, PRESETS

SCHEMA = spec_schema()
BARE: dict[str, Any] = {
    "model": {"type": "upload", "id": f"mdl_{'a' * 26}"},
    "dataset": {"type": "upload", "id": f"dst_{'a' * 26}"},
    "pruning": {"target": {"attention_sparsity": 0.5}},
}


def bare(preset: str | None) -> dict[str, Any]:
    return BARE if preset is None else BARE | {"pruning": {**BARE["pruning"], "preset": preset}}


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in schema:
        return resolved(SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]])
    return schema


def objects(field: dict[str, Any], given: Any) -> list[dict[str, Any]]:
    """The object schemas that a value of the field may have; of a union by `type` the one that `given` is of."""
    named = [resolved(one) for one in (field, *field.get("anyOf", ()), *field.get("oneOf", ()))]
    found = [one for one in named if "properties" in one]
    kind = given.get("type") if isinstance(given, dict) else None
    return [one for one in found if kind is None or one["properties"]["type"]["const"] == kind]


def with_defaults(schema: dict[str, Any], given: dict[str, Any], *, build: bool) -> dict[str, Any]:
    """`given`, and every default that the schema has; `build`: objects that nobody gave are built of their defaults."""
    result = dict(given)
    for name, field in schema["properties"].items():
        if name not in result and "default" in field:
            result[name] = field["default"]
        inner = objects(field, result.get(name))
        # What may be null and is so by some preset is not built: that would ask for something else.
        nullable = any(one.get("type") == "null" for one in field.get("anyOf", ()))
        if not inner or (name not in given and ((nullable and name != "finetune") or not build)):
            continue
        if name in given or build:
            result[name] = with_defaults(inner[0], result.get(name) or {}, build=build)
    return result


@pytest.mark.parametrize("preset", [None, *PRESETS])
@pytest.mark.parametrize("build", [False, True])
def test_sending_every_default_asks_for_the_same_job(preset: str | None, build: bool) -> None:
    asked = bare(preset)
    sent = with_defaults(SCHEMA, asked, build=build)
    assert sent["seed"] == 0
    assert ("schedule" in sent["pruning"]) is build
    assert JobRequest.model_validate(sent) == JobRequest.model_validate(asked)


def test_each_preset_is_told_where_they_differ() -> None:
    for name, table in (
        ("Pruning", PRESETS),
        ("Schedule", {preset: given["schedule"] for preset, given in PRESETS.items()}),
        ("Calibration", {preset: given["calibration"] for preset, given in PRESETS.items()}),
        ("Finetune", FINETUNE),
    ):
        for key in table["best"]:
            values = [table[preset][key] for preset in table]
            field = SCHEMA["$defs"][name]["properties"][key]
            if all(value == values[0] for value in values):
                assert field["default"] == values[0], key
            else:
                assert "default" not in field, key
                assert isinstance(values[1], dict) or all(f"`{preset}`" in field["description"] for preset in table), (
                    key
                )
