"""Selects the files of a hub dataset to fetch: data files, the lists that belong to them, and the card."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from worker.inputs.hub import Hub, HubFile, Refused

CARD = "README.md"
METADATA = ("metadata.csv", "metadata.jsonl", "validation_list.txt", "testing_list.txt")
AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp")
MAX_FILES = 200_000


def fetch_dataset(hub: Hub, repo: str, revision: str, folder: Path, max_bytes: int) -> None:
    """Fill `folder` with them. Raises Refused, Away or OSError."""
    files = data_files(repo, hub.files("datasets", repo, revision), max_bytes)
    hub.fetch_all("datasets", repo, revision, files, folder)


def data_files(repo: str, files: Sequence[HubFile], max_bytes: int) -> list[HubFile]:
    """Of parquet, audio and images the first there is, with lists, and the card. Raises Refused."""
    listed = {file.name: file for file in files}
    script = f"{repo.split('/')[-1]}.py"
    if script in listed:
        raise Refused(
            f"it requires its script {script}, but dataset scripts are never run. Convert it to parquet first."
        )
    parquet = [name for name in listed if name.endswith(".parquet")]
    audio = [name for name in listed if name.lower().endswith(AUDIO_SUFFIXES)]
    images = [name for name in listed if name.lower().endswith(IMAGE_SUFFIXES)]
    lists = [name for name in listed if PurePosixPath(name).name in METADATA]
    if not parquet and not audio and not images:
        raise Refused("it has no parquet, audio (wav, flac, ogg, mp3) or image (png, jpg, webp, gif, bmp) files.")
    names = parquet or (audio or images) + lists
    if len(names) > MAX_FILES:
        raise Refused(f"it has {len(names)} data files; the maximum is {MAX_FILES}.")
    for name in names:
        if not is_inside(name) or any(character in name for character in "*?[]"):
            raise Refused(f"the file name {name!r} is not accepted.")
    chosen = [listed[name] for name in (*names, *((CARD,) if CARD in listed else ()))]
    total = sum(file.size for file in chosen)
    if total > max_bytes:
        raise Refused(f"its data files have {total} bytes; the maximum on this server is {max_bytes}.")
    return chosen


def is_inside(name: str) -> bool:
    """A relative path or pattern that stays below the repository's root."""
    path = PurePosixPath(name)
    special = "://" in name or "::" in name or "\\" in name or "\0" in name
    return not (special or path.is_absolute() or ".." in path.parts or name.startswith("~"))
