"""What commands print with `--json`, held to the schemas that `secateur schema` prints."""

from collections.abc import Sequence
from functools import cache
from typing import Any, TypeVar

from jsonschema import Draft202012Validator

from secateur.commands.shared.outputs import OUTPUTS, output_schema, schema_of
from secateur.documents import Failure

T = TypeVar("T")


def checked(document: T, arguments: Sequence[object] = ()) -> T:
    """The document, which the command printed that `arguments` begin with; without any, a failure."""
    words = [str(each) for each in arguments[:2]]
    command = " ".join(words) if " ".join(words) in OUTPUTS else "".join(words[:1])
    _validator(command).validate(document)
    return document


@cache
def _validator(command: str) -> Any:
    return Draft202012Validator(_closed(output_schema(command) if command else schema_of(Failure)))


def _closed(node: Any) -> Any:
    """A field that no schema mentions is an error here; other programs are told to ignore it."""
    if isinstance(node, list):
        return [_closed(each) for each in node]
    if not isinstance(node, dict):
        return node
    closed = {key: _closed(value) for key, value in node.items()}
    return closed | {"additionalProperties": False} if isinstance(node.get("properties"), dict) else closed
