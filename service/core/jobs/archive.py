"""A step's folder as one streamed tar: always the same bytes, and their number is known before the first is sent."""

import hashlib
import tarfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from store.database.tables import JobStepFile
from store.files.artifacts import Artifacts

BLOCK = tarfile.BLOCKSIZE
END = bytes(2 * BLOCK)
_Read = Callable[[int, int], Iterator[bytes]]


class StepArchive:
    """Files in order of name below one folder, mode 0644, no owner, no time: nothing that is not in the step."""

    def __init__(self, folder: str, files: Sequence[JobStepFile]) -> None:
        self._entries = [(_header(f"{folder}/{file.name}", file.size), file) for file in sorted(files, key=_name)]

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(len(header) + file.size + _padding(file.size) for header, file in self._entries) + len(END)

    @property
    def etag(self) -> str:
        """Of the files' names and hashes, which the bytes follow from."""
        text = "".join(f"{file.sha256} {file.name}\n" for _, file in self._entries)
        return f'"tar-{hashlib.sha256(text.encode()).hexdigest()}"'

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of its files by key, as the artifact store should have them."""
        return {file.key: file.size for _, file in self._entries}

    def stream(self, artifacts: Artifacts, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Bytes [start, end) of the archive, a chunk at a time; of files before them nothing is read."""
        at, last = 0, self.size if end is None else end
        for size, read in self._parts(artifacts):
            first, stop = max(start - at, 0), min(last - at, size)
            if first < stop:
                yield from read(first, stop)
            at += size

    def _parts(self, artifacts: Artifacts) -> Iterator[tuple[int, _Read]]:
        """What it is made of: bytes, and how those between two places are had."""
        for header, file in self._entries:
            yield len(header), _reader(header)
            yield file.size, partial(artifacts.read, file.key)
            yield _padding(file.size), _reader(bytes(_padding(file.size)))
        yield len(END), _reader(END)


def _reader(data: bytes) -> _Read:
    return lambda start, end: iter((data[start:end],))


def _name(file: JobStepFile) -> str:
    return file.name


def _header(name: str, size: int) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.size = size
    entry.mode = 0o644
    # PAX writes plain ustar headers until a name or a size (8 GiB) does not fit into one.
    return entry.tobuf(tarfile.PAX_FORMAT)


def _padding(size: int) -> int:
    return -size % BLOCK
