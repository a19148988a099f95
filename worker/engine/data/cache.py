"""Features and targets on disk, named by a hash of what they were computed from. A resumed job finds them here."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import soundfile

from api_schemas.enums import Split
from api_schemas.results.metrics import DataSummary
from checkpoints.data.layout import Layout
from checkpoints.files.preprocessor_files import GENERATION, PREPROCESSOR, PROCESSOR, SENTENCE_FILES, TOKENIZER_FILES
from worker.engine.data.column_files import read_split
from worker.engine.data.settings import CONFIG
from worker.engine.data.split import FeatureSplit

# Raise it where a change in this package changes what is stored.
FORMAT = 5
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Prepared:
    """What is stored in one entry."""

    summary: DataSummary
    splits: dict[Split, FeatureSplit]


def entry_name(layout: Layout, folder: Path, model_dir: Path, options: Mapping[str, Any]) -> str:
    """`features-<hash>` of the data's names and bytes, the files that make inputs, `options`, and the libraries' versions.

    Bytes and not times of change: a job that resumes on another machine has fetched its files anew.
    """
    digest = hashlib.sha256()
    libraries = {
        name: version(name)
        for name in (
            "torch",
            "torchaudio",
            "transformers",
            "tokenizers",
            "datasets",
            "soundfile",
            "soxr",
            "pillow",
            "numpy",
        )
    }
    versions = {"format": FORMAT, "sndfile": soundfile.__libsndfile_version__, **libraries}
    digest.update(json.dumps([versions, options, layout.kind.value, layout.metadata], sort_keys=True).encode())
    for name in (CONFIG, GENERATION, PREPROCESSOR, PROCESSOR, *TOKENIZER_FILES, *SENTENCE_FILES):
        if (model_dir / name).is_file():
            digest.update(name.encode() + _file_digest(model_dir / name))
    for split in sorted(layout.files):
        for path in layout.files[split]:
            # Both lengths are fixed or marked, so that no two lists of files hash the same.
            digest.update(json.dumps([split, path.relative_to(folder).as_posix()]).encode() + _file_digest(path))
    return f"features-{digest.hexdigest()[:32]}"


def _file_digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def load(entry: Path) -> Prepared | None:
    """The entry, its features memory-mapped read-only, or None where there is none."""
    if not (entry / MANIFEST).is_file():
        return None
    summary = DataSummary.model_validate_json((entry / MANIFEST).read_text())
    splits = {split: read_split(entry, split.value) for split in Split}
    return Prepared(summary, splits)


def touch(entry: Path) -> None:
    """It was used now: who makes room begins with what was not used for longest."""
    with suppress(OSError):
        os.utime(entry)


@contextmanager
def writing(entry: Path) -> Iterator[Path]:
    """A temporary folder beside `entry` that becomes it on success, whole or not at all, and is removed on failure."""
    entry.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(mkdtemp(prefix=f"{entry.name}.", dir=entry.parent))
    try:
        yield temporary
        for path in temporary.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        try:
            temporary.rename(entry)
        except OSError:
            # Another process was first, with the same content: what the name promises.
            if not (entry / MANIFEST).is_file():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
