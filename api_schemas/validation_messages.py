"""What pydantic finds wrong with a document, in words for people, each with its place: alike in service and client."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

_ENUM_MEMBER = re.compile(r"<\w+\.\w+: ('[^']*')>")


def without_echoes(found: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Pydantic calls a list too short whose only items are wrong; that says nothing beyond what is wrong with them."""
    places = [item["loc"] for item in found]
    return [
        item
        for item in found
        if item["type"] != "too_short" or not any(place[: len(item["loc"])] == item["loc"] != place for place in places)
    ]


def reason(item: Mapping[str, Any]) -> str:
    """Pydantic's words, where they are not about Python."""
    if item["type"] in ("model_attributes_type", "model_type", "dict_type"):
        return "a JSON object is needed"
    return _ENUM_MEMBER.sub(r"\1", str(item["msg"]))


def pointer(path: tuple[str | int, ...], body: Any) -> str:
    """RFC 6901. Pydantic puts the tag of a union into the path, which is no place in the document: it is left out."""
    parts: list[str] = []
    entered = False
    for part in path:
        # The tag stands before the first key of its object, which may be called like it.
        if not entered and isinstance(body, dict) and body.get("type") == part:
            entered = True
            continue
        entered = False
        parts.append(str(part).replace("~", "~0").replace("/", "~1"))
        if isinstance(body, dict):
            body = body.get(part)
        elif isinstance(body, list) and isinstance(part, int) and part < len(body):
            body = body[part]
        else:
            body = None
    return "".join(f"/{part}" for part in parts)
