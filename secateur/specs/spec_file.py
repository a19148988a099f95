"""A spec as a file: YAML or JSON."""

import json
from pathlib import Path
from typing import Any

import yaml

from secateur.errors import InvalidRequest
from secateur.specs.yaml_values import read_yaml


def read_spec(path: Path) -> dict[str, Any]:
    """An object. `.json` is read as JSON, everything else as YAML. Raises InvalidRequest, with the line."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        found = json.loads(text) if path.suffix == ".json" else read_yaml(text)
    except json.JSONDecodeError as error:
        raise _unreadable(path, f"line {error.lineno}, column {error.colno}: {error.msg}") from None
    except yaml.YAMLError as error:
        raise _unreadable(path, " ".join(str(error).split())) from None
    except (UnicodeDecodeError, RecursionError) as error:
        raise _unreadable(path, str(error)) from None
    if not isinstance(found, dict):
        raise _unreadable(path, "it does not contain an object; a spec begins with `pruning:`")
    if not isinstance(found.get("pruning") or {}, dict):
        raise _unreadable(path, "its `pruning` is not an object")
    return found


def _unreadable(path: Path, reason: str) -> InvalidRequest:
    return InvalidRequest(f"{path} cannot be read as a spec: {reason}.", code="invalid_request")
