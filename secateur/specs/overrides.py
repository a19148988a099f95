"""`--set a.b.c=value`: one field of a spec, by its path."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from secateur.errors import InvalidRequest
from secateur.specs.yaml_values import read_yaml


def overridden(spec: dict[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """The spec with every setting applied, in order. Raises InvalidRequest."""
    for setting in settings:
        path, sign, value = setting.partition("=")
        parts = [part.strip() for part in path.split(".")]
        if not sign or not all(parts):
            detail = f"--set {setting}: write it as path=value, such as --set pruning.granularity=ragged."
            raise InvalidRequest(detail, code="usage")
        spec = _with(spec, parts, read_value(value))
    return spec


def placed(spec: dict[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The spec with every value at its path. Raises InvalidRequest where something else than an object is in the way."""
    for path, value in values.items():
        spec = _with(spec, path.split("."), value)
    return spec


def read_value(text: str) -> Any:
    """`0.5`, `true`, `null`, `[0, 1]` as YAML and JSON have them; anything else is text."""
    try:
        return read_yaml(text)
    except yaml.YAMLError:
        return text


def _with(spec: Any, path: Sequence[str], value: Any, before: str = "") -> dict[str, Any]:
    if spec is not None and not isinstance(spec, dict):
        pointer = before or "the spec"
        raise InvalidRequest(
            f"{pointer}: must be an object to contain {path[0]}, but it is {spec!r}.", code="invalid_request"
        )
    first, *rest = path
    base = spec or {}
    return {**base, first: _with(base.get(first), rest, value, f"{before}/{first}") if rest else value}
