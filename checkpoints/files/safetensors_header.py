"""The header of a safetensors file, read as untrusted input: names, dtypes, shapes and offsets, and never a weight.

The format: 8 bytes little-endian header length n, n bytes of JSON, then the tensors one after another. The reference reader
accepts repeated keys, names with path separators, absurd shapes and headers of any size; this one does not.
"""

import re
from math import prod
from pathlib import Path
from typing import Any

from api_schemas.base import FrozenModel
from api_schemas.errors import ErrorCode, SecateurError
from checkpoints.files.safe_json import UnsafeJsonError, load_object

MAX_HEADER_BYTES = 8 * 2**20
MAX_TENSORS = 65_536
MAX_DIMENSIONS = 8
LENGTH_BYTES = 8

DTYPE_BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64"), 8),
}

_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_ENTRY_KEYS = {"dtype", "shape", "data_offsets"}


class TensorInfo(FrozenModel):
    """One tensor: `start` and `end` are byte offsets into the part of the file that follows the header."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int
    data: int = 0
    """Bytes of the file before that part."""
    file: str = "model.safetensors"

    @property
    def elements(self) -> int:
        return prod(self.shape)


def header_length(first_bytes: bytes, file_size: int) -> int:
    """Length n of the JSON header, from the first 8 bytes. Raises SAFETENSORS_INVALID where it is not plausible."""
    if len(first_bytes) < LENGTH_BYTES:
        raise _invalid("it is shorter than the 8 bytes of the header length")
    length = int.from_bytes(first_bytes[:LENGTH_BYTES], "little")
    if length > MAX_HEADER_BYTES:
        raise _invalid(f"its header would have {length} bytes; the maximum is {MAX_HEADER_BYTES}")
    if LENGTH_BYTES + length > file_size:
        raise _invalid(f"its header ends at byte {LENGTH_BYTES + length}, after the end of the file at {file_size}")
    return length


def parse_header(prefix: bytes, file_size: int) -> dict[str, TensorInfo]:
    """Tensors by name, in the order of their data. `prefix` holds at least the first 8+n bytes of the file.

    Raises SAFETENSORS_INVALID. What passes is a file whose tensors cover the rest of it exactly, once.
    """
    length = header_length(prefix, file_size)
    text = prefix[LENGTH_BYTES : LENGTH_BYTES + length]
    if len(text) < length:
        raise _invalid(f"only {len(text)} of its header's {length} bytes are present")
    if not text.startswith(b"{"):
        raise _invalid("its header is not a JSON object")
    try:
        header = load_object(text, MAX_HEADER_BYTES, max_depth=3)
    except UnsafeJsonError as error:
        raise _invalid(f"its header {error}") from None
    _check_metadata(header.pop("__metadata__", {}))
    if len(header) > MAX_TENSORS:
        raise _invalid(f"it lists {len(header)} tensors; the maximum is {MAX_TENSORS}")
    data = LENGTH_BYTES + length
    data_size = file_size - data
    tensors = {name: _tensor(name, entry, data_size, data) for name, entry in header.items()}
    ordered = sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end))
    position = 0
    for name, tensor in ordered:
        if tensor.start != position:
            raise _invalid(f"the data of tensor {name!r} starts at {tensor.start}, but {position} was expected")
        position = tensor.end
    if position != data_size:
        raise _invalid(f"its tensors end at byte {position} of {data_size}")
    return dict(ordered)


def read_header(path: Path) -> dict[str, TensorInfo]:
    """`parse_header` of a local file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        first = file.read(LENGTH_BYTES)
        return parse_header(first + file.read(header_length(first, size)), size)


def _check_metadata(metadata: Any) -> None:
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _invalid("its __metadata__ is not an object of strings")


def _tensor(name: str, entry: Any, data_size: int, data: int) -> TensorInfo:
    if len(name) > 512 or not _NAME.fullmatch(name):
        raise _invalid(
            f"{name[:100]!r} is not a valid tensor name (letters, digits, `_` and `-`, separated by single dots)"
        )
    if not isinstance(entry, dict) or set(entry) != _ENTRY_KEYS:
        raise _invalid(f"tensor {name!r} must have exactly dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BYTES:
        raise _invalid(f"tensor {name!r} has the unknown dtype {str(dtype)[:20]!r}")
    # No dimension can be longer than the data, also beside a 0: readers that multiply in another order would overflow.
    if not _naturals(shape) or len(shape) > MAX_DIMENSIONS or any(n > max(data_size, 1) for n in shape):
        raise _invalid(f"tensor {name!r} has an invalid shape")
    if not _naturals(offsets) or len(offsets) != 2 or not offsets[0] <= offsets[1] <= data_size:
        raise _invalid(f"tensor {name!r} has data_offsets outside the file")
    expected = prod(shape) * DTYPE_BYTES[dtype]
    if offsets[1] - offsets[0] != expected:
        raise _invalid(f"tensor {name!r} needs {expected} bytes, but its data_offsets give {offsets[1] - offsets[0]}")
    return TensorInfo(dtype=dtype, shape=tuple(shape), start=offsets[0], end=offsets[1], data=data)


def _naturals(value: Any) -> bool:
    return isinstance(value, list) and all(type(number) is int and number >= 0 for number in value)


def _invalid(reason: str) -> SecateurError:
    detail = f"This safetensors file cannot be read: {reason}. Save the model again with safetensors."
    return SecateurError(ErrorCode.SAFETENSORS_INVALID, detail)
