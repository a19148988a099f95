"""Whether a job can run on an uploaded dataset, from the check's findings: its splits, its columns, its labels."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from api_schemas.api.resources import DatasetContents, ModelLayout
from api_schemas.enums import ColumnKind, Head, Split
from api_schemas.errors import ErrorCode, ErrorItem, SecateurError
from api_schemas.results.metrics import JobWarning
from api_schemas.spec.inputs import Splits, UploadedDataset
from api_schemas.spec.job import JobRequest
from checkpoints.config.checkpoint_config import check_names
from checkpoints.data.blank_texts import blank_warnings, leaves_out_blanks, missing_text
from checkpoints.data.clip_flaws import clip_warnings
from checkpoints.data.columns import SEVERAL, FoundColumns, find_columns
from checkpoints.data.label_numbers import by_number, class_numbers, list_digest, told_numbers, unclear_ids
from checkpoints.data.missing_labels import labelled_splits
from checkpoints.data.role_rules import check_roles, repeated_rows, same_rows, uses_train
from checkpoints.data.shards.columns import Unlike
from checkpoints.data.split_names import name_splits, samples_by_role, split_called


def check_split_names(splits: Splits) -> None:
    """No two roles are one split: scores would be of data that was trained or decided on. Raises INVALID_REQUEST."""
    roles: dict[str, str] = {}
    for role in ("train", "validation", "test"):
        first = roles.setdefault(split_called(getattr(splits, role)), role)
        if first != role:
            detail = (
                f"{first} and {role} would both use the split {getattr(splits, role)!r}, so the scores would be "
                "meaningless. Leave one out: a role without a split is held out of train."
            )
            raise _wrong(f"/dataset/splits/{role}", ErrorCode.INVALID_REQUEST, detail)


@dataclass(frozen=True)
class CheckedDataset:
    """`warnings`: what to know of the pair that does not stop it. `samples`: rows by role, before the worker has read them."""

    warnings: tuple[JobWarning, ...]
    samples: dict[Split, int]


def check_dataset(
    job: JobRequest, request: UploadedDataset, contents: DatasetContents, model: ModelLayout | None
) -> CheckedDataset:
    """Judge a dataset for a job. `model` is None where only the worker can look.

    Raises DATASET_SCHEMA, DATASET_EMPTY or LABELS_MISMATCH.
    """
    found = None if model is None else _find_columns(request, contents, model)
    if contents.label_error is not None and found is not None and found.label == contents.label_column:
        raise _wrong("/dataset/columns/label", contents.label_error.code, contents.label_error.detail)
    named, unlabelled = _used_splits(request.splits, contents, found)
    classes: Mapping[Split, int] = {}
    numbered: tuple[JobWarning, ...] = ()
    if model is not None and found is not None and model.head in (Head.CLASSIFICATION, Head.TOKEN_CLASSIFICATION):
        labels = _labels_by_split(contents, found, named)
        used = {label for of_split in labels.values() for label in of_split}
        known = contents.label_columns.get(found.label or "")
        _check_texts(contents, model, found)
        if request.columns.label_ids:
            _check_ids(contents, model, found, used)
        elif known is None or known.names_sha256 != list_digest(model.labels):
            if known is not None and used & set(known.repeated):
                raise unclear_ids(used & set(known.repeated), "/dataset/columns/label")
            _check_labels(contents, model, found, labels)
            numbered = by_number(model.labels, used)
        if not model.multi_label and (known is None or not known.repeated):
            classes = {role: len(labels[split]) for role, split in named.items() if split in labels}
    if model is not None and found is not None and model.head is Head.QUESTION_ANSWERING:
        _check_answers(contents, found, named)
    inspected = found is not None and (found.input, found.pair) == (contents.input_column, contents.pair_column)
    rows = contents.rows
    blank: tuple[JobWarning, ...] = ()
    if inspected and model is not None:
        rows, blank = _rows_with_texts(contents, named, leaves_out=leaves_out_blanks(model.modality, model.head))
    samples = samples_by_role(rows, named)
    held_out = [role for role in Split if role not in named]
    read = () if found is None else found.warnings
    warnings = (*read, *numbered, *check_roles(samples, classes, held_out, trains=uses_train(job)))
    if found is not None and not inspected:
        return CheckedDataset((*unlabelled, *warnings), samples)
    found_warnings = (*unlabelled, *blank, *warnings, *clip_warnings(named, contents.clip_flaws))
    if contents.shared_rows is None:
        return CheckedDataset(found_warnings, samples)
    shared = {
        role.value: {other.value: contents.shared_rows.get(split, {}).get(named[other], 0) for other in named}
        for role, split in named.items()
    }
    repeated = 0 if request.columns.group else shared[Split.TRAIN.value][Split.TRAIN.value]
    repeats = repeated_rows(rows[named[Split.TRAIN]], repeated, held_out)
    return CheckedDataset((*found_warnings, *same_rows(samples, shared), *repeats), samples)


def _used_splits(
    splits: Splits, contents: DatasetContents, found: FoundColumns | None
) -> tuple[dict[Split, str], tuple[JobWarning, ...]]:
    """The dataset's split for every role that has one with what the checkpoint needs, and what to know of those left out.

    `found` is None where only the worker knows which columns are read. Raises DATASET_SCHEMA.
    """
    named = _named_splits(splits, contents)
    column = None if found is None else found.label
    known = contents.label_columns.get(column or "")
    if column is None or known is None:
        return named, ()
    return labelled_splits(named, known.unlabelled, column)


def _rows_with_texts(
    contents: DatasetContents, named: Mapping[Split, str], *, leaves_out: bool
) -> tuple[dict[str, int], tuple[JobWarning, ...]]:
    """How many rows of each split are read, and what to know of the others. Raises DATASET_SCHEMA where none may be left out."""
    blank = contents.blank_texts
    if leaves_out:
        counts = {split: found.rows for split, found in blank.items()}
        rows = {split: count - counts.get(split, 0) for split, count in contents.rows.items()}
        return rows, blank_warnings(named, contents.rows, counts)
    for split in named.values():
        if split in blank and blank[split].missing is not None:
            error = missing_text(f"{split}[{blank[split].missing}]")
            raise _wrong("/dataset/columns/input", error.code, error.detail)
    return contents.rows, ()


def _named_splits(splits: Splits, contents: DatasetContents) -> dict[Split, str]:
    """The dataset's split for every role that has one. Raises DATASET_SCHEMA where one that is asked for is not there."""
    for role in Split:
        split = getattr(splits, role.value)
        if role.value in splits.model_fields_set and not {split, split_called(split)} & set(contents.rows):
            detail = f"The dataset has no split {split!r} for {role.value}; its splits are {', '.join(contents.rows)}."
            raise _wrong(f"/dataset/splits/{role.value}", ErrorCode.DATASET_SCHEMA, detail)
    try:
        return name_splits(list(contents.rows), splits)
    except SecateurError as error:
        raise _wrong("/dataset/splits/train", error.code, error.detail) from None


