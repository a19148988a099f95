"""The sandbox settings (store/cage) of this worker's children: the engine, and the reader of hub datasets."""

import os
import pwd
from pathlib import Path

from api_schemas.errors import ErrorCode
from store.cage import Cage, read_report, trial
from store.settings import Settings
from worker.children.engine_output import Crashed
from worker.children.job_folders import JobFolders


def of_engine(place: JobFolders, settings: Settings) -> Cage:
    """Reads its inputs, writes what it makes; no network."""
    # A program that the operator names by its path has to be readable wherever it lies.
    program = tuple(part for part in settings.engine_command if part.startswith("/") and Path(part).is_file())
    return Cage(
        write=(*map(str, (place.out, place.cache, place.home)), *map(str, settings.engine_folders)),
        read=(str(place.root), *program),
        file_bytes=settings.engine_file_bytes,
        processes=settings.engine_processes,
        user=settings.engine_user,
        strict=settings.auth == "keys",
    )


def of_reader(place: JobFolders, settings: Settings) -> Cage:
    """Reads a hub dataset's files and writes them anew; no network."""
    return Cage(
        write=(str(place.root),),
        file_bytes=max(settings.engine_file_bytes, settings.max_dataset_bytes),
        processes=settings.engine_processes,
    )


def hand_over(place: JobFolders, settings: Settings) -> None:
    """Give the job's folder to the user that the engine becomes; what leads to it may be passed through, not listed."""
    if settings.engine_user is None or os.getuid() != 0:
        return
    user = pwd.getpwnam(settings.engine_user)
    place.root.parent.chmod(0o711)
    for path in (place.root, *place.root.rglob("*")):
        os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)


def report(line: str) -> tuple[str, ...]:
    """The layers that hold, from a child's first line. Raises Crashed where the launcher did not write it."""
    try:
        return tuple(layer.value for layer in read_report(line))
    except ValueError as error:
        raise Crashed(
            ErrorCode.ENGINE_ERROR, "The engine did not start in its sandbox; the worker's log says why."
        ) from error


def check(settings: Settings) -> tuple[str, ...]:
    """The layers that hold on this machine. Raises SystemExit, with the launcher's reason, where a worker must not run here."""
    try:
        return trial.layers_here(
            settings.engine_user, strict=settings.auth == "keys", processes=settings.engine_processes
        )
    except trial.NoCageError as error:
        raise SystemExit(f"This worker does not start: {error}") from error
