"""Kinds of files by name and by first bytes. A pickle is dangerous under any name, because reading one runs its code."""

import re

from api_schemas.errors import ErrorCode, ErrorItem, SecateurError
from checkpoints.file_names import CONVERT, foreign

PICKLE_SUFFIXES = (".bin", ".ckpt", ".joblib", ".npy", ".npz", ".pickle", ".pkl", ".pt", ".pt2", ".pth")
# Code, archives and other frameworks' weights: no pickle perhaps, and no more welcome.
OTHER_SUFFIXES = (
    ".7z",
    ".gguf",
    ".gz",
    ".h5",
    ".msgpack",
    ".onnx",
    ".ot",
    ".py",
    ".so",
    ".tar",
    ".tgz",
    ".whl",
    ".zip",
)
_MAGIC = {
    b"PK\x03\x04": "a zip archive (as written by torch.save)",
    b"PK\x05\x06": "a zip archive",
    b"\x1f\x8b": "a gzip archive",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ": "an xz archive",
    b"\x28\xb5\x2f\xfd": "a zstandard archive",
    b"\x93NUMPY": "a numpy file (which may hold a pickle)",
    b"\x89HDF": "an HDF5 file",
    b"\x7fELF": "a program",
    b"GGUF": "a GGUF file",
}
MAGIC_BYTES = 16
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
"""Names that Windows takes for devices, whatever follows their first dot."""


def refuse_device(name: str) -> None:
    """Raise FILE_NAME_REFUSED for a path with a name in it that no file can have on some systems."""
    if any(map(_DEVICES.fullmatch, name.split("/"))):
        item = ErrorItem.at(name, code=ErrorCode.FILE_NAME_REFUSED, detail="reserved device name on Windows")
        raise SecateurError(
            ErrorCode.FILE_NAME_REFUSED, f"{name} is a reserved device name on Windows; rename the file.", (item,)
        )


def refuse_kind(name: str) -> None:
    """Raise FILE_TYPE_REFUSED for a name that announces a pickle, an archive, code or another framework's weights."""
    if name.lower().endswith(PICKLE_SUFFIXES):
        raise refused(
            name,
            f"pickle files can run code when they are read. Convert the weights to safetensors with `{CONVERT} FOLDER`",
        )
    if name.lower().endswith(OTHER_SUFFIXES) and (what := foreign(name)) is not None:
        raise refused(
            name, f"it is {what}, which cannot be pruned. Send the transformers checkpoint that it was made from"
        )
    if name.lower().endswith(OTHER_SUFFIXES):
        raise refused(
            name,
            "code, archives and other weight formats are not accepted. Send weights as safetensors, data as parquet",
        )


def refuse_magic(name: str, head: bytes) -> None:
    """Raise FILE_TYPE_REFUSED where the first bytes (MAGIC_BYTES are enough) are those of a pickle or an archive."""
    for magic, kind in _MAGIC.items():
        if head.startswith(magic):
            raise refused(name, f"its content is {kind}, whatever its name says")
    if _is_binary_pickle(head) or head.startswith(
        (b"c__builtin__", b"cbuiltins", b"cos\n", b"cposix\n", b"csubprocess")
    ):
        raise refused(
            name, "its content is a pickle, whatever its name says, and pickle files can run code when they are read"
        )


def refused(name: str, reason: str) -> SecateurError:
    item = ErrorItem.at(name, code=ErrorCode.FILE_TYPE_REFUSED, detail=reason)
    return SecateurError(ErrorCode.FILE_TYPE_REFUSED, f"{name} is not accepted: {reason}.", (item,))


def _is_binary_pickle(head: bytes) -> bool:
    """Protocol 2 to 5. A safetensors header of 640 bytes starts alike (80 02 00 …), but its JSON opens at byte 8."""
    return len(head) > 2 and head[0] == 0x80 and 2 <= head[1] <= 5 and head[8:9] != b"{"
