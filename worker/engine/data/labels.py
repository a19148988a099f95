"""Converts labels of the data, by name, to class numbers of the checkpoint."""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from api_schemas.errors import ErrorCode, ErrorItem, SecateurError
from checkpoints.config.checkpoint_config import check_names
from checkpoints.data.label_numbers import class_numbers, several_ids, told_numbers, unclear_ids
from checkpoints.data.missing_labels import is_missing
from worker.engine.data.columns import element, is_integer, schema_error

if TYPE_CHECKING:
    from worker.engine.data.sources import Source

# Label sets can have hundreds of names; an error shows this many of each.
SHOWN = 60


def label_names(source: "Source", column: str, split: str, *, as_ids: bool = False) -> list[tuple[str, ...]]:
    """Names of every row's labels: exactly one a row where the column holds single labels. Raises DATASET_SCHEMA.

    as_ids: the digits of ids, and not what the column calls them.
    """
    feature = source.features[column]
    several = element(feature) is not None
    name_of = _naming(source, column)
    if as_ids and name_of:
        name_of = {each: str(each) for each in name_of}
    names: list[tuple[str, ...]] = []
    for row, value in enumerate(source.splits[split][column]):
        if value is None:
            raise schema_error(f"row {split}[{row}] has no label", source.features, column)
        try:
            names.append(tuple(name_of[item] if name_of else _text(item) for item in (value if several else [value])))
        except (KeyError, TypeError, ValueError):
            reason = f"the label at {split}[{row}] is {value!r}, which is not one of the column's labels"
            raise schema_error(reason, source.features, column) from None
    return names


def has_list(source: "Source", column: str, labels: Sequence[str]) -> bool:
    """Whether the column's ClassLabel is the checkpoint's own list, with names that several classes have: then its ids are the
    class numbers."""
    return column in source.names and list(source.names[column]) == list(labels)


def check_ids(source: "Source", column: str, names: Mapping[str, Sequence[tuple[str, ...]]]) -> None:
    """Raises LABELS_MISMATCH where the data has a label that the column calls several of its ids by."""
    used = {name for rows in names.values() for row in rows for name in row}
    unclear = used & set(several_ids(source.names.get(column, ())))
    if unclear:
        raise unclear_ids(unclear, "/dataset")


def unlabelled_splits(source: "Source", column: str, splits: Collection[str]) -> list[str]:
    """Those of `splits` in which no row has a label."""
    return [split for split in splits if all(map(is_missing, source.splits[split][column]))]


def _naming(source: "Source", column: str) -> dict[int, str] | None:
    """Names by id where the column holds ids, None where it holds the names themselves."""
    import datasets

    feature = source.features[column]
    kind = feature if element(feature) is None else element(feature)
    if isinstance(kind, datasets.ClassLabel):
        return dict(enumerate(kind.names))
    if column in source.names:
        return dict(enumerate(source.names[column]))
    # A number without a name is called by its digits.
    if is_integer(kind) or (isinstance(kind, datasets.Value) and kind.dtype in ("string", "large_string")):
        return None
    reason = f"column {column!r} contains neither texts nor whole numbers, so it cannot contain labels"
    raise schema_error(reason, source.features, column)


def _text(value: Any) -> str:
    if isinstance(value, str) and value:
        return value
    if isinstance(value, int):
        return str(value)
    raise ValueError(value)


def targets_of(
    names: Mapping[str, Sequence[tuple[str, ...]]],
    labels: Sequence[str],
    multi_label: bool,
    number: Mapping[str, int] | None = None,
) -> dict[str, Tensor]:
    """Targets by split: int64 [N], or for a multi-label checkpoint float32 [N, C] of zeros and ones.

    `names`: by split, the labels of every row; `labels`: the checkpoint's, by class number. `number`: as `numbered` has it, which
    is asked where it is None. A checkpoint may know labels that the data lacks. Raises LABELS_MISMATCH, with both lists, where
    the data has others, and DATASET_SCHEMA where a row has several labels, or none, and the checkpoint gives one.
    """
    number = numbered(names, labels) if number is None else number
    targets: dict[str, Tensor] = {}
    for split, rows in names.items():
        if multi_label:
            hot = torch.zeros(len(rows), len(labels))
            for index, row in enumerate(rows):
                hot[index, [number[name] for name in row]] = 1.0
            targets[split] = hot
            continue
        for index, row in enumerate(rows):
            if len(row) != 1:
                detail = (
                    f"The checkpoint predicts exactly one label per row, but row {split}[{index}] has {len(row)}. Use "
                    'a checkpoint whose config.json has "problem_type": "multi_label_classification".'
                )
                raise SecateurError(ErrorCode.DATASET_SCHEMA, detail)
        targets[split] = torch.tensor([number[row[0]] for row in rows], dtype=torch.int64)
    return targets


def numbered(
    names: Mapping[str, Sequence[tuple[str, ...]]], labels: Sequence[str], *, told: bool = False
) -> dict[str, int]:
    """Class numbers by name, or by themselves where the data's labels are class numbers, as they are where that is `told`.

    Raises LABELS_MISMATCH, with both lists, where the data has a label that the checkpoint lacks, and where it has one that is
    the name of several classes.
    """
    number = {name: index for index, name in enumerate(labels)}
    used = {name for rows in names.values() for row in rows for name in row}
    by_themselves = told_numbers(labels, used, "/dataset") if told else class_numbers(labels, used)
    if by_themselves is not None:
        return dict(by_themselves)
    check_names(labels, used, "/dataset")
    if used - number.keys():
        raise _mismatch(used, labels)
    return number


def _mismatch(used: set[str], labels: Sequence[str]) -> SecateurError:
    unknown = sorted(used - set(labels))
    detail = (
        f"{len(unknown)} of the data's labels are unknown to the checkpoint: {_listed(unknown)}. Labels are matched "
        f"by name. The data's labels: {_listed(sorted(used))}. The checkpoint's labels: {_listed(labels)}."
    )
    items = tuple(
        ErrorItem.at(list_, code=ErrorCode.LABELS_MISMATCH, detail=text)
        for list_, text in (
            ("unknown", ", ".join(unknown)),
            ("dataset", ", ".join(sorted(used))),
            ("checkpoint", ", ".join(labels)),
        )
    )
    return SecateurError(ErrorCode.LABELS_MISMATCH, detail, items)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
