"""JSON Schemas as Markdown: a table of fields, and where each named schema is described."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

Schema = Mapping[str, Any]
PREFIXES = ("#/components/schemas/", "#/$defs/")


class Anchors:
    """Every named schema is described on one page, and linked to from all others."""

    def __init__(self, document: Schema, spec: Schema, printed: Mapping[str, Schema]) -> None:
        """Of the OpenAPI document, of the spec, and `printed` by commands."""
        of_api = document["components"]["schemas"]
        self.schemas: dict[str, Schema] = {**printed, **of_api}
        self._printed = frozenset(printed) - frozenset(of_api)
        self._spec = frozenset(spec["$defs"]) | {"JobRequest"}
        self._events = (
            frozenset(_closure("JobEvent", self.schemas)) - _closure("JobResource", self.schemas) - self._spec
        )

    def page(self, name: str) -> str:
        """Its address below docs/reference/."""
        if name in self._printed:
            return "json.md"
        if name in self._spec:
            return "spec.md"
        return "events.md" if name in self._events else "http.md"

    def of(self, page: str) -> Iterator[tuple[str, Schema]]:
        """The schemas that are described on a page."""
        return ((name, schema) for name, schema in sorted(self.schemas.items()) if self.page(name) == page)

    def gist(self, field: Schema) -> str:
        """The first sentence of its type, for a field that says nothing itself."""
        named = [self.schemas[_name(one["$ref"])] for one in (field, *field.get("anyOf", ())) if "$ref" in one]
        return next((one.get("description", "").partition("\n\n")[0] for one in named), "")

    def link(self, reference: str, page: str) -> str:
        """To what a `$ref` names, from a page."""
        name = _name(reference)
        where = self.page(name)
        return f"[{name}]({'' if where == page else where}#{anchor(name)})"


def anchor(name: str) -> str:
    return f"schema-{name.lower()}"


def heading(name: str, level: str = "###") -> str:
    return f"{level} {name} {{#{anchor(name)}}}"


def described(name: str, schema: Schema, anchors: Anchors, page: str) -> str:
    """A schema with its heading: what it is, and its fields or values."""
    parts = [heading(name), prose(schema.get("description", ""))]
    if "enum" in schema:
        parts.append(", ".join(f"`{value}`" for value in schema["enum"]))
    if schema.get("properties"):
        parts.append(fields(schema, anchors, page))
    elif "enum" not in schema:
        parts.append(kind(schema, anchors, page))
    return "\n\n".join(part for part in parts if part)


def fields(schema: Schema, anchors: Anchors, page: str) -> str:
    """The table of an object's fields."""
    required = schema.get("required", ())
    lines = ["| field | type | default | |", "|---|---|---|---|"]
    for name, field in schema["properties"].items():
        default = "*required*" if name in required and "default" not in field else shown_default(field)
        text = field.get("description", "")
        if not text or text.startswith("Default: "):
            text = f"{anchors.gist(field)} {text}"
        text = cell(text)
        lines.append(f"| `{name}` | {kind(field, anchors, page)} | {default} | {text} |")
    return "\n".join(lines)


def shown_default(field: Schema) -> str:
    if "default" not in field:
        return ""
    value = field["default"]
    return "its own" if isinstance(value, dict) and value else f"`{json.dumps(value, ensure_ascii=False)}`"


def kind(field: Schema, anchors: Anchors, page: str) -> str:
    """The type of a value in a few words, with its bounds."""
    if "$ref" in field:
        return anchors.link(field["$ref"], page)
    for key in ("anyOf", "oneOf", "allOf"):
        if key in field:
            return " or ".join(dict.fromkeys(kind(one, anchors, page) for one in field[key]))
    if "const" in field:
        return f"`{json.dumps(field['const'])}`"
    if "enum" in field:
        return ", ".join(f"`{json.dumps(value)}`" for value in field["enum"])
    if field.get("type") == "array":
        return f"list of {kind(field.get('items', {}), anchors, page)}"
    if field.get("type") == "object" and isinstance(field.get("additionalProperties"), Mapping):
        return f"object of {kind(field['additionalProperties'], anchors, page)}"
    return " ".join(filter(None, (str(field.get("type", "anything")), _bounds(field))))


def _bounds(field: Schema) -> str:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    told = [f"{sign} {field[key]:,}" for key, sign in signs.items() if key in field and abs(field[key]) < 2**53]
    if "maxLength" in field:
        told.append(f"at most {field['maxLength']} characters")
    return f"({', '.join(told)})" if told else ""


def prose(text: str) -> str:
    return text.strip()


def cell(text: str) -> str:
    """In one line; stars outside code are stars (`AWS_*`), not emphasis."""
    line = " ".join(text.split()).replace("|", "\\|")
    return "`".join(part if place % 2 else part.replace("*", "\\*") for place, part in enumerate(line.split("`")))


def _name(reference: str) -> str:
    for prefix in PREFIXES:
        reference = reference.removeprefix(prefix)
    return reference


def _closure(name: str, schemas: Mapping[str, Schema]) -> frozenset[str]:
    """A schema and all that it names."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            waiting.extend(_named(schemas[one]))
    return frozenset(found)


def _named(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping):
        if "$ref" in node:
            yield _name(node["$ref"])
        node = list(node.values())
    if isinstance(node, list):
        for one in node:
            yield from _named(one)
