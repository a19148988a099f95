"""Fetches a dataset of the Hugging Face hub into a data folder; a program of its own, run by worker/inputs.py.

    python -m worker.fetch_dataset --id owner/name --revision <40 hex> --out DIR --max-bytes N [--config NAME]

A stranger names the repository, so nothing in it is trusted. The files of the revision are downloaded first, only those
that are data; then `datasets` reads them from the local folder. Code is never run, a card may not point outside of the
repository, and rows may not point at files. The outcome is `<split>-00000-of-0000N.parquet` with the features in the
schema, or, for a repository of plain audio or image files, those files in their folders.

Exit status 0, or 1 with a FetchFailure as JSON in the last line of stdout.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import httpx2
import pyarrow.compute as pc
from datasets import Audio, Dataset, DatasetDict, Image, load_dataset
from huggingface_hub import DatasetCard, HfApi, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from store.cage import give_up_sockets
from worker.child import follow_parent
from worker.inputs import FetchFailure

CARD = "README.md"
DOWNLOAD = "download"
METADATA = ("metadata.csv", "metadata.jsonl", "validation_list.txt", "testing_list.txt")
AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp")
SHARD_BYTES = 512 * 2**20
MAX_FILES = 200_000
RETRY_STATUSES = frozenset({408, 425, 429})


class Refused(Exception):
    """The repository is not what we take; trying again does not help."""


def download(repo: str, revision: str, out: Path, max_bytes: int, endpoint: str | None = None) -> list[str]:
    """Bring the files to a folder beside `out`, not into it: it may be more than what is handed over.

    `endpoint` is HF_ENDPOINT's by default. Returns the names. Raises Refused, or whatever the hub's libraries raise.
    """
    names = data_files(repo, revision, max_bytes, endpoint)
    snapshot_download(
        repo,
        repo_type="dataset",
        revision=revision,
        local_dir=out.parent / DOWNLOAD,
        allow_patterns=names,
        max_workers=4,
        endpoint=endpoint,
    )
    return names


def unpack(names: list[str], config: str | None, out: Path) -> None:
    """Fill `out` with what was downloaded, read and written anew or placed. Raises likewise."""
    source = out.parent / DOWNLOAD
    if any(name.endswith(".parquet") for name in names):
        if CARD in names:
            check_card(source / CARD)
        convert(source, config, out)
    else:
        place_files(source, names, config, out)


def data_files(repo: str, revision: str, max_bytes: int, endpoint: str | None) -> list[str]:
    """Names of the revision's files that are taken: the card, and of parquet, audio and images the first there is, with lists."""
    info = HfApi(endpoint=endpoint).dataset_info(repo, revision=revision, files_metadata=True, timeout=60)
    if info.sha != revision:
        raise Refused(f"the hub answered with revision {info.sha}")
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or []}
    script = f"{repo.split('/')[-1]}.py"
    if script in sizes:
        raise Refused(f"it needs its script {script}, and dataset scripts are never run. Convert it to parquet first.")
    parquet = [name for name in sizes if name.endswith(".parquet")]
    audio = [name for name in sizes if name.lower().endswith(AUDIO_SUFFIXES)]
    images = [name for name in sizes if name.lower().endswith(IMAGE_SUFFIXES)]
    lists = [name for name in sizes if PurePosixPath(name).name in METADATA]
    if not parquet and not audio and not images:
        raise Refused("it has no parquet, audio (wav, flac, ogg, mp3) or image (png, jpg, webp, gif, bmp) files.")
    names = parquet or (audio or images) + lists
    if len(names) > MAX_FILES:
        raise Refused(f"it has {len(names)} data files; {MAX_FILES} are the most.")
    for name in names:
        if not _inside(name) or any(character in name for character in "*?[]"):
            raise Refused(f"the file name {name!r} is not plain.")
    total = sum(sizes[name] for name in names)
    if total > max_bytes:
        raise Refused(f"its data files have {total} bytes; this server takes {max_bytes}.")
    return names + [name for name in (CARD,) if name in sizes]


def check_card(card: Path) -> None:
    """Refuse a card whose configurations name data outside of the repository: other hosts, other folders."""
    data = DatasetCard.load(card, ignore_metadata_errors=True).data.to_dict()
    for pattern in _strings([entry.get("data_files") for entry in _entries(data)]):
        if not _inside(pattern):
            raise Refused(f"its card names data outside of the repository: {pattern!r}.")
    for entry in _entries(data):
        if not _inside(str(entry.get("data_dir") or ".")):
            raise Refused(f"its card names data outside of the repository: {entry['data_dir']!r}.")


