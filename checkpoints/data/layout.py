"""The layout of a data folder: which of its files belong to which split. Looks only at names and opens no files."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.spec.inputs import Splits
from checkpoints.data.split_names import lone_split, split_called, split_of

AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".opus", ".mp3"})
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp"})
METADATA_NAMES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
# The list files of Speech Commands (Warden, arXiv 1804.03209): one `label/name.wav` a line; what is in neither is train.
LISTS = {"validation": "validation_list.txt", "test": "testing_list.txt"}
TRAIN = "train"


class Files(Enum):
    """What the files of a data folder are."""

    PARQUET = "parquet"
    CSV = "csv"
    JSON_LINES = "jsonl"
    ARROW = "arrow"
    """What `save_to_disk` of `datasets` writes: Arrow streams."""
    CLIPS = "clips"
    IMAGES = "images"


_TEXT_ROWS = {
    Files.JSON_LINES: (".jsonl", ".jsonl.gz"),
    Files.CSV: (".csv", ".csv.gz"),
}
_JSON = (".json", ".json.gz")
SAVED_STATE = "state.json"
"""Lies beside the Arrow files that `save_to_disk` wrote."""
# What programs keep beside rows: no rows themselves.
_NO_ROWS = frozenset(
    {*METADATA_NAMES, SAVED_STATE, "dataset_info.json", "dataset_infos.json", "dataset_dict.json", "config.json"}
)
_EMBEDDABLE = {Files.CLIPS: AUDIO_SUFFIXES, Files.IMAGES: IMAGE_SUFFIXES}


@dataclass(frozen=True)
class Layout:
    """Files by split, in a fixed order. `metadata` says that labels come from metadata files among them."""

    kind: Files
    files: Mapping[str, tuple[Path, ...]]
    metadata: bool = False


def find_layout(folder: Path, splits: Splits) -> Layout:
    """Recognise parquet shards, what `save_to_disk` wrote, recordings, images, or files of text rows, in this order.

    Recordings and images lie as list files say, with metadata, or in label folders. Raises DATASET_EMPTY where there is no file
    of any such kind, DATASET_SCHEMA where recordings or images lie outside label folders.
    """
    paths = list(_walk(folder))
    shards = _rows_in(paths, (".parquet",))
    if shards:
        return _layout_of_rows(Files.PARQUET, folder, shards, splits)
    saved = [path for path in _rows_in(paths, (".arrow",)) if path.with_name(SAVED_STATE).is_file()]
    if saved:
        return Layout(Files.ARROW, _grouped((_split_of_saved(folder, path), path) for path in saved))
    for kind, suffixes in _EMBEDDABLE.items():
        found = [path for path in paths if path.suffix.lower() in suffixes]
        if found:
            return _layout_of_files(
                kind, folder, found, [path for path in paths if path.name in METADATA_NAMES], splits
            )
    for kind, endings in (*_TEXT_ROWS.items(), (Files.JSON_LINES, _JSON)):
        tables = _rows_in(paths, endings)
        if tables:
            return _layout_of_rows(kind, folder, tables, splits)
    detail = (
        "The data folder contains no parquet shards, audio (wav, flac, ogg, opus, mp3), images (png, jpg, webp, gif, "
        "bmp) or texts (jsonl, csv, json)."
    )
    raise SecateurError(ErrorCode.DATASET_EMPTY, detail)


def layout_of_table(path: Path) -> Layout | None:
    """Of a lone file of text rows; None where its name says that it is none."""
    for kind, endings in (*_TEXT_ROWS.items(), (Files.JSON_LINES, _JSON)):
        if _rows_in([path], endings):
            return Layout(kind, {lone_split(split_of(path.name)): (path,)})
    return None


def _rows_in(paths: list[Path], endings: tuple[str, ...]) -> list[Path]:
    return [path for path in paths if path.name.lower().endswith(endings) and path.name not in _NO_ROWS]


def _layout_of_rows(kind: Files, folder: Path, paths: list[Path], splits: Splits) -> Layout:
    return Layout(kind, _grouped((_split_of_shard(folder, path, splits), path) for path in paths))


def _layout_of_files(kind: Files, folder: Path, found: list[Path], metadata: list[Path], splits: Splits) -> Layout:
    if any((folder / name).is_file() for name in LISTS.values()):
        _check_label_folders(folder, found, depth=2)
        return Layout(kind, _by_lists(folder, found))
    by_split = _has_split_folders(folder, splits, metadata)
    if not metadata:
        _check_label_folders(folder, found, depth=3 if by_split else 2)

    def split(path: Path) -> str:
        return split_called(path.relative_to(folder).parts[0]) if by_split else TRAIN

    return Layout(kind, _grouped((split(path), path) for path in sorted(found + metadata)), metadata=bool(metadata))


def _walk(folder: Path) -> Iterator[Path]:
    """Files in sorted order, without hidden folders and those that start with `_` (`_background_noise_`)."""
    for path in sorted(folder.iterdir()):
        if path.is_dir() and path.name[0] not in "._":
            yield from _walk(path)
        elif path.is_file() and not path.name.startswith("."):
            yield path


def _grouped(pairs: Iterator[tuple[str, Path]]) -> dict[str, tuple[Path, ...]]:
    files: defaultdict[str, list[Path]] = defaultdict(list)
    for split, path in pairs:
        files[split].append(path)
    return {split: tuple(paths) for split, paths in files.items()}


def _split_of_shard(folder: Path, path: Path, splits: Splits) -> str:
    """From the name; where that is only a number, as in `validation/0000.parquet`, from its folder if that is a split's."""
    split = split_of(path.name)
    parent = split_called(path.parent.name) if path.parent != folder else ""
    return (
        parent if split == TRAIN and parent in {split_called(name) for name in splits.model_dump().values()} else split
    )


def _split_of_saved(folder: Path, path: Path) -> str:
    """A DatasetDict has a folder a split; a Dataset alone is what there is to train on."""
    return TRAIN if path.parent == folder else split_called(path.parent.name)


def _by_lists(folder: Path, files: list[Path]) -> dict[str, tuple[Path, ...]]:
    split_by_name: dict[str, str] = {}
    for split, name in LISTS.items():
        if (folder / name).is_file():
            lines = (folder / name).read_text(encoding="utf-8", errors="replace").splitlines()
            split_by_name.update({line.strip(): split for line in lines if line.strip()})
    return _grouped((split_by_name.get(path.relative_to(folder).as_posix(), TRAIN), path) for path in files)


def _has_split_folders(folder: Path, splits: Splits, metadata: list[Path]) -> bool:
    """True for `train/<label>/a.wav` and `train/metadata.csv`, false for `train/a.wav`: there, a label is called train."""
    return any(
        train in {path.parent for path in metadata} or any(path.is_dir() for path in train.iterdir())
        for train in folder.iterdir()
        if train.is_dir() and split_called(train.name) == split_called(splits.train)
    )


def _check_label_folders(folder: Path, files: list[Path], depth: int) -> None:
    wrong = [path.relative_to(folder) for path in files if len(path.relative_to(folder).parts) != depth]
    if wrong:
        shape = "<label>/<file>" if depth == 2 else "<split>/<label>/<file>"
        detail = (
            f"{len(wrong)} files are not laid out as {shape}, for example {wrong[0]}. Add a metadata.csv, or move them."
        )
        raise SecateurError(ErrorCode.DATASET_SCHEMA, detail)
