"""From a data folder to splits ready for the model: find, match, divide, decode, extract; once a job."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from api_schemas.enums import Split
from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.inputs import Columns, Splits
from api_schemas.metrics import DataSummary
from worker.engine.data import cache
from worker.engine.data.audio import decode_mono, undecodable
from worker.engine.data.columns import FoundColumns, find_columns, schema_error
from worker.engine.data.extractor import Extractor
from worker.engine.data.labels import label_names, targets_of
from worker.engine.data.layout import find_layout
from worker.engine.data.sources import Source, open_source
from worker.engine.data.split import FeatureSplit
from worker.engine.data.splits import Role, assign_roles, name_splits

# Clips decoded together: enough for all threads, few enough to stay small in memory.
CHUNK = 64


@dataclass(frozen=True)
class PreparedData:
    """`pad_value` is what the extractor puts after a clip that is shorter than the model's input. `decode` gives the text of
    label ids, special tokens left out, where targets are texts; the ids are taken as they are, none are merged."""

    summary: DataSummary
    splits: dict[Split, FeatureSplit]
    pad_value: float
    decode: Callable[[Sequence[int]], str] | None = None


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
) -> PreparedData:
    """Read `data_dir`, and compute features with the extractor of `model_dir`, or find them in `cache_dir`.

    labels: the checkpoint's, by class number. seed: draws the rows of roles that have no split. progress(done, total)
    counts clips. Raises DATASET_EMPTY, DATASET_SCHEMA, LABELS_MISMATCH, AUDIO_UNDECODABLE (with split and row) and
    CONFIG_INVALID (the extractor's settings).
    """
    extractor = Extractor(model_dir)
    layout = find_layout(data_dir, splits)
    options = {
        "labels": list(labels),
        "multi_label": multi_label,
        "columns": columns.model_dump(),
        "splits": splits.model_dump(),
        "seed": seed,
    }
    entry = cache_dir / cache.entry_name(layout, data_dir, model_dir, options)
    stored = cache.load(entry)
    if stored is None:
        cache_dir.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix="rows-", dir=cache_dir, ignore_cleanup_errors=True) as scratch:
            source = open_source(layout, Path(scratch))
            found = find_columns(source.features, columns)
            _compute(source, found, splits, labels, multi_label, seed, extractor, entry, progress)
        stored = cache.load(entry)
        if stored is None:
            raise SecateurError(
                ErrorCode.ENGINE_ERROR, f"The features written to {entry} are gone; check the cache folder."
            )
    else:
        total = sum(stored.summary.samples.values())
        progress(total, total)
    return PreparedData(summary=stored.summary, splits=stored.splits, pad_value=extractor.pad_value)


def _compute(
    source: Source,
    columns: FoundColumns,
    splits: Splits,
    labels: Sequence[str],
    multi_label: bool,
    seed: int,
    extractor: Extractor,
    entry: Path,
    progress: Callable[[int, int], None],
) -> None:
    """Everything that does not need the audio first, so that a mismatch is refused within seconds; then the features."""
    named = name_splits(list(source.splits), splits)
    names = {split: label_names(source, columns.label, split) for split in set(named.values())}
    targets = targets_of(names, labels, multi_label)
    train = named[Split.TRAIN]
    roles = assign_roles(
        named,
        {split: len(rows) for split, rows in names.items()},
        [tuple(sorted(row)) for row in names[train]],
        _groups(source, columns.group, train),
        seed,
    )
    held_out = tuple(role.value for role in Split if role not in named)
    summary = DataSummary(
        samples={role.value: len(assigned.rows) for role, assigned in roles.items()},
        held_out=held_out,
        grouped_by=columns.group if held_out else None,
        multi_label=multi_label,
        labels=tuple(labels),
    )
    with cache.writing(entry) as folder:
        _write_features(source, columns.input, roles, extractor, folder, progress)
        for role, assigned in roles.items():
            np.save(folder / f"{role.value}.targets.npy", targets[assigned.split][assigned.rows].numpy())
        (folder / cache.MANIFEST).write_text(summary.model_dump_json())


def _groups(source: Source, column: str | None, split: str) -> list[Any] | None:
    if column is None:
        return None
    groups = list(source.splits[split][column])
    if not all(isinstance(group, str | int) for group in groups):
        raise schema_error(f"column {column!r} does not name a group in every row", source.features, pointer=column)
    return groups


def _write_features(
    source: Source,
    column: str,
    roles: Mapping[Split, Role],
    extractor: Extractor,
    folder: Path,
    progress: Callable[[int, int], None],
) -> None:
    """One float32 array [N, frames, mels] a role, written row by row: none is ever whole in memory."""
    total, done = sum(len(assigned.rows) for assigned in roles.values()), 0
    with ThreadPoolExecutor(max_workers=torch.get_num_threads()) as pool:
        for role, assigned in roles.items():
            shape = (len(assigned.rows), *extractor.shape)
            path = folder / f"{role.value}.features.npy"
            array = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
            row = 0
            for features in _extracted(source, column, assigned, extractor, pool):
                array[row : row + len(features)] = features
                row += len(features)
                done += len(features)
                progress(done, total)
            array.flush()


def _extracted(
    source: Source, column: str, assigned: Role, extractor: Extractor, pool: ThreadPoolExecutor
) -> Iterator[NDArray[np.float32]]:
    """Features of the role's rows in order, some at a time; threads decode, and change neither order nor result."""
    dataset = source.splits[assigned.split].select_columns([column])

    def decoded(item: tuple[int, Any]) -> NDArray[np.float32]:
        row, audio = item
        where = f"{assigned.split}[{row}]"
        return decode_mono(_clip_bytes(audio, source, where), extractor.sampling_rate, extractor.seconds, where)

    for start in range(0, len(assigned.rows), CHUNK):
        rows = assigned.rows[start : start + CHUNK].tolist()
        clips = list(pool.map(decoded, zip(rows, dataset[rows][column], strict=True)))
        features = extractor(clips)
        finite = np.isfinite(features).all(axis=(1, 2))
        if not finite.all():
            row = rows[int(np.argmin(finite))]
            raise undecodable(f"{assigned.split}[{row}]", "its samples are too large for finite features")
        yield features


def _clip_bytes(audio: Any, source: Source, where: str) -> bytes:
    """Bytes inside the row; a path is followed only where it comes from our own listing of the folder."""
    if audio is not None and audio["bytes"]:
        return bytes(audio["bytes"])
    if source.from_files and audio is not None and audio["path"]:
        try:
            return Path(audio["path"]).read_bytes()
        except OSError as error:
            raise undecodable(where, f"{Path(audio['path']).name}: {error.strerror}") from None
    raise undecodable(where, "the row has no embedded bytes; write them into the shard, not a path")
