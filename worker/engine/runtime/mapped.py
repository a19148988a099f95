"""Large tensors in files that are mapped into memory: the kernel may evict pages that are not in use, and reads them again.

A job holds several models with the same weights, the statistics of all layers, and what a backward pass needs of every layer, and
uses each in turn. A tensor in a file has the same bits as in memory, is aligned as in memory, and may be written to. Its file has
no name, and disappears with the tensor.
"""

import copy
import os
import resource
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)

LEAST = 1 << 20
"""Bytes of a tensor below which it stays in memory."""
GRAPH_IN_MEMORY = 1 << 28
"""Bytes of what autograd keeps of a forward pass that stay there all the same: 256 MiB."""
RESERVE = 1 << 30
"""Bytes of the disk that are left free: what has no room there stays in memory."""
_LINE = 64
_MOUNTS = Path("/proc/self/mountinfo")
_PREFIX = "secateur-tensor-"


def is_mapped(tensor: Tensor) -> bool:
    """Whether a tensor lies in a file of this module's."""
    if tensor.device.type != "cpu" or tensor.layout is not torch.strided:
        return False
    name = tensor.untyped_storage().filename
    return name is not None and Path(name).name.startswith(_PREFIX)


def empty_mapped(shape: torch.Size | tuple[int, ...], dtype: torch.dtype, device: torch.device | None = None) -> Tensor:
    """As torch.empty; of zeros where it lies in a file. In memory where it is small, on a device, or has no room on the disk."""
    size = torch.Size(shape).numel() * dtype.itemsize
    on_cpu = device is None or device.type == "cpu"
    if not on_cpu or size < LEAST or (storage := _storage(size)) is None:
        return torch.empty(shape, dtype=dtype, device=device)
    return torch.empty(0, dtype=dtype).set_(storage).view(shape)


def has_room(size: int, largest: int | None = None) -> bool:
    """Whether files of so many bytes, the largest of so many (None: there is one), may lie in the folder for temporary files.

    Not where that is memory: nothing would be won, and what is copied there would be held twice.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if limit != resource.RLIM_INFINITY and (size if largest is None else largest) > limit:
        return False
    folder = tempfile.gettempdir()
    return not _is_memory(folder) and shutil.disk_usage(folder).free >= size + RESERVE


@cache
def _is_memory(folder: str) -> bool:
    try:
        device = Path(folder).stat().st_dev
        mounts = _MOUNTS.read_text().splitlines()
    except OSError:
        return False
    number = f"{os.major(device)}:{os.minor(device)}"
    # proc(5): the third field is the device's number; the type follows the separator.
    return any(
        line.split()[2] == number and line.partition(" - ")[2].startswith(("tmpfs ", "ramfs ")) for line in mounts
    )


def _storage(size: int) -> torch.UntypedStorage | None:
    if not has_room(size):
        return None
    folder = tempfile.gettempdir()
    # RuntimeError: torch's, of a file system that maps no file to be written to.
    with suppress(OSError, RuntimeError), tempfile.NamedTemporaryFile(prefix=_PREFIX, dir=folder) as file:
        # Its blocks are taken now: a disk that is full at the first write to the mapping would end the process.
        os.posix_fallocate(file.fileno(), 0, size)
        storage: Any = torch.UntypedStorage.from_file(file.name, True, size)
        return cast("torch.UntypedStorage", storage)
    return None


def mapped_copy(tensor: Tensor) -> Tensor:
    """A contiguous copy, detached, in a file where it is large and on the CPU."""
    source = tensor.detach()
    if source.device.type != "cpu" or source.nbytes < LEAST:
        return source.clone(memory_format=torch.contiguous_format)
    return empty_mapped(source.shape, source.dtype).copy_(source)


def in_file(tensor: Tensor) -> Tensor:
    """The tensor itself where it is mapped already and all of its file, else a copy as `mapped_copy` has it."""
    source = tensor.detach()
    if is_mapped(source) and source.is_contiguous() and source.nbytes == source.untyped_storage().nbytes():
        return source
    return mapped_copy(source)


def kept_in_file(tensor: Tensor) -> Tensor:
    """What is kept until a backward pass, detached: in a file where it is large, on the CPU and has room, else itself.

    Not a copy in memory, which others may keep as well: what goes into three maps is one tensor there.
    """
    kept = tensor.detach()
    if kept.device.type != "cpu" or kept.nbytes < LEAST or is_mapped(kept):
        return kept
    copied = copied_as_it_lies(kept)
    return kept if copied is None else copied


def copied_as_it_lies(tensor: Tensor) -> Tensor | None:
    """A copy in a file with the tensor's strides, that begins as far from a cache line's start: products of some sizes differ in
    their last bits otherwise. None if strides leave gaps or there is no room."""
    if torch.empty_like(tensor, device="meta").stride() != tensor.stride():
        return None
    offset = tensor.data_ptr() % _LINE // tensor.element_size()
    storage = _storage((offset + tensor.numel()) * tensor.element_size())
    if storage is None:
        return None
    return torch.empty(0, dtype=tensor.dtype).set_(storage, offset, tensor.shape, tensor.stride()).copy_(tensor)


@contextmanager
def graph_in_files(in_memory: int = GRAPH_IN_MEMORY) -> Iterator[None]:
    """What autograd keeps of one forward pass goes into files where it is large; of the backward pass nothing is known here.

    in_memory: bytes of it that stay in memory.
    """
    left = in_memory

    def pack(tensor: Tensor) -> Tensor:
        nonlocal left
        kept = tensor.detach()
        if kept.device.type == "cpu" and LEAST <= kept.nbytes <= left and not is_mapped(kept):
            left -= kept.nbytes
            return kept
        return kept_in_file(kept)

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept):
        yield


def model_copy(model: Module) -> Module:
    """A copy that shares nothing with the model; what is large is in files."""
    tensors = (*model.parameters(), *model.buffers())
    known: dict[int, Any] = {id(tensor): _like(tensor, mapped_copy(tensor)) for tensor in tensors}
    return copy.deepcopy(model, known)


def _like(tensor: Tensor, made: Tensor) -> Tensor:
    return nn.Parameter(made, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else made


def into_memory(model: nn.Module) -> None:
    """Give a model memory of its own for all that lies in files, which other models may share: training writes to it."""
    for tensor in (*model.parameters(), *model.buffers()):
        if is_mapped(tensor):
            tensor.data = tensor.detach().clone()
