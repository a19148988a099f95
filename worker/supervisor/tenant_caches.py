"""What engines leave for the next job of the same tenant: prepared inputs, and results that do not depend on the spec.

An engine reads untrusted files, and may be made to write something malicious. So only engines of the same tenant get a tenant's
cache: it is stored where no engine can reach it, and moved into a job's folder while the job runs here. It belongs to this
process, so no two jobs have it at once, and is deleted with it (docs/adr/0047-what-jobs-share.md).
"""

import hashlib
import logging
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from worker.inputs.kept_inputs import make_room, remove

log = logging.getLogger(__name__)

_ENTRY = re.compile(r"(features|scores|statistics)-[0-9a-f]{32}")


class TenantCaches:
    """Caches below `folder`, one per tenant, beside fetched inputs (worker/inputs/kept_inputs.py).

    At most `most_bytes` in total; if that is 0, nothing is kept.
    """

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self._folder, self._most_bytes = folder, most_bytes
        self._folder.mkdir(mode=0o700, exist_ok=True)

    @contextmanager
    def lent(self, tenant: str, place: Path) -> Iterator[None]:
        """Moves the tenant's cache to `place` for the duration of the block. Its engine must have ended when the block does."""
        own = self._folder / hashlib.sha256(tenant.encode()).hexdigest()[:32]
        with suppress(FileNotFoundError):
            own.rename(place)
        try:
            yield
        finally:
            try:
                self._take_back(own, place)
            except OSError:
                log.warning("the cache of a tenant is dropped", exc_info=True)
                shutil.rmtree(own, ignore_errors=True)
            try:
                make_room(self._folder, self._most_bytes)
            except OSError:
                log.warning("the cached files cannot be listed", exc_info=True)

    def _take_back(self, own: Path, place: Path) -> None:
        if not self._most_bytes or not _is_folder(place):
            return
        for entry in place.iterdir():
            if not _whole(entry):
                remove(entry)
            elif entry.stat().st_mtime > time.time():
                os.utime(entry)  # An engine can set any time of last use.
        place.rename(own)


def _whole(entry: Path) -> bool:
    """A folder with a name of ours that contains only plain files: nothing half-written, and no links."""
    if not _ENTRY.fullmatch(entry.name) or not _is_folder(entry):
        return False
    return all(stat.S_ISREG((found := file.lstat()).st_mode) and found.st_nlink == 1 for file in entry.iterdir())


def _is_folder(path: Path) -> bool:
    """Whether it is a folder and not a link to one."""
    return path.is_dir() and not path.is_symlink()
