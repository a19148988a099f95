"""From a data folder to splits ready for the model: find, match, divide, decode, featurize; once per job."""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from api_schemas.enums import Head, Modality, Split
from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.results.metrics import DataSummary, JobWarning
from api_schemas.spec.inputs import Columns, Splits
from api_schemas.spec.job import Speech
from checkpoints.config.checkpoint_config import LABELLED
from checkpoints.data.blank_texts import blank_warnings, is_blank, leaves_out_blanks
from checkpoints.data.clip_flaws import ClipFlaws, clip_warnings
from checkpoints.data.columns import FoundColumns, find_columns
from checkpoints.data.layout import find_layout
from checkpoints.data.missing_labels import labelled_splits
from checkpoints.data.role_rules import same_rows
from checkpoints.data.shards.columns import CommonColumns
from checkpoints.data.shards.row_hashes import RowHashes
from checkpoints.data.split_names import name_splits
from worker.engine.data import cache, column_files
from worker.engine.data.featurizers import Featurizer, featurizer_for
from worker.engine.data.featurizers.base import SPANS, TARGETS, Value, content
from worker.engine.data.featurizers.normalizers import Normalize
from worker.engine.data.featurizers.prompts import UNSAID
from worker.engine.data.featurizers.transcripts import Decode, Transcripts, check_alignable, shifted
from worker.engine.data.labels import unlabelled_splits
from worker.engine.data.questions import Questions, write_questions
from worker.engine.data.split import IGNORED, FeatureSplit, Ragged
from worker.engine.data.splits import Role, assign_roles
from worker.engine.data.targets import SplitTargets, Targets, TargetSettings, groups_of, read_targets

if TYPE_CHECKING:
    from worker.engine.data.sources import Source

MADE_TOGETHER = (Head.MASKED_LM, Head.CAUSAL_LM, Head.QUESTION_ANSWERING)
"""Of these, what is asked is made together with the inputs."""
# Rows decoded together: enough for all threads, few enough to stay small in memory.
CHUNK = 64


@dataclass(frozen=True)
class PreparedData:
    """`pad_value` is what the extractor puts after a clip that is shorter than the model's input. `decode` gives the text of
    label ids, special tokens left out, where targets are texts; the ids are taken as they are, none are merged. `normalize` makes
    texts alike before they are compared. `questions` are what answers are read off and compared by, where these are asked for."""

    summary: DataSummary
    splits: dict[Split, FeatureSplit]
    pad_value: float
    decode: Decode | None = None
    normalize: Normalize | None = None
    questions: Questions | None = None
    name: str = ""
    """Of the inputs in the cache: the hash of all that they were made from."""
    found: bool = False
    """Whether an earlier job has left them there."""


def prepare(
    data_dir: Path,
    model_dir: Path,
    *,
    labels: Sequence[str],
    multi_label: bool,
    columns: Columns,
    splits: Splits,
    seed: int,
    cache_dir: Path,
    progress: Callable[[int, int], None],
    modality: Modality = Modality.AUDIO,
    head: Head = Head.CLASSIFICATION,
    speech: Speech = UNSAID,
) -> PreparedData:
    """Read `data_dir`, and make inputs as the files of `model_dir` say, or find them in `cache_dir`.

    labels: the checkpoint's, by class number. seed: draws the rows of roles that have no split, and the words that are masked.
    progress(done, total) counts rows, from 0 where any have to be read.

    Raises DATASET_EMPTY, DATASET_SCHEMA, LABELS_MISMATCH, AUDIO_UNDECODABLE or
    IMAGE_UNDECODABLE (with split and row), and CONFIG_INVALID or CODE_REFUSED (settings of the extractor, the image processor or
    the tokenizer).
    """
    reading = TargetSettings(model_dir, modality, head, labels, multi_label, speech, columns.label_ids)
    featurizer = featurizer_for(model_dir, modality, head, seed)
    layout = find_layout(data_dir, splits)
    options = {
        "labels": list(labels),
        "multi_label": multi_label,
        "columns": columns.model_dump(),
        "splits": splits.model_dump(),
        "seed": seed,
        "modality": modality,
        "head": head,
        "speech": speech.model_dump(),
    }
    entry = cache_dir / cache.entry_name(layout, data_dir, model_dir, options)
    found = cache.load(entry)
    of_entry: dict[str, Any] = {"name": entry.name, "found": found is not None}
    if found is None:
        # Imported only where data is read: it brings `datasets`, which takes seconds and starts a thread.
        from worker.engine.data.sources import open_source

        cache_dir.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix="rows-", dir=cache_dir, ignore_cleanup_errors=True) as scratch:

            def choose(common: CommonColumns) -> FoundColumns:
                return find_columns(common.kinds, columns, modality, head, common.unlike)

            source, found_columns = open_source(layout, data_dir, Path(scratch), columns, choose)
            _compute(source, found_columns, splits, reading, seed, featurizer, entry, progress)
        found = cache.load(entry)
        if found is None:
            raise SecateurError(
                ErrorCode.ENGINE_ERROR, f"The inputs written to {entry} have disappeared; check the cache folder."
            )
    else:
        cache.touch(entry)
        total = sum(found.summary.samples.values())
        progress(total, total)
    if head is Head.QUESTION_ANSWERING:
        questions = Questions(entry, unanswerable=any(found.summary.unanswerable.values()))
        return PreparedData(found.summary, found.splits, featurizer.pad_value, questions=questions, **of_entry)
    if head not in (Head.CTC, Head.SEQUENCE_TO_SEQUENCE):
        return PreparedData(found.summary, found.splits, featurizer.pad_value, **of_entry)
    texts = Transcripts(model_dir, head)
    normalize = texts.normalize(found.summary.text_normalizer)
    return PreparedData(found.summary, found.splits, featurizer.pad_value, texts.decode, normalize, **of_entry)


