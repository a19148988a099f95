"""The page of what `--json` prints, made of the commands' own types."""

from schemas import Anchors, Schema, described, kind

from secateur.commands.shared.outputs import LINES, OUTPUTS, output_schema, schema_of
from secateur.documents import Failure

PAGE = "json.md"
_TEMPLATE = "#/components/schemas/{model}"
_HEAD = """# Output of commands as JSON

With `--json` a command prints on standard output what is listed here, and nothing else. Most of it is what the API returns; the
links lead to its description. `secateur schema jobs` prints the JSON Schema (draft 2020-12) of the output of
`secateur jobs --json`, `secateur schema keys list` that of `secateur keys list --json`, and so on. Fields may be added:
ignore those that you do not know.

A command that fails prints a [Failure](#schema-failure) on standard error. Its [exit status](../cli.md#in-scripts) says how it
failed.
"""


def named() -> dict[str, Schema]:
    """The schemas that are described on no other page, and those that are, by name."""
    found: dict[str, Schema] = {"Failure": schema_of(Failure, _TEMPLATE)}
    for schema in [*(output_schema(command, _TEMPLATE) for command in OUTPUTS), found["Failure"]]:
        found |= schema.get("$defs", {})
    for one in OUTPUTS.values():
        # A type that stands alone is no definition of its own schema.
        if isinstance(one, type) and hasattr(one, "model_fields"):
            found[one.__name__] = schema_of(one, _TEMPLATE)
    return found


def page(anchors: Anchors) -> str:
    """The whole page."""
    lines = ["| command | prints |", "|---|---|"]
    for command in OUTPUTS:
        lines.append(f"| `secateur {command}` | {_printed(command, anchors)} |")
    parts = [_HEAD, "\n".join(lines), "## Only on the command line"]
    parts += [described(name, schema, anchors, PAGE) for name, schema in anchors.of(PAGE)]
    return "\n\n".join(parts) + "\n"


def _printed(command: str, anchors: Anchors) -> str:
    one = OUTPUTS[command]
    schema = output_schema(command, _TEMPLATE)
    if "title" in schema and isinstance(one, type):
        schema = {"$ref": _TEMPLATE.format(model=one.__name__)}
    return f"a line each: {kind(schema, anchors, PAGE)}" if command in LINES else kind(schema, anchors, PAGE)
