"""Suggests what was probably meant by an unknown field, for specs of the command line and keyword arguments of the client."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

_SHOWN = 12


def near(name: str, names: Iterable[str]) -> str | None:
    """The one of `names` that looks most like `name`; None where none does."""
    return next(iter(get_close_matches(name, list(names), 1)), None)


def instead(path: str, paths: Sequence[str]) -> str:
    """The known path that was probably meant, or what there is in its place."""
    if meant := meant_by(path, paths):
        return meant
    parent = path.rpartition(".")[0]
    names = [each.rpartition(".")[2] for each in paths if each.rpartition(".")[0] == parent]
    return f"there are {', '.join(names[:_SHOWN])}{' and more' if len(names) > _SHOWN else ''}"


def meant_by(path: str, paths: Sequence[str]) -> str:
    """`did you mean pruning.granularity?`, or nothing where no known path is near."""
    parent, _, name = path.rpartition(".")
    if elsewhere := [each for each in paths if each.rpartition(".")[2] == name]:
        inside = [each for each in elsewhere if each.startswith(f"{parent}.")]
        return f"did you mean {' or '.join((inside or elsewhere)[:3])}?"
    beside = [each.rpartition(".")[2] for each in paths if each.rpartition(".")[0] == parent]
    if (found := near(name, beside)) is not None:
        return f"did you mean {f'{parent}.{found}' if parent else found}?"
    return ""


def paths_of(schema: Mapping[str, Any]) -> Iterator[str]:
    """The path of every field of a JSON Schema: `pruning`, `pruning.target` and `pruning.target.flops`."""
    seen: set[str] = set()

    def walk(node: Mapping[str, Any], before: str) -> Iterator[str]:
        if "$ref" in node:
            node = schema["$defs"][node["$ref"].rpartition("/")[2]]
        for choice in (*node.get("anyOf", ()), *node.get("oneOf", ()), *node.get("allOf", ())):
            yield from walk(choice, before)
        for name, field in node.get("properties", {}).items():
            path = f"{before}{name}"
            if path not in seen:
                seen.add(path)
                yield path
            yield from walk(field, f"{path}.")

    yield from walk(schema, "")
