"""A data folder as rows by split: the columns that are read, from shards that agree on them. Nothing is decoded or fetched."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
from datasets.data_files import DataFilesDict, DataFilesList
from datasets.packaged_modules.audiofolder.audiofolder import AudioFolder
from datasets.packaged_modules.imagefolder.imagefolder import ImageFolder

from api_schemas.enums import ColumnKind
from api_schemas.errors import ErrorCode, ErrorItem, SecateurError
from api_schemas.spec.inputs import Columns
from checkpoints.data.answers import START, TEXT
from checkpoints.data.columns import FoundColumns
from checkpoints.data.label_numbers import several_ids
from checkpoints.data.layout import Files, Layout
from checkpoints.data.media import MAGIC_BYTES, kind_of_files
from checkpoints.data.missing_labels import is_missing
from checkpoints.data.shards.columns import CommonColumns, Unlike, common_columns
from worker.engine.data.columns import kinds_of
from worker.engine.data.shard_files import EMBEDDED, ShardFile, shard_files

Choose = Callable[[CommonColumns], FoundColumns]
"""Which columns are read, of those that there are."""


@dataclass(frozen=True)
class Source:
    """Rows by the dataset's own split names, in the columns that are read. `features`: of all columns. `from_files`: clips and
    images are files of the folder, not bytes inside the rows. `names`: by column, what a ClassLabel calls its ids, where two
    of them have one name, which `datasets` has no feature for."""

    splits: Mapping[str, datasets.Dataset]
    features: datasets.Features
    from_files: bool
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)


class _ClipPath(datasets.Audio):  # type: ignore[misc]
    """An Audio that stores paths. The base class needs torchcodec (and ffmpeg) even to write down a path."""

    def encode_example(self, value: str) -> dict[str, str | None]:
        return {"bytes": None, "path": value}


class _ClipFolder(AudioFolder):  # type: ignore[misc]
    """`audiofolder` that does not need torchcodec."""

    BASE_FEATURE = _ClipPath

    def _base_feature(self) -> _ClipPath:
        return _ClipPath(decode=False)


class _ImageFolder(ImageFolder):  # type: ignore[misc]
    """`imagefolder` that decodes nothing."""

    def _base_feature(self) -> datasets.Image:
        return datasets.Image(decode=False)


_FOLDERS: Mapping[Files, Any] = {Files.CLIPS: _ClipFolder, Files.IMAGES: _ImageFolder}


def open_source(
    layout: Layout, folder: Path, scratch: Path, columns: Columns, choose: Choose
) -> tuple[Source, FoundColumns]:
    """Read `layout` into Arrow files under `scratch`, which must outlive the source. `columns`: what the user calls them.

    Raises what `choose` does; DATASET_SCHEMA where the files cannot be read as one dataset, DATASET_EMPTY for an empty split.
    """
    datasets.disable_progress_bars()
    try:
        if layout.kind in _FOLDERS and not layout.metadata:
            return _label_folders(layout, scratch, choose)
        return _shards(layout, folder, scratch, columns, choose)
    except SecateurError:
        raise
    # What Arrow and datasets raise on untrusted files is not a closed list.
    except Exception as error:
        raise _unreadable(error) from error


def _label_folders(layout: Layout, scratch: Path, choose: Choose) -> tuple[Source, FoundColumns]:
    builder = _FOLDERS[layout.kind](
        cache_dir=str(scratch), data_files=_data_files(layout.files), drop_labels=False, drop_metadata=True
    )
    builder.download_and_prepare(verification_mode="no_checks")
    splits = {split: builder.as_dataset(split=split) for split in layout.files}
    features = next(iter(splits.values())).features
    found = choose(CommonColumns(kinds_of(features), Unlike()))
    return Source(splits, features, from_files=True), found


def _shards(
    layout: Layout, folder: Path, scratch: Path, columns: Columns, choose: Choose
) -> tuple[Source, FoundColumns]:
    files = [file for file in shard_files(layout, folder, columns, scratch) if file.has_rows()]
    empty = set(layout.files) - {file.split for file in files}
    if empty:
        detail = f"The split {min(empty)!r} has no rows; add some, or leave the split out."
        raise SecateurError(ErrorCode.DATASET_EMPTY, detail)
    common = common_columns(
        [file.shard() for file in files], lambda number, name: all(map(is_missing, files[number].values(name)))
    )
    silent = [{name for name, numbers in common.silent.items() if number in numbers} for number in range(len(files))]
    files = [replace(file, silent=frozenset(names)) for file, names in zip(files, silent, strict=True)]
    for name, kind in common.kinds.items():
        if kind is ColumnKind.EMBEDDED and common.columns[name].raw:
            common.kinds[name] = kind_of_files(_first_bytes(files, name), raw=True)
    found = choose(common)
    features = {name: _feature(name, common, files) for name in common.kinds}
    read = {name: features[name] for name in (found.input, found.pair, found.label, found.group) if name is not None}
    splits = {
        split: _written(
            [file for file in files if file.split == split], datasets.Features(read), scratch / f"{number}.arrow"
        )
        for number, split in enumerate(layout.files)
    }
    repeated = {name: each.names for name, each in common.columns.items() if each.names and several_ids(each.names)}
    return Source(splits, datasets.Features(features), from_files=layout.metadata, names=repeated), found


def _written(files: Sequence[ShardFile], features: datasets.Features, path: Path) -> datasets.Dataset:
    """The rows of a split in one Arrow file, which is read where it lies."""
    schema = pa.schema([(name, features.arrow_schema.field(name).type) for name in features])
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema) as stream:
        for shard in files:
            for batch in shard.batches(schema):
                stream.write_batch(batch)
    return datasets.Dataset.from_file(str(path), info=datasets.DatasetInfo(features=features))


def _feature(name: str, common: CommonColumns, files: Sequence[ShardFile]) -> Any:
    text, names = datasets.Value("string"), common.columns[name].names
    match common.kinds[name]:
        case ColumnKind.AUDIO:
            return datasets.Audio(decode=False)
        case ColumnKind.IMAGE:
            return datasets.Image(decode=False)
        case ColumnKind.EMBEDDED:
            return {"bytes": datasets.Value("binary"), "path": text}
        case ColumnKind.TEXT:
            return text
        case ColumnKind.TEXTS:
            return datasets.List(text)
        case ColumnKind.LABEL:
            return _class_label(names)
        case ColumnKind.LABELS:
            return datasets.List(_class_label(names))
        case ColumnKind.ANSWERS:
            return {TEXT: datasets.List(text), START: datasets.List(datasets.Value("int64"))}
        case ColumnKind.NUMBER | ColumnKind.NUMBERS | ColumnKind.OTHER:
            return _other_feature(name, files)


def _class_label(names: Sequence[str] | None) -> Any:
    try:
        return datasets.ClassLabel(names=list(names or ()))
    except ValueError:  # Two labels of one name: the source has them.
        return datasets.Value("int64")


def _other_feature(name: str, files: Sequence[ShardFile]) -> Any:
    """Of numbers, and of a column that only groups can be read from: what `datasets` calls its type, if it knows it."""
    schema = next(schema for file in files if name in (schema := file.schema()).names and name not in file.silent)
    try:
        return datasets.Features.from_arrow_schema(pa.schema([pa.field(name, schema.field(name).type)]))[name]
    except (ValueError, NotImplementedError):
        return datasets.Value("null")


def _first_bytes(files: Sequence[ShardFile], column: str) -> bytes:
    schema = pa.schema([(column, EMBEDDED)])
    for file in files:
        for batch in file.batches(schema):
            data = batch.column(column)[0]["bytes"].as_py()
            if data:
                return bytes(data[:MAGIC_BYTES])
    return b""


def _data_files(files: Mapping[str, tuple[Path, ...]]) -> DataFilesDict:
    """The files as they are: given as patterns, names with brackets or asterisks would be searched for."""
    return DataFilesDict({split: DataFilesList([str(path) for path in paths], []) for split, paths in files.items()})


def _unreadable(error: Exception) -> SecateurError:
    """The innermost cause says what is wrong; the library wraps it in words about itself."""
    while isinstance(error.__cause__, Exception):
        error = error.__cause__
    lines = str(error).splitlines()
    reason = lines[0][:300] if lines else type(error).__name__
    item = ErrorItem(code=ErrorCode.DATASET_SCHEMA, detail=reason)
    return SecateurError(ErrorCode.DATASET_SCHEMA, f"The dataset cannot be read: {reason}", (item,))
