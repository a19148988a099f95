"""The targets of every row: read for all splits, before any input is decoded."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from api_schemas.enums import Head, Modality
from api_schemas.results.metrics import JobWarning
from api_schemas.spec.job import Speech
from checkpoints.data.answers import answers_in
from checkpoints.data.columns import FoundColumns
from checkpoints.data.label_numbers import by_number
from worker.engine.data.columns import row_error, schema_error
from worker.engine.data.featurizers.prompts import Prompt
from worker.engine.data.featurizers.texts import TextFeaturizer
from worker.engine.data.featurizers.transcripts import Transcripts
from worker.engine.data.labels import check_ids, has_list, label_names, numbered, targets_of
from worker.engine.data.split import Ragged

if TYPE_CHECKING:
    from worker.engine.data.sources import Source

Targets = Tensor | Ragged


@dataclass(frozen=True)
class TargetSettings:
    """Which checkpoint reads the data, and what it does with it. `labels`: by class number."""

    model_dir: Path
    modality: Modality
    head: Head
    labels: Sequence[str]
    multi_label: bool
    speech: Speech
    label_ids: bool = False
    """Whether labels are class numbers, as the user says."""


@dataclass(frozen=True)
class SplitTargets:
    """By the dataset's own splits. `strata` say of every row which rows are alike, for what is held out."""

    targets: Mapping[str, Targets]
    strata: Mapping[str, Sequence[Hashable]]
    unknown_characters: float = 0.0
    prompt: Prompt | None = None
    warnings: tuple[JobWarning, ...] = ()


def read_targets(
    source: "Source", columns: FoundColumns, splits: Sequence[str], reading: TargetSettings
) -> SplitTargets:
    """Raises DATASET_SCHEMA or LABELS_MISMATCH; CONFIG_INVALID or CODE_REFUSED for a tokenizer that cannot be used."""
    if columns.label is None:
        lengths = {split: len(source.splits[split]) for split in splits}
        empty: dict[str, Targets] = {split: torch.zeros(length, 0) for split, length in lengths.items()}
        return SplitTargets(empty, {split: [()] * length for split, length in lengths.items()})
    if reading.head in (Head.CTC, Head.SEQUENCE_TO_SEQUENCE):
        texts = {split: list(source.splits[split][columns.label]) for split in splits}
        transcripts = Transcripts(reading.model_dir, reading.head, reading.speech)
        ids, unknown = transcripts.ids(texts)
        alike: dict[str, Sequence[Hashable]] = {split: [()] * len(rows) for split, rows in texts.items()}
        return SplitTargets(ids, alike, unknown, transcripts.prompt)
    if reading.head is Head.QUESTION_ANSWERING:
        return SplitTargets({}, {split: _answered(source, columns, split) for split in splits})
    told = reading.label_ids or has_list(source, columns.label, reading.labels)
    names = {split: label_names(source, columns.label, split, as_ids=told) for split in splits}
    said: tuple[JobWarning, ...] = ()
    if not told:
        check_ids(source, columns.label, names)
        said = by_number(reading.labels, {name for rows in names.values() for row in rows for name in row})
    number = numbered(names, reading.labels, told=told)
    if reading.head is Head.TOKEN_CLASSIFICATION:
        return SplitTargets(
            _tags(source, columns.input, names, number, reading),
            {split: [()] * len(names[split]) for split in names},
            warnings=said,
        )
    targets: dict[str, Targets] = dict(targets_of(names, reading.labels, reading.multi_label, number))
    strata = {split: [tuple(sorted(row)) for row in rows] for split, rows in names.items()}
    return SplitTargets(targets, strata, warnings=said)


def _answered(source: "Source", columns: FoundColumns, split: str) -> list[Hashable]:
    """Of every question whether it has an answer. Raises DATASET_SCHEMA where one is not where the row says."""
    found: list[Hashable] = []
    rows = source.splits[split].select_columns([str(columns.pair), str(columns.label)])
    for number, row in enumerate(rows):
        if not isinstance(row[columns.pair], str):
            raise row_error(f"{split}[{number}]", "the context is missing")
        try:
            found.append(bool(answers_in(row[columns.label], row[columns.pair])))
        except ValueError as error:
            raise row_error(f"{split}[{number}]", str(error)) from None
    return found


def _tags(
    source: "Source",
    column: str,
    names: Mapping[str, Sequence[tuple[str, ...]]],
    number: Mapping[str, int],
    reading: TargetSettings,
) -> dict[str, Targets]:
    """Every word's label at its first token."""
    texts = TextFeaturizer(reading.model_dir, words=True)
    targets: dict[str, Targets] = {}
    for split, rows in names.items():
        words = list(source.splits[split][column])
        for row, (found, tags) in enumerate(zip(words, rows, strict=True)):
            if found is None or len(found) != len(tags):
                raise row_error(f"{split}[{row}]", f"there are {len(found or ())} words but {len(tags)} labels")
        targets[split] = Ragged.of(texts.tags(words, [[number[name] for name in row] for row in rows]))
    return targets


def groups_of(source: "Source", column: str | None, split: str, rows: Iterable[int]) -> list[Hashable] | None:
    """The group of each of these rows. Raises DATASET_SCHEMA where one has none."""
    if column is None:
        return None
    of_all = list(source.splits[split][column])
    groups = [of_all[row] for row in rows]
    if not all(isinstance(group, str | int) for group in groups):
        raise schema_error(f"column {column!r} does not name a group in every row", source.features, column)
    return groups