def _compute(
    source: "Source",
    columns: FoundColumns,
    splits: Splits,
    reading: TargetSettings,
    seed: int,
    featurizer: Featurizer,
    entry: Path,
    progress: Callable[[int, int], None],
) -> None:
    """Everything that does not need the inputs first, so that a mismatch is refused within seconds; then the inputs."""
    named = name_splits(list(source.splits), splits)
    left_out: tuple[JobWarning, ...] = ()
    if columns.label is not None:
        named, left_out = labelled_splits(
            named, unlabelled_splits(source, columns.label, set(named.values())), columns.label
        )
    answers = read_targets(source, columns, list(dict.fromkeys(named.values())), reading)
    train = named[Split.TRAIN]
    kept = _read_rows(source, columns, answers.strata, reading)
    assigned_roles = assign_roles(
        named,
        {split: len(rows) for split, rows in kept.items()},
        [answers.strata[train][row] for row in kept[train]],
        groups_of(source, columns.group, train, kept[train]),
        seed,
    )
    # Drawn among the rows that are read, and known by their places in the data.
    roles = {role: Role(each.split, kept[each.split][each.rows]) for role, each in assigned_roles.items()}
    with cache.writing(entry) as folder:
        asked = columns.label if reading.head in MADE_TOGETHER else None
        hashes, flaws = _write_inputs(source, columns, asked, roles, featurizer, folder, progress)
        classes: dict[str, int] = {}
        for role, assigned in roles.items():
            if reading.head in MADE_TOGETHER:
                column_files.set_apart(folder, role.value, TARGETS)
                continue
            targets = _of_rows(answers.targets[assigned.split], assigned)
            column_files.write_targets(folder, role.value, targets)
            _finish(folder, role, assigned, targets, reading)
            if reading.head in LABELLED and not reading.multi_label:
                classes[role.value] = _count_classes(targets)
        warnings = same_rows({role: len(assigned.rows) for role, assigned in roles.items()}, hashes.shared() or {})
        of_pieces: dict[str, dict[str, int]] = {}
        if reading.head is Head.QUESTION_ANSWERING:
            of_pieces = _write_questions(source, columns, roles, folder)
        if reading.head is Head.CAUSAL_LM:
            of_pieces = {"windows": {role.value: len(column_files.read_split(folder, role.value)) for role in roles}}
        summary = _summary(named, roles, columns, reading, answers).model_copy(
            update={
                **of_pieces,
                "classes": classes,
                "warnings": (
                    *left_out,
                    *columns.warnings,
                    *_blanks(named, source, kept),
                    *clip_warnings(named, flaws),
                    *warnings,
                    *answers.warnings,
                    *_language_unsaid(answers),
                ),
            }
        )
        (folder / cache.MANIFEST).write_text(summary.model_dump_json())


def _read_rows(
    source: "Source", columns: FoundColumns, splits: Iterable[str], reading: TargetSettings
) -> dict[str, NDArray[np.int64]]:
    """By split, the numbers of the rows that are read, in ascending order: all but blank texts of which nothing is asked."""
    if not leaves_out_blanks(reading.modality, reading.head):
        return {split: np.arange(len(source.splits[split])) for split in splits}
    texts = {split: source.splits[split][columns.input] for split in splits}
    return {split: np.flatnonzero([not is_blank(text) for text in rows]) for split, rows in texts.items()}


def _blanks(
    named: Mapping[Split, str], source: "Source", kept: Mapping[str, NDArray[np.int64]]
) -> tuple[JobWarning, ...]:
    rows = {split: len(source.splits[split]) for split in kept}
    return blank_warnings(named, rows, {split: rows[split] - len(kept[split]) for split in kept})


def _write_questions(
    source: "Source", columns: FoundColumns, roles: Mapping[Split, Role], folder: Path
) -> dict[str, dict[str, int]]:
    """What scoring needs of questions beside their inputs. Returns what DataSummary says of them."""
    windows, without = {}, {}
    for role, assigned in roles.items():
        column_files.set_apart(folder, role.value, SPANS)
        windows[role.value] = len(column_files.read_column(folder, role.value, SPANS))
        names = [str(columns.pair), str(columns.label)]
        rows = source.splits[assigned.split].select_columns(names).select(assigned.rows)
        without[role.value] = write_questions(folder, role, (tuple(row[name] for name in names) for row in rows))
    return {"windows": windows, "unanswerable": without}