def _find_columns(request: UploadedDataset, contents: DatasetContents, model: ModelLayout) -> FoundColumns:
    """The pair of checkpoint and data, judged by the kinds of the columns."""
    for field in ("input", "input_pair", "label", "group"):
        column = getattr(request.columns, field)
        if column is not None and column not in contents.columns:
            detail = f"The dataset has no column {column!r}; its columns are {', '.join(contents.columns)}."
            raise _wrong(f"/dataset/columns/{field}", ErrorCode.DATASET_SCHEMA, detail)
    try:
        unlike = Unlike(contents.differing, contents.lacking)
        return find_columns(contents.column_kinds, request.columns, model.modality, model.head, unlike)
    except SecateurError as error:
        detail = f"{error.detail} The checkpoint is {model.architecture}."
        items = tuple(_item("/dataset/columns", error.code, item.detail) for item in error.errors)
        raise SecateurError(error.code, detail, items) from None


def _labels_by_split(
    contents: DatasetContents, found: FoundColumns, named: Mapping[Split, str]
) -> dict[str, tuple[str, ...]]:
    """Names in use in the label column, of the splits that the job reads. Empty where they were not looked at.

    Raises DATASET_SCHEMA where a row of these splits has no label.
    """
    column = found.label or ""
    if contents.kinds.get(column) in (ColumnKind.OTHER, ColumnKind.ANSWERS):
        detail = f"Column {column!r} contains neither texts nor whole numbers, so it cannot contain labels."
        raise _wrong("/dataset/columns/label", ErrorCode.DATASET_SCHEMA, detail)
    known = contents.label_columns.get(column)
    if known is None:
        return {}
    for split in named.values():
        # Of the inspected column: that it holds texts of all kinds is said by `labels`, and better.
        if split in known.unusable and (column != contents.label_column or contents.labels):
            detail = f"Column {column!r} cannot be the label column: {known.unusable[split]}."
            raise _wrong("/dataset/columns/label", ErrorCode.DATASET_SCHEMA, detail)
    return {split: known.labels[split] for split in named.values() if split in known.labels}


