"""A step's folder as one tar, streamed: the same bytes every time, their number known before the first is sent."""

import hashlib
import tarfile
from collections.abc import Iterator, Sequence

from store.database.tables import JobStepFile
from store.files.artifacts import Artifacts

BLOCK = tarfile.BLOCKSIZE
END = bytes(2 * BLOCK)


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

    def stream(self, artifacts: Artifacts) -> Iterator[bytes]:
        """The archive, a chunk at a time."""
        for header, file in self._entries:
            yield header
            yield from artifacts.read(file.key, 0, file.size)
            yield bytes(_padding(file.size))
        yield END


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
