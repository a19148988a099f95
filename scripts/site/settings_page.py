"""The page of settings, made of store/settings.py."""

import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from schemas import cell

from store.settings import Settings

_HEAD = """# Settings

All processes of a server read these environment variables. Times are in seconds, sizes in bytes; lists and objects are JSON.
`secateur doctor` reports invalid values and unknown names. [Deploying](../deploy.md) explains how to use them.
"""


def page() -> str:
    """The whole page."""
    parts = [_HEAD]
    for title, names in _sections():
        parts.append(f"## {title}\n\n| variable | default | |\n|---|---|---|")
        parts[-1] += "".join(f"\n{_row(name, Settings.model_fields[name])}" for name in names)
    return "\n\n".join(parts) + "\n"


def _sections() -> Iterator[tuple[str, list[str]]]:
    """The fields under the comments that group them in the class's source."""
    sections: list[tuple[str, list[str]]] = []
    for line in inspect.getsource(Settings).splitlines():
        if heading := re.fullmatch(r"    # (.+)", line):
            sections.append((heading[1], []))
        elif (field := re.match(r"    (\w+): ", line)) and field[1] in Settings.model_fields:
            sections[-1][1].append(field[1])
    return iter(sections)


def _row(name: str, field: FieldInfo) -> str:
    description = field.description or ""
    return f"| `SECATEUR_{name.upper()}` | {_default(field, description)} | {cell(description)} |"


def _default(field: FieldInfo, description: str) -> str:
    """None where the description tells it: it depends on the machine."""
    if "Default:" in description or field.default is PydanticUndefined:
        return ""
    default = str(field.default) if isinstance(field.default, Path) else field.default
    return "none" if default is None else f"`{default if isinstance(default, str) else json.dumps(default)}`"
