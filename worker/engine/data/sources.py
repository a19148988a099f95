"""A data folder as rows by split, read by the builders of the `datasets` library. Nothing is decoded, no network is used."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import pyarrow.parquet as pq
from datasets.data_files import DataFilesDict, DataFilesList
from datasets.packaged_modules.audiofolder.audiofolder import AudioFolder
from datasets.packaged_modules.parquet.parquet import Parquet

from api_schemas.errors import ErrorCode, ErrorItem, SecateurError
from worker.engine.data.layout import Layout


@dataclass(frozen=True)
class Source:
    """Rows by the dataset's own split names. `from_files`: clips are files of the folder, not bytes inside the rows."""

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


def open_source(layout: Layout, scratch: Path) -> Source:
    """Read `layout` into Arrow files under `scratch`, which must outlive the source.

    Raises DATASET_SCHEMA where the files cannot be read as one dataset.
    """
    datasets.disable_progress_bars()
    # The files as they are: given as patterns, names with brackets or asterisks would be searched for.
    files = DataFilesDict(
        {split: DataFilesList([str(path) for path in paths], []) for split, paths in layout.files.items()}
    )
    options: dict[str, Any] = {"cache_dir": str(scratch), "data_files": files}
    try:
        if layout.parquet:
            builder = Parquet(features=_common_features(layout), **options)
        else:
            builder = _ClipFolder(drop_labels=layout.metadata, drop_metadata=not layout.metadata, **options)
        builder.download_and_prepare(verification_mode="no_checks")
        splits = {split: builder.as_dataset(split=split) for split in layout.files}
    except SecateurError:
        raise
    # What Arrow, pandas and datasets raise on files from strangers is not a closed list.
    except Exception as error:
        raise _unreadable(error) from error
    features = next(iter(splits.values())).features
    return Source(splits=splits, features=features, from_files=not layout.parquet)


def _common_features(layout: Layout) -> datasets.Features:
    """The features that all shards share, audio undecoded.

    Compared here because the builder takes those of the first shard for all: ids of another list of label names would
    then silently get its names.
    """
    common: datasets.Features | None = None
    first: Path | None = None
    for path in layout.all_files():
        features = datasets.Features.from_arrow_schema(pq.read_schema(path))
        if common is None:
            common, first = features, path
        elif features != common:
            detail = (
                f"{path.name} has other columns or label names than {first and first.name}; write all shards alike."
            )
            raise SecateurError(ErrorCode.DATASET_SCHEMA, f"The dataset cannot be used: {detail}")
    if common is None:
        raise ValueError("a layout without files")
    return datasets.Features(
        {
            name: datasets.Audio(decode=False) if isinstance(feature, datasets.Audio) else feature
            for name, feature in common.items()
        }
    )


def _unreadable(error: Exception) -> SecateurError:
    """The innermost cause says what is wrong; the library wraps it in words about itself."""
    while isinstance(error.__cause__, Exception):
        error = error.__cause__
    lines = str(error).splitlines()
    reason = lines[0][:300] if lines else type(error).__name__
    item = ErrorItem(code=ErrorCode.DATASET_SCHEMA, detail=reason)
    return SecateurError(ErrorCode.DATASET_SCHEMA, f"The dataset cannot be read: {reason}", (item,))