def _check_answers(contents: DatasetContents, found: FoundColumns, named: Mapping[Split, str]) -> None:
    """Raises DATASET_SCHEMA where an answer in the splits that the job reads is not where the row says."""
    known = contents.label_columns.get(found.label or "")
    if known is None or known.context != found.pair:
        return  # Of another column's texts the worker tells.
    for split in named.values():
        if split in known.unusable:
            detail = (
                f"Column {found.label!r} cannot be used as the answers for {found.pair!r}: {known.unusable[split]}."
            )
            raise _wrong("/dataset/columns/label", ErrorCode.DATASET_SCHEMA, detail)


def _check_texts(contents: DatasetContents, model: ModelLayout, found: FoundColumns) -> None:
    """Raises DATASET_SCHEMA where the column holds no labels, LABELS_MISMATCH where rows have several and the checkpoint one."""
    inspected = found.label == contents.label_column
    if inspected and not contents.labels:
        detail = (
            f"Column {contents.label_column!r} contains free text, not label names, but the checkpoint predicts "
            "labels. Name the label column in `columns.label`."
        )
        raise _wrong("/dataset/columns/label", ErrorCode.DATASET_SCHEMA, detail)
    # The other way round is fine: one label a row is a list of one.
    several = contents.kinds.get(found.label or "") in SEVERAL
    if (contents.multi_label if inspected else several) and model.head is Head.CLASSIFICATION and not model.multi_label:
        detail = (
            "The dataset has several labels per row, but the checkpoint predicts one. Use a checkpoint whose "
            'config.json has "problem_type": "multi_label_classification".'
        )
        raise _wrong("/dataset", ErrorCode.LABELS_MISMATCH, detail)


def _check_ids(contents: DatasetContents, model: ModelLayout, found: FoundColumns, used: Collection[str]) -> None:
    """Labels that are class numbers, as the user says. Raises LABELS_MISMATCH where one is none."""
    known = contents.label_columns.get(found.label or "")
    if contents.kinds.get(found.label or "") not in (ColumnKind.LABEL, ColumnKind.LABELS):
        if used:
            told_numbers(model.labels, used, "/dataset/columns/label_ids")
    elif known is not None and known.highest_id is not None:
        told_numbers(model.labels, {str(known.highest_id)}, "/dataset/columns/label_ids")


def _check_labels(
    contents: DatasetContents, model: ModelLayout, found: FoundColumns, by_split: Mapping[str, Sequence[str]]
) -> None:
    """Raises LABELS_MISMATCH where the labels are not the checkpoint's."""
    inspected = found.label == contents.label_column
    known = contents.label_columns.get(found.label or "")
    whole = known is not None and known.complete
    used = {label for labels in by_split.values() for label in labels}
    labels = tuple(sorted(used))
    if inspected:
        # In the order of their ids; splits that the job does not read may have others.
        labels = tuple(label for label in contents.labels if label in used or not whole)
    if class_numbers(model.labels, labels) is not None:
        return
    check_names(model.labels, labels, "/dataset/columns/label")
    unknown = sorted(set(labels) - set(model.labels))
    if unknown:
        items = (
            _item("/dataset/columns/label", ErrorCode.LABELS_MISMATCH, _listed(labels)),
            _item("/model", ErrorCode.LABELS_MISMATCH, _listed(model.labels)),
        )
        of_column = "" if inspected else f" in column {found.label!r}"
        detail = (
            f"{len(unknown)} labels of the dataset{of_column} are unknown to the checkpoint: {_listed(unknown[:10])}. "
            f"Labels are matched by name with id2label. The dataset has {_listed(labels)}; the checkpoint has "
            f"{_listed(model.labels)}."
        )
        raise SecateurError(ErrorCode.LABELS_MISMATCH, detail, items)


def _listed(labels: Sequence[str]) -> str:
    return "[" + ", ".join(repr(label) for label in labels) + "]"


def _item(pointer: str, code: ErrorCode, detail: str) -> ErrorItem:
    return ErrorItem(pointer=pointer, code=code, detail=detail)


def _wrong(pointer: str, code: ErrorCode, detail: str) -> SecateurError:
    return SecateurError(code, detail, (_item(pointer, code, detail),))
