"""The page of the HTTP API: every operation of the OpenAPI document, then the bodies that are described nowhere else."""

import re
from typing import Any

from schemas import Anchors, Schema, cell, described, kind, prose, shown_default

PAGE = "http.md"
CODE = re.compile(r"^- `(\w+)`: ", re.M)
_HEAD = """# HTTP API

Every call, generated from the OpenAPI document, which a running server also has at `/openapi.json` and, to try it out, at
`/docs`. [Calling the API](../api.md) explains how to use the calls together. [Errors](../errors.md) lists the error codes and
what to do.
"""


def page(document: Schema, anchors: Anchors) -> str:
    """The whole page."""
    parts = [_HEAD]
    operations = [
        (method, path, operation) for path, item in document["paths"].items() for method, operation in item.items()
    ]
    for tag in document["tags"]:
        parts += [f"## {tag['name'].capitalize()}", tag["description"]]
        parts += [_operation(*one, anchors) for one in operations if tag["name"] in one[2]["tags"]]
    parts += ["## Bodies", *(described(name, schema, anchors, PAGE) for name, schema in anchors.of(PAGE))]
    return "\n\n".join(parts) + "\n"


def _operation(method: str, path: str, operation: Schema, anchors: Anchors) -> str:
    scopes = [scope for entry in operation.get("security", ()) for scopes in entry.values() for scope in scopes]
    needs = f"Requires {' or '.join(f'`{scope}`' for scope in scopes)}." if scopes else "Requires no key."
    parts = [f"### {operation['summary']} {{#{operation['operationId']}}}", f"`{method.upper()} {path}`"]
    parts += [prose(operation.get("description", "")), needs]
    parts.append(_parameters(operation.get("parameters", ()), anchors))
    if "requestBody" in operation:
        parts.append(f"Body: {_content(operation['requestBody'], anchors)}")
    parts.append(_answers(operation["responses"], anchors))
    return "\n\n".join(part for part in parts if part)


def _parameters(parameters: Any, anchors: Anchors) -> str:
    if not parameters:
        return ""
    lines = ["| parameter | in | type | default | |", "|---|---|---|---|---|"]
    for one in parameters:
        default = "*required*" if one.get("required") else shown_default(one["schema"])
        text = cell(one.get("description") or one["schema"].get("description", ""))
        lines.append(f"| `{one['name']}` | {one['in']} | {kind(one['schema'], anchors, PAGE)} | {default} | {text} |")
    return "\n".join(lines)


def _answers(responses: Schema, anchors: Anchors) -> str:
    lines = ["| response | | body |", "|---|---|---|"]
    for status, response in sorted(responses.items()):
        body = _content(response, anchors) if int(status) < 400 else ""
        lines.append(f"| {status} | {_meaning(response['description'])} | {body} |")
    return "\n".join(lines)


def _meaning(description: str) -> str:
    """Of an error its codes alone: the page of errors has their titles."""
    codes = CODE.findall(description)
    if codes:
        return ", ".join(f"[`{code}`](../errors.md)" for code in codes)
    return "" if description == "Successful Response" else cell(description)


def _content(response: Schema, anchors: Anchors) -> str:
    return ", ".join(
        kind(media["schema"], anchors, PAGE) if name == "application/json" and media.get("schema") else f"`{name}`"
        for name, media in response.get("content", {}).items()
    )
