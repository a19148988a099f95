"""Whether two tensors of a checkpoint have the same bytes, without loading either."""

from collections.abc import Callable

from checkpoints.files.safetensors_header import TensorInfo

Reader = Callable[[str, int, int], bytes]
"""Of a checkpoint's file by its name, the bytes start … end-1."""
_CHUNK_BYTES = 2**20


def same_bytes(read: Reader, first: TensorInfo, second: TensorInfo) -> bool:
    """Whether they are alike in dtype, shape and every byte. Ends at the first difference: mostly that is one chunk of each."""
    if (first.dtype, first.shape) != (second.dtype, second.shape):
        return False
    size = first.end - first.start
    for at in range(0, size, _CHUNK_BYTES):
        pieces = [
            read(
                tensor.file, tensor.data + tensor.start + at, tensor.data + tensor.start + min(at + _CHUNK_BYTES, size)
            )
            for tensor in (first, second)
        ]
        if pieces[0] != pieces[1]:
            return False
    return True
