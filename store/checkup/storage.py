"""Checks storage: artifacts, folders, free space."""

import os
import shutil
import tempfile
import uuid
from pathlib import Path
from urllib.parse import unquote, urlsplit

from obstore.exceptions import BaseError

from api_schemas.api.checkup import Finding, ok, warning, wrong
from api_schemas.credentials import without_credentials
from api_schemas.errors import ErrorCode, SecateurError
from store.files.artifacts import Artifacts
from store.settings import Settings

PROBE = os.urandom(2**16)
LEAST_BYTES = 2**28
"""Of a disk: with less not even the service's own records are safe."""
SHARED_BYTES = 2**26
SHARED = Path("/dev/shm")


def artifacts(settings: Settings) -> list[Finding]:
    """Whether something can be put there, read, and removed. A local folder that is not there yet is left to be made."""
    folder = _local(settings)
    if folder is not None and _nearest(folder) != folder:
        return [_written("artifacts", folder, "SECATEUR_ARTIFACTS_URL")]
    shown = without_credentials(settings.artifacts_url)
    key = f"doctor/{uuid.uuid4().hex}"
    with tempfile.NamedTemporaryFile(dir=SHARED if os.access(SHARED, os.W_OK) else None) as file:
        file.write(PROBE)
        file.flush()
        try:
            store = Artifacts(settings.artifacts_url)
            store.put_file(key, Path(file.name))
            same = b"".join(store.read(key)) == PROBE
            store.delete(key)
        except SecateurError as error:
            full = error.code is ErrorCode.STORAGE_FULL
            why = "is full" if full else f"is not writable: {_first_line(error.__cause__ or error)}"
            return [wrong("artifacts", f"{shown} {why}", _MORE_ROOM if full else _WRITABLE)]
        except (BaseError, ValueError) as error:
            return [wrong("artifacts", f"{shown} cannot be opened: {_first_line(error)}", _WRITABLE)]
    if not same:
        return [wrong("artifacts", f"{shown} returns other bytes than were written", "Check its disks.")]
    return [ok("artifacts", f"{shown} can be written and read")]


_WRITABLE = (
    "Allow this user to write there, or correct SECATEUR_ARTIFACTS_URL, and for a bucket AWS_*, AZURE_* or GOOGLE_*."
)
_MORE_ROOM = "Free some space (delete jobs and uploads, set the retention settings), or change SECATEUR_ARTIFACTS_URL."


def folders(settings: Settings) -> list[Finding]:
    """Whether this user can write where data and scratch files are kept."""
    return [
        _written("folders", settings.data_dir, "SECATEUR_DATA_DIR"),
        _written("folders", settings.scratch, "SECATEUR_SCRATCH_DIR"),
    ]


def _written(check: str, folder: Path, variable: str) -> Finding:
    there = _nearest(folder)
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(PROBE)
    except OSError as error:
        remedy = f"Allow this user to write there, free some space, or set another folder: {variable}."
        return wrong(check, f"{there} is not writable: {error.strerror}", remedy)
    return ok(check, f"{folder}" if there == folder else f"{folder} can be created")


def room(settings: Settings) -> list[Finding]:
    """What is left on each disk, against the largest things that may come."""
    wanted = [
        (settings.scratch, settings.max_model_bytes + settings.max_dataset_bytes),
        (settings.data_dir, LEAST_BYTES),
    ]
    if (local := _local(settings)) is not None:
        wanted.append((local, settings.max_file_bytes))
    disks: dict[int, tuple[Path, int]] = {}
    for place, size in wanted:
        folder = _nearest(place)
        first, largest = disks.get(folder.stat().st_dev, (folder, 0))
        disks[folder.stat().st_dev] = (first, max(size, largest))
    return [_judged(folder, size) for folder, size in disks.values()]


def _judged(folder: Path, size: int) -> Finding:
    free = shutil.disk_usage(folder).free
    found = f"{_gib(free)} free at {folder}"
    if free < LEAST_BYTES:
        return wrong(
            "disk", f"{found}: full", "Free some space: delete jobs and uploads, or set the retention settings."
        )
    if free < size:
        remedy = "Add space, or lower SECATEUR_MAX_FILE_BYTES, SECATEUR_MAX_MODEL_BYTES, SECATEUR_MAX_DATASET_BYTES."
        return warning("disk", f"{found}, less than the settings allow ({_gib(size)})", remedy)
    return ok("disk", found)


def shared_memory() -> list[Finding]:
    """PyTorch and libraries beside it exchange data there; containers often have 64 MB of it."""
    if not SHARED.is_dir():
        return [ok("shared memory", f"no {SHARED} on this system")]
    free = shutil.disk_usage(SHARED).free
    if free < SHARED_BYTES:
        return [
            warning("shared memory", f"{_gib(free)} free at {SHARED}", "Give the container more with --shm-size 1g.")
        ]
    return [ok("shared memory", f"{_gib(free)} free")]


def _local(settings: Settings) -> Path | None:
    address = urlsplit(settings.artifacts_url)
    return Path(unquote(address.path)) if address.scheme == "file" else None


def _nearest(folder: Path) -> Path:
    """The folder, or what it will be made in, as far as this user may look."""
    # Not Path.is_dir, which raises where a folder above is closed.
    return next(path for path in (folder, *folder.parents) if os.path.isdir(path))  # noqa: PTH112


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"
