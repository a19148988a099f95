"""Finds NaN and infinity in weights as the bytes arrive, holding only the current piece in memory.

A float is one of them exactly if all bits of its exponent are set (IEEE 754), so integers are compared and nothing is converted;
this also covers bfloat16, which numpy does not have.
"""

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from api_schemas.errors import ErrorCode, ErrorItem, SecateurError
from checkpoints.files.safetensors_header import TensorInfo

EXPONENTS: dict[str, np.unsignedinteger[Any]] = {
    "F16": np.uint16(0x7C00),
    "BF16": np.uint16(0x7F80),
    "F32": np.uint32(0x7F80_0000),
    "F64": np.uint64(0x7FF0_0000_0000_0000),
}
"""By dtype of safetensors: the bits of the exponent, in an integer as wide as the float."""
SLICE = 2**18
"""Bytes looked at together: what a core's cache holds beside a copy of it."""


class FiniteWeights:
    """Checks of the data of one safetensors file: `feed` it every byte behind the header, in order."""

    def __init__(self, tensors: Mapping[str, TensorInfo]) -> None:
        """`tensors` in the order of their data, which they cover without a gap, as `parse_header` returns them."""
        self._names = list(tensors)
        self._starts = [tensor.start for tensor in tensors.values()]
        self._runs = _runs(tensors)
        self._end, self._exponent = next(self._runs, (0, None))
        self._position = 0
        self._part = b""
        """The first bytes of a number whose others have not come."""

    def feed(self, chunk: bytes) -> None:
        """Raises WEIGHTS_NOT_FINITE, naming the tensor."""
        rest = memoryview(chunk)
        while rest:
            while self._position + len(self._part) >= self._end:
                following = next(self._runs, None)
                if following is None:
                    return  # More than the header speaks of; how long the file is others check.
                self._end, self._exponent = following
            taken = rest[: min(self._end - self._position - len(self._part), SLICE)]
            rest = rest[len(taken) :]
            if self._exponent is None:
                self._position += len(taken)
            else:
                self._check(self._part + bytes(taken) if self._part else taken, self._exponent)

    def _check(self, data: bytes | memoryview, exponent: np.unsignedinteger[Any]) -> None:
        whole = len(data) - len(data) % exponent.itemsize
        bits = np.frombuffer(data[:whole], dtype=exponent.dtype.newbyteorder("<")) & exponent
        if len(bits) and bits.max() == exponent:
            offset = self._position + int(np.argmax(bits == exponent)) * exponent.itemsize
            name = self._names[bisect_right(self._starts, offset) - 1]
            item = ErrorItem.at(name, code=ErrorCode.WEIGHTS_NOT_FINITE, detail="it contains NaN or infinity")
            detail = f"Tensor {name!r} contains NaN or infinity. Use a checkpoint whose weights are all finite."
            raise SecateurError(ErrorCode.WEIGHTS_NOT_FINITE, detail, (item,))
        self._position += whole
        self._part = bytes(data[whole:])


def _runs(tensors: Mapping[str, TensorInfo]) -> Iterator[tuple[int, np.unsignedinteger[Any] | None]]:
    """End and exponent of neighbours of one dtype, taken together: thousands of small tensors are one run."""
    begin = end = 0
    dtype = ""
    for tensor in tensors.values():
        if tensor.dtype != dtype and end > begin:
            yield end, EXPONENTS.get(dtype)
            begin = end
        dtype, end = tensor.dtype, tensor.end
    if end > begin:
        yield end, EXPONENTS.get(dtype)
