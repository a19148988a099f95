"""What pydantic finds wrong with a document, in words for people, each with its place: alike in service and client."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

NO_SUCH_FIELD = "there is no such field"
LONGEST_PART = 200
"""Characters of a name that a pointer repeats: a stranger may have made it as long as the body."""
_ENUM_MEMBER = re.compile(r"<\w+\.\w+: ('[^']*')>")
_patterns: dict[str, str] = {}


def worded(pattern: str, words: str) -> str:
    """`pattern`, which is said as `words` to whoever sends a text that does not match: what the text has to be."""
    _patterns[pattern] = words
    return pattern


def without_echoes(found: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Pydantic calls a list too short whose only items are wrong; that says nothing beyond what is wrong with them."""
    places = [item["loc"] for item in found]
    return [
        item
        for item in found
        if item["type"] != "too_short" or not any(place[: len(item["loc"])] == item["loc"] != place for place in places)
    ]


def reason(item: Mapping[str, Any]) -> str:
    """Pydantic's words, where they are not about Python or about its own ways."""
    words = _WORDS.get(item["type"])
    said = words(item.get("ctx", {})) if words else _ENUM_MEMBER.sub(r"\1", str(item["msg"]))
    return said + _of_a_percentage(item)


def _of_a_percentage(item: Mapping[str, Any]) -> str:
    """`50` where a share was asked for is taken to be meant in percent."""
    given, context = item.get("input"), item.get("ctx") or {}
    if item["type"] not in ("less_than", "less_than_equal") or not isinstance(given, int | float):
        return ""
    return f"; did you mean {given / 100:g}?" if context.get("lt", context.get("le")) == 1 and 2 <= given < 100 else ""


def json_pointer(parts: Iterable[str | int]) -> str:
    """RFC 6901: `/` before every part, and `~0` and `~1` for the two signs that mean something there."""
    return "".join("/" + str(part)[:LONGEST_PART].replace("~", "~0").replace("/", "~1") for part in parts)


def pointer(path: tuple[str | int, ...], body: Any) -> str:
    """Where in `body` pydantic's path leads. What it has beside names and numbers of the document is left out: the tags of
    unions, and the mark of a key that is wrong itself."""
    parts: list[str | int] = []
    entered = False
    for part in path:
        # The tag stands before the first key of its object, which may be called like it.
        if not entered and isinstance(body, dict) and body.get("type") == part:
            entered = True
            continue
        if part == _OF_THE_KEY and not isinstance(body, dict):
            continue
        entered = False
        parts.append(part)
        if isinstance(body, dict):
            body = body.get(part)
        elif isinstance(body, list) and isinstance(part, int) and part < len(body):
            body = body[part]
        else:
            body = None
    return json_pointer(parts)


_OF_THE_KEY = "[key]"


def _pattern(context: Mapping[str, Any]) -> str:
    return _patterns.get(context["pattern"], "it has not the form that is needed here")


def _raised(context: Mapping[str, Any]) -> str:
    return str(context["error"])


def _count(context: Mapping[str, Any]) -> str:
    most, given = context.get("max_length"), context.get("actual_length")
    bound = f"{context.get('min_length')} or more are needed" if most is None else f"up to {most} are allowed"
    return bound if given is None else f"{bound}, and there are {given}"


def _always(words: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda _: words


_WORDS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "missing": _always("it is missing"),
    "extra_forbidden": _always(NO_SUCH_FIELD),
    "value_error": _raised,
    "assertion_error": _raised,
    "string_pattern_mismatch": _pattern,
    "too_long": _count,
    "too_short": _count,
    "union_tag_invalid": lambda context: f"`type` has to be one of {context['expected_tags']}",
    "union_tag_not_found": _always("`type` is missing, which says what it is"),
    "timezone_aware": _always("the moment needs its offset from UTC, such as Z or +01:00"),
    **dict.fromkeys(
        ("model_attributes_type", "model_type", "dict_type", "mapping_type"), _always("a JSON object is needed")
    ),
    **dict.fromkeys(("tuple_type", "list_type", "set_type", "frozen_set_type"), _always("a JSON list is needed")),
    **dict.fromkeys(("string_type", "string_unicode"), _always("a text is needed")),
    **dict.fromkeys(("int_type", "int_parsing", "int_parsing_size"), _always("a whole number is needed")),
    "int_from_float": _always("a whole number is needed"),
    **dict.fromkeys(("float_type", "float_parsing", "finite_number"), _always("a number is needed")),
    **dict.fromkeys(("bool_type", "bool_parsing"), _always("true or false is needed")),
    **dict.fromkeys(
        ("datetime_type", "datetime_parsing", "datetime_from_date_parsing", "datetime_object_invalid"),
        _always("a moment as in RFC 3339 is needed, such as 2026-01-05T00:00:00+01:00"),
    ),
}
