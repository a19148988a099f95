"""A data folder as rows by split, read by the builders of the `datasets` library. Nothing is decoded, no network is used."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import datasets
import pyarrow.parquet as pq
from datasets.data_files import DataFilesDict, DataFilesList
from datasets.packaged_modules.audiofolder.audiofolder import AudioFolder
from datasets.packaged_modules.csv.csv import Csv
from datasets.packaged_modules.imagefolder.imagefolder import ImageFolder
from datasets.packaged_modules.json.json import Json
from datasets.packaged_modules.parquet.parquet import Parquet

from api_schemas.errors import ErrorCode, ErrorItem, SecateurError
from checkpoints.data.layout import Files, Layout


@dataclass(frozen=True)
class Source:
    """Rows by the dataset's own split names. `from_files`: they come from files that cannot type their columns; clips and images
    are files of the folder, not bytes inside the rows."""

    splits: Mapping[str, datasets.Dataset]
    features: datasets.Features
    from_files: bool


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


_FOLDERS = {Files.CLIPS: _ClipFolder, Files.IMAGES: _ImageFolder}
_TEXT_ROWS = {Files.CSV: Csv, Files.JSON_LINES: Json}


def open_source(layout: Layout, scratch: Path) -> Source:
    """Read `layout` into Arrow files under `scratch`, which must outlive the source.

    Raises DATASET_SCHEMA where the files cannot be read as one dataset, DATASET_EMPTY where a split has no rows.
    """
    datasets.disable_progress_bars()
    try:
        builder = _builder(layout, scratch)
        builder.download_and_prepare(verification_mode="no_checks")
        splits = {split: builder.as_dataset(split=split) for split in layout.files}
    except SecateurError:
        raise
    # What Arrow, pandas and datasets raise on files from strangers is not a closed list.
    except Exception as error:
        raise _unreadable(error) from error
    features = next(iter(splits.values())).features
    return Source(splits=splits, features=features, from_files=layout.kind is not Files.PARQUET)


def _builder(layout: Layout, scratch: Path) -> datasets.DatasetBuilder:
    if layout.kind is Files.PARQUET:
        return _shard_builder(layout, scratch)
    files = _data_files(layout.files)
    if layout.kind in _TEXT_ROWS:
        return _TEXT_ROWS[layout.kind](cache_dir=str(scratch), data_files=files)
    # Labels from metadata files where there are any, else from the folders.
    options = {"drop_labels": layout.metadata, "drop_metadata": not layout.metadata}
    return _FOLDERS[layout.kind](cache_dir=str(scratch), data_files=files, **options)


def _shard_builder(layout: Layout, scratch: Path) -> Parquet:
    """Checks that all shards have the same features, which the builder does not: it takes those of the first, and would
    give ids from another list of label names the first one's names. Shards without rows, which it cannot read, are left
    out."""
    common: datasets.Features | None = None
    files: dict[str, tuple[Path, ...]] = {}
    for split, paths in layout.files.items():
        metadata = {path: pq.read_metadata(path) for path in paths}
        files[split] = tuple(path for path in paths if metadata[path].num_rows)
        if not files[split]:
            raise SecateurError(
                ErrorCode.DATASET_EMPTY, f"The split {split!r} has no rows; give it some, or leave it out."
            )
        for path in paths:
            features = datasets.Features.from_arrow_schema(metadata[path].schema.to_arrow_schema())
            if common is not None and features != common:
                reason = f"{path.name} has other columns or label names than the shards before it; write all alike"
                raise SecateurError(ErrorCode.DATASET_SCHEMA, f"The dataset cannot be used: {reason}.")
            common = features
    undecoded = {
        name: type(feature)(decode=False) if isinstance(feature, datasets.Audio | datasets.Image) else feature
        for name, feature in (common or {}).items()
    }
    return Parquet(cache_dir=str(scratch), data_files=_data_files(files), features=datasets.Features(undecoded))


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
