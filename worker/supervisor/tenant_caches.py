"""What engines leave for the next job of the same tenant: prepared inputs, and results that are the same whoever computes them.

An engine reads a stranger's files, and may be made to write what it should not. So a tenant's cache is found by engines of that
tenant alone: it lies where no engine can reach it, and is moved into a job's folder for as long as the job is here. It is this
process's, so that no two jobs have it at once, and goes with it (docs/adr/0047-what-jobs-share.md).
"""

import hashlib
import logging
import re
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

log = logging.getLogger(__name__)

UNUSED_SECONDS = 86_400.0
"""After which an entry goes, whatever room there is: its data may have been deleted."""
_ENTRY = re.compile(r"(features|scores|statistics)-[0-9a-f]{32}")


class TenantCaches:
    """Caches below `folder`, a tenant each, and beside them inputs that were fetched (worker/inputs/kept_inputs.py).

    `most_bytes` in all; none are kept where that is 0.
    """

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self._folder, self._most_bytes = folder, most_bytes
        self._folder.mkdir(mode=0o700, exist_ok=True)

    @contextmanager
    def lent(self, tenant: str, place: Path) -> Iterator[None]:
        """The tenant's cache is `place` inside of the block. Its engine has to have ended when the block does."""
        own = self._folder / hashlib.sha256(tenant.encode()).hexdigest()[:32]
        with suppress(FileNotFoundError):
            own.rename(place)
        try:
            yield
        finally:
            try:
                self._take_back(own, place)
            except OSError:
                log.warning("the cache of a tenant is given up", exc_info=True)
                shutil.rmtree(own, ignore_errors=True)

    def _take_back(self, own: Path, place: Path) -> None:
        if not self._most_bytes or not _is_folder(place):
            return
        for entry in place.iterdir():
            if not _whole(entry):
                _remove(entry)
        place.rename(own)
        self._make_room()

    def _make_room(self) -> None:
        """Removes what was not used for long, and then for longest, whosever it is; half of what the disk has left stays free."""
        entries = sorted((entry.lstat().st_mtime, _size(entry), entry) for entry in self._folder.glob("*/*"))
        kept = sum(size for _, size, _ in entries)
        most = min(self._most_bytes, (shutil.disk_usage(self._folder).free + kept) // 2)
        for used, size, entry in entries:
            if kept <= most and used > time.time() - UNUSED_SECONDS:
                return
            _remove(entry)
            kept -= size


def _whole(entry: Path) -> bool:
    """A folder of a name that we give, with plain files of its own in it: nothing half-written, and no links."""
    if not _ENTRY.fullmatch(entry.name) or not _is_folder(entry):
        return False
    return all(stat.S_ISREG((found := file.lstat()).st_mode) and found.st_nlink == 1 for file in entry.iterdir())


def _is_folder(path: Path) -> bool:
    """Itself, and no link to one."""
    return path.is_dir() and not path.is_symlink()


def _size(entry: Path) -> int:
    return sum(file.lstat().st_size for file in entry.iterdir())


def _remove(entry: Path) -> None:
    if _is_folder(entry):
        shutil.rmtree(entry)
    else:
        entry.unlink()
