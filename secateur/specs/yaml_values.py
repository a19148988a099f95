"""YAML with the core schema of YAML 1.2, a superset of JSON.

PyYAML reads YAML 1.1, where `1e-3` is a text, `no` is false and `2026-01-05` a day. A spec means none of these.
"""

import re
from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    """With the plain scalars of https://yaml.org/spec/1.2.2/#103-core-schema alone."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - as the base has it


for tag, pattern, first in (
    ("null", r"^(?:null|Null|NULL|~|)$", ["~", "n", "N", ""]),
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", r"^[-+]?[0-9]+$", list("-+0123456789")),
    ("float", r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$", list("-+.0123456789")),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(pattern), first)


def _integer(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    return int(loader.construct_scalar(node))


def _number(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float:
    return float(loader.construct_scalar(node))


def _object(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[str, Any]:
    """Raises yaml.YAMLError for a key that stands twice: one of them would be lost in silence."""
    found: dict[str, Any] = {}
    for key, value in loader.construct_pairs(node, deep=True):
        if str(key) in found:
            raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} occurs twice", node.start_mark)
        found[str(key)] = value
    return found


_Loader.add_constructor("tag:yaml.org,2002:int", _integer)
_Loader.add_constructor("tag:yaml.org,2002:float", _number)
_Loader.add_constructor("tag:yaml.org,2002:map", _object)


def read_yaml(text: str) -> Any:
    """What a text says. Raises yaml.YAMLError."""
    return yaml.load(text, _Loader)
