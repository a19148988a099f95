"""A checkpoint that was fetched into a folder, checked like an upload: each file alone, then all together."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from checkpoints.describe import Checkpoint
from checkpoints.file_names import names_in
from store.uploads.inspection.incoming_file import IncomingFile
from store.uploads.inspection.models.folder import describe_model

CHUNK = 2**20


@dataclass(frozen=True)
class LocalFiles:
    """The files of a folder, and of the folders below it that a checkpoint's may lie in."""

    folder: Path

    @property
    def sizes(self) -> Mapping[str, int]:
        return {name: (self.folder / name).stat().st_size for name in names_in(self.folder)}

    def read(self, name: str, start: int, end: int) -> bytes:
        with (self.folder / name).open("rb") as file:
            file.seek(start)
            return file.read(max(0, end - start))


def judge_folder(folder: Path, max_json_bytes: int) -> Checkpoint:
    """Raises the codes of an upload that is refused."""
    files = LocalFiles(folder)
    for name, size in files.sizes.items():
        incoming = IncomingFile(name, size, max_json_bytes)
        with (folder / name).open("rb") as file:
            while chunk := file.read(CHUNK):
                incoming.feed(chunk)
        incoming.finish()
    return describe_model(files)