def convert(source: Path, config: str | None, out: Path) -> None:
    """Read with `datasets`, write shards a split, audio and images as the bytes they came in."""
    loaded = load_dataset(str(source), name=config, cache_dir=str(source.with_name("converted")))
    assert isinstance(loaded, DatasetDict)
    for split, rows in loaded.items():
        for column, feature in rows.features.items():
            if isinstance(feature, Audio | Image):
                whole = Image(decode=False)
                if isinstance(feature, Audio):
                    whole = Audio(sampling_rate=feature.sampling_rate, decode=False)
                rows = rows.cast_column(column, whole)
                check_embedded(rows, column)
        shards = max(1, -(-(rows.data.nbytes or 0) // SHARD_BYTES))
        for index in range(shards):
            shard = rows.shard(shards, index, contiguous=True)
            shard.to_parquet(out / f"{split}-{index:05d}-of-{shards:05d}.parquet")


def check_embedded(rows: Dataset, column: str) -> None:
    """Refuse rows that name a file instead of holding its bytes: reading it would open any file of this machine."""
    for chunk in rows.data.column(column).chunks:
        if pc.any(pc.is_null(pc.struct_field(chunk, "bytes"))).as_py():
            raise Refused(f"the column {column!r} has rows without the bytes of a file in them.")


def place_files(source: Path, names: list[str], config: str | None, out: Path) -> None:
    """Plain audio or image files are handed over in their folders; a configuration is a folder of that name."""
    base = PurePosixPath(config) if config else PurePosixPath(".")
    moved = 0
    for name in names:
        if name == CARD or not PurePosixPath(name).is_relative_to(base):
            continue
        target = out / PurePosixPath(name).relative_to(base)
        target.parent.mkdir(parents=True, exist_ok=True)
        (source / name).rename(target)
        moved += 1
    if not moved:
        raise Refused(f"it has no folder {config!r} with audio or image files.")


def failure(error: Exception) -> FetchFailure:
    """What to tell the user, and whether trying again may help."""
    while isinstance(error, LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        error = error.__cause__  # The hub's library wraps what went wrong in "there is no local copy either".
    match error:
        case Refused():
            return FetchFailure(detail=str(error), transient=False)
        case RevisionNotFoundError():
            return FetchFailure(detail="the hub knows no such revision of it.", transient=False)
        case GatedRepoError():
            return FetchFailure(detail="it is gated; this server has no access to it.", transient=False)
        case RepositoryNotFoundError():
            return FetchFailure(detail="the hub knows no such dataset, or it is private.", transient=False)
        case HfHubHTTPError() if error.response is not None:
            status = error.response.status_code
            transient = status >= 500 or status in RETRY_STATUSES
            return FetchFailure(detail=f"the hub answered with status {status}.", transient=transient)
        case LocalEntryNotFoundError() | HfHubHTTPError() | httpx2.HTTPError() | ConnectionError() | TimeoutError():
            return FetchFailure(detail="the hub could not be reached.", transient=True)
        case _:
            return FetchFailure(
                detail=f"its files could not be read ({type(error).__name__}: {error})", transient=False
            )


def _inside(name: str) -> bool:
    """A relative path or pattern that stays below the repository's root."""
    path = PurePosixPath(name)
    special = "://" in name or "::" in name or "\\" in name or "\0" in name
    return not (special or path.is_absolute() or ".." in path.parts or name.startswith("~"))


def _entries(card: dict[str, Any]) -> list[dict[str, Any]]:
    configs = card.get("configs")
    return [entry for entry in configs if isinstance(entry, dict)] if isinstance(configs, list) else []


def _strings(value: Any) -> Iterator[str]:
    """Every string in nested lists and mappings."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from _strings(list(value.values()))
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)


def main(argv: list[str] | None = None) -> int:
    """Run the fetcher; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m worker.fetch_dataset", description=__doc__)
    parser.add_argument("--id", required=True)
    parser.add_argument("--revision", required=True)
    parser.add_argument("--config")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--max-bytes", type=int, required=True)
    arguments = parser.parse_args(argv)
    follow_parent()
    try:
        names = download(arguments.id, arguments.revision, arguments.out, arguments.max_bytes)
        # From here on files of strangers are parsed, and nothing has to be fetched any more.
        give_up_sockets()
        unpack(names, arguments.config, arguments.out)
    except Exception as error:
        if not isinstance(error, Refused):
            sys.excepthook(type(error), error, error.__traceback__)  # For the worker's log.
        print(failure(error).model_dump_json(), flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
