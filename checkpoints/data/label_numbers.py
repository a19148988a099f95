"""Labels that are class numbers: for classes that share a name, or data that does not contain the names."""

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from api_schemas.errors import ErrorCode, ErrorItem, SecateurError
from api_schemas.results.metrics import JobWarning

_SHOWN = 20


def class_numbers(labels: Sequence[str], used: Collection[str]) -> Mapping[str, int] | None:
    """Class numbers by the labels that data has, where each of them is such a number and none is a name; else None.

    `labels`: the checkpoint's, by class number. One whose classes are called "0" to "9" is matched by name, like others.
    """
    if set(used) & set(labels):
        return None
    return _numbers(labels, used)


def told_numbers(labels: Sequence[str], used: Collection[str], pointer: str) -> Mapping[str, int]:
    """Class numbers by the labels that data has, where somebody says that they are. Raises LABELS_MISMATCH where one is none."""
    found = _numbers(labels, used)
    if found is None:
        others = sorted(set(used) - {str(number) for number in range(len(labels))})[:_SHOWN]
        detail = (
            f"`columns.label_ids` is set, so labels must be class numbers from 0 to {len(labels) - 1}; the data has "
            f"{', '.join(map(repr, others)) or 'none'}."
        )
        item = ErrorItem(pointer=pointer, code=ErrorCode.LABELS_MISMATCH, detail=detail)
        raise SecateurError(ErrorCode.LABELS_MISMATCH, detail, (item,))
    return found


def _numbers(labels: Sequence[str], used: Collection[str]) -> Mapping[str, int] | None:
    numbers = {str(number): number for number in range(len(labels))}
    return {label: numbers[label] for label in used} if used and not set(used) - numbers.keys() else None


def list_digest(names: Sequence[str]) -> str:
    """What tells one list of names from another."""
    return hashlib.sha256(json.dumps(list(names)).encode()).hexdigest()


def several_ids(names: Sequence[str]) -> list[str]:
    """Names that a column's ClassLabel gives to more than one of its ids, in order."""
    return sorted(name for name, ids in Counter(names).items() if ids > 1)


def unclear_ids(names: Collection[str], pointer: str) -> SecateurError:
    """LABELS_MISMATCH for labels of data that are the name of several of its own ids, where its list is not the checkpoint's."""
    detail = (
        f"The label column gives several of its ids the same name: {', '.join(map(repr, sorted(names)[:_SHOWN]))}. "
        "Its list of names is not the checkpoint's, so it is unclear which class each id means. If its ids are the "
        "checkpoint's class numbers, set `columns.label_ids: true`."
    )
    item = ErrorItem(pointer=pointer, code=ErrorCode.LABELS_MISMATCH, detail=detail)
    return SecateurError(ErrorCode.LABELS_MISMATCH, detail, (item,))


def by_number(labels: Sequence[str], used: Collection[str]) -> tuple[JobWarning, ...]:
    """A warning if labels are matched by number, because only the data's author knows that both count alike."""
    numbers = class_numbers(labels, used)
    if numbers is None:
        return ()
    first = min(numbers.values())
    detail = (
        "The data's labels are numbers, and none of them is the name of a class: they are used as class numbers, "
        f"{first} as {labels[first]!r}. If the data is numbered differently, write names; if not, set "
        "`columns.label_ids: true` to confirm."
    )
    return (JobWarning(code="labels_by_number", pointer="/dataset/columns/label", detail=detail),)
