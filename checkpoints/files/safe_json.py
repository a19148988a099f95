"""Untrusted JSON: limited in size and depth, without repeated keys or constants that JSON does not have."""

import json
from math import isfinite
from typing import Any, NoReturn

MAX_DEPTH = 32
MAX_CONTAINERS = 700_000
"""Objects and lists in one text. Gemma's tokenizer has 581,000 merges, each a list of two; three for each tensor that a header
may name are a third as many."""
MAX_VALUES = 2_000_000


class UnsafeJsonError(ValueError):
    """The text is not JSON that this service reads. The message is a clause that fits after `The file …`."""


def load_object(data: bytes, max_bytes: int, max_depth: int = MAX_DEPTH) -> dict[str, Any]:
    """Parse `data`, which must be one JSON object. Raises UnsafeJsonError."""
    value = _load(data, max_bytes, max_depth)
    if not isinstance(value, dict):
        raise UnsafeJsonError("is not a JSON object")
    return value


def load_list(data: bytes, max_bytes: int, max_depth: int = MAX_DEPTH) -> list[Any]:
    """Parse `data`, which must be one JSON list. Raises UnsafeJsonError."""
    value = _load(data, max_bytes, max_depth)
    if not isinstance(value, list):
        raise UnsafeJsonError("is not a JSON list")
    return value


def _load(data: bytes, max_bytes: int, max_depth: int) -> Any:
    if len(data) > max_bytes:
        raise UnsafeJsonError(f"is larger than {max_bytes} bytes, the limit for JSON")
    # Before it is parsed: a megabyte of empty lists takes as long as a hundred of numbers. Brackets in texts count, too.
    if data.count(b"[") + data.count(b"{") > MAX_CONTAINERS or data.count(b",") > MAX_VALUES:
        raise UnsafeJsonError(f"has more than {MAX_CONTAINERS} objects and lists, or more than {MAX_VALUES} values")
    try:
        value = json.loads(
            data.decode("utf-8"), object_pairs_hook=_without_repeats, parse_constant=_no_constant, parse_float=_finite
        )
    except UnicodeDecodeError:
        raise UnsafeJsonError("is not UTF-8 text") from None
    except RecursionError:
        raise UnsafeJsonError("is nested too deeply") from None
    except UnsafeJsonError:
        raise
    except ValueError as error:
        raise UnsafeJsonError(f"is not valid JSON ({error})") from None
    if isinstance(value, dict | list) and _deeper_than(value, max_depth):
        raise UnsafeJsonError(f"is nested more than {max_depth} levels deep")
    return value


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Two readers of one file must not see two different files: most keep the last of equal keys, some the first.
    value = dict(pairs)
    if len(value) != len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for index, key in enumerate(keys) if key in keys[:index]) if len(keys) < 10_000 else "…"
        raise UnsafeJsonError(f"has the key {repeated[:100]!r} more than once in the same object")
    return value


def _no_constant(name: str) -> NoReturn:
    raise UnsafeJsonError(f"contains {name}, which is not valid JSON")


def _finite(text: str) -> float:
    # Valid JSON, but Python reads 1e400 as infinity, which is no valid width.
    number = float(text)
    if not isfinite(number):
        raise UnsafeJsonError(f"contains the number {text[:40]}, which is too large")
    return number


def _deeper_than(value: Any, depth: int) -> bool:
    level = [value]
    for _ in range(depth):
        level = [
            child
            for parent in level
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, dict | list)
        ]
        if not level:
            return False
    return True