def _summary(
    named: Mapping[Split, str],
    roles: Mapping[Split, Role],
    columns: FoundColumns,
    reading: TargetSettings,
    answers: SplitTargets,
) -> DataSummary:
    held_out = tuple(role.value for role in Split if role not in named)
    return DataSummary(
        samples={role.value: len(assigned.rows) for role, assigned in roles.items()},
        held_out=held_out,
        grouped_by=columns.group if held_out else None,
        multi_label=reading.multi_label,
        labels=tuple(reading.labels),
        unknown_characters=answers.unknown_characters,
        prompt=() if answers.prompt is None else answers.prompt.tokens,
        text_normalizer=None if answers.prompt is None else answers.prompt.normalizer,
    )


def _language_unsaid(answers: SplitTargets) -> Iterator[JobWarning]:
    if answers.prompt is not None and answers.prompt.unsaid:
        detail = (
            "The checkpoint supports several languages, but neither `speech.language` nor the checkpoint's own files "
            "name the language of this data. No language is given to the model, which is not its normal use: set "
            "`speech.language`."
        )
        yield JobWarning(code="language_unsaid", pointer="/speech/language", detail=detail)


def _count_classes(targets: Targets) -> int:
    values = torch.from_numpy(np.array(targets.values)) if isinstance(targets, Ragged) else targets
    return len(torch.unique(values[values != IGNORED]))


def _of_rows(targets: Targets, assigned: Role) -> Targets:
    return targets.take(assigned.rows) if isinstance(targets, Ragged) else targets[torch.from_numpy(assigned.rows)]


def _finish(folder: Path, role: Split, assigned: Role, targets: Targets, reading: TargetSettings) -> None:
    """What needs inputs and targets together: what a decoder reads, and whether CTC can align the two."""
    if not isinstance(targets, Ragged):
        return
    if reading.head is Head.SEQUENCE_TO_SEQUENCE:
        column_files.write_column(folder, role.value, "decoder_input_ids", shifted(reading.model_dir, targets))
    elif reading.head is Head.CTC:
        (clips,) = column_files.read_split(folder, role.value).inputs.values()
        assert isinstance(clips, Ragged)
        check_alignable(reading.model_dir, clips.lengths, targets, _places(assigned, assigned.rows.tolist()))


def _write_inputs(
    source: "Source",
    columns: FoundColumns,
    asked: str | None,
    roles: Mapping[Split, Role],
    featurizer: Featurizer,
    folder: Path,
    progress: Callable[[int, int], None],
) -> tuple[RowHashes, ClipFlaws]:
    """The inputs of every role, some rows at a time: none is ever whole in memory. Returns what they are
    made of, to be compared, and by split what is odd about it."""
    hashes = RowHashes()
    flaws: defaultdict[str, Counter[str]] = defaultdict(Counter)
    total, done = sum(len(assigned.rows) for assigned in roles.values()), 0
    progress(0, total)
    with ThreadPoolExecutor(max_workers=torch.get_num_threads()) as pool:
        for role, assigned in roles.items():
            with column_files.InputsWriter(folder, role.value, len(assigned.rows)) as writer:
                for contents, inputs in _featurized(source, columns, asked, assigned, featurizer, pool):
                    writer.write(inputs)
                    for each in contents:
                        hashes.add(role.value, each)
                    done += len(contents)
                    progress(done, total)
            flaws[assigned.split].update(flaw.value for flaw in featurizer.flaws)
            featurizer.flaws.clear()
    return hashes, flaws


def _featurized(
    source: "Source",
    columns: FoundColumns,
    asked: str | None,
    assigned: Role,
    featurizer: Featurizer,
    pool: ThreadPoolExecutor,
) -> Iterator[tuple[list[Hashable], dict[str, Any]]]:
    """What the role's rows hold and inputs made of it, in order; threads decode, and change neither order nor result."""
    names = [name for name in (columns.input, columns.pair, asked) if name is not None]
    dataset = source.splits[assigned.split].select_columns(names)
    for start in range(0, len(assigned.rows), CHUNK):
        rows = assigned.rows[start : start + CHUNK].tolist()
        places = _places(assigned, rows)
        read = dataset[rows]
        found = (
            read[columns.input] if columns.pair is None else zip(read[columns.input], read[columns.pair], strict=True)
        )
        wanted = repeat(None) if asked is None else read[asked]
        values = [Value(value, source.from_files, answers) for value, answers in zip(found, wanted, strict=False)]
        yield list(pool.map(content, values)), featurizer(list(pool.map(featurizer.decode, values, places)), places)


def _places(assigned: Role, rows: Sequence[int]) -> list[str]:
    return [f"{assigned.split}[{row}]" for row in rows]
