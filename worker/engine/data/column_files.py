"""Columns of a split as files: whole arrays, and rows of different lengths as values and offsets."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from numpy.lib import format as npy
from torch import Tensor

from worker.engine.data.split import Column, FeatureSplit, Ragged

_VALUES, _STARTS, _WHOLE = ".values.npy", ".starts.npy", ".npy"


class InputsWriter:
    """Writes the inputs of one split chunk by chunk, so that none is ever whole in memory."""

    def __init__(self, folder: Path, split: str, rows: int) -> None:
        self._prefix, self._rows = folder / f"{split}.inputs", rows
        self._arrays: dict[str, np.memmap[Any, Any]] = {}
        self._growing: dict[str, _Growing] = {}
        self._done = 0

    def __enter__(self) -> "InputsWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for array in self._arrays.values():
            array.flush()
        for column in self._growing.values():
            column.close()

    def write(self, chunk: Mapping[str, Any]) -> None:
        """The next rows: by keyword an array [B, …], or a list of B arrays that differ in length."""
        count = 0
        for name, values in chunk.items():
            count = len(values)
            if isinstance(values, list):
                if name not in self._growing:
                    self._growing[name] = _Growing(_path(self._prefix, name, ""), values[0])
                self._growing[name].append(values)
                continue
            if name not in self._arrays:
                path = _path(self._prefix, name, _WHOLE)
                shape = (self._rows, *values.shape[1:])
                self._arrays[name] = npy.open_memmap(path, mode="w+", dtype=values.dtype, shape=shape)
            self._arrays[name][self._done : self._done + count] = values
        self._done += count


class _Growing:
    """A .npy file of as many values as come, and beside it where each row of them begins."""

    def __init__(self, path: Path, like: Any) -> None:
        self._path, self._like = path, like
        self._file = path.with_name(path.name + _VALUES).open("w+b")
        self._lengths = [0]
        self._header()

    def append(self, rows: Sequence[Any]) -> None:
        for row in rows:
            self._file.write(np.ascontiguousarray(row, dtype=self._like.dtype).tobytes())
            self._lengths.append(len(row))

    def close(self) -> None:
        self._file.seek(0)
        self._header()  # As long as before: the format leaves room for a first axis of any length.
        self._file.close()
        np.save(self._path.with_name(self._path.name + _STARTS), np.cumsum(self._lengths, dtype=np.int64))

    def _header(self) -> None:
        shape = (sum(self._lengths), *self._like.shape[1:])
        descr = npy.dtype_to_descr(self._like.dtype)
        npy.write_array_header_1_0(self._file, {"shape": shape, "fortran_order": False, "descr": descr})


def write_column(folder: Path, split: str, keyword: str, column: Ragged) -> None:
    """A further input of the split, whole in memory already."""
    _save(_path(folder / f"{split}.inputs", keyword, ""), column)


def write_targets(folder: Path, split: str, targets: Tensor | Ragged) -> None:
    """The split's targets."""
    _save(folder / f"{split}.targets", targets)


def set_apart(folder: Path, split: str, keyword: str) -> None:
    """What was written as an input is none, but the split's targets or what `read_column` finds by its name."""
    before = _path(folder / f"{split}.inputs", keyword, "").name
    for path in folder.glob(f"{before}.*"):
        path.rename(path.with_name(f"{split}.{keyword}{path.name.removeprefix(before)}"))


def read_column(folder: Path, split: str, keyword: str) -> Ragged:
    """What was set apart and is no target, memory-mapped read-only."""
    column = _load(folder / f"{split}.{keyword}", "r")
    assert isinstance(column, Ragged)
    return column


def read_split(folder: Path, split: str) -> FeatureSplit:
    """The split, its inputs memory-mapped read-only."""
    prefix = f"{split}.inputs."
    names = {path.name[len(prefix) :].split(".", 1)[0] for path in folder.glob(f"{prefix}*.npy")}
    # What a decoder reads stands behind what the model reads first.
    ordered = sorted(names, key=lambda name: (name.startswith("decoder_"), name))
    inputs = {name: _load(folder / f"{prefix}{name}", "r") for name in ordered}
    targets = _load(folder / f"{split}.targets", None)
    return FeatureSplit(inputs, targets if isinstance(targets, Ragged) else torch.from_numpy(targets))


def _path(prefix: Path, name: str, suffix: str) -> Path:
    return prefix.with_name(f"{prefix.name}.{name}{suffix}")


def _save(path: Path, column: Tensor | Ragged) -> None:
    if isinstance(column, Tensor):
        np.save(path.with_name(path.name + _WHOLE), column.numpy())
        return
    np.save(path.with_name(path.name + _VALUES), column.values)
    np.save(path.with_name(path.name + _STARTS), column.starts)


def _load(path: Path, mode: Any) -> Column:
    if path.with_name(path.name + _WHOLE).is_file():
        array: Column = np.load(path.with_name(path.name + _WHOLE), mmap_mode=mode)
        return array
    values = np.load(path.with_name(path.name + _VALUES), mmap_mode=mode)
    return Ragged(values, np.load(path.with_name(path.name + _STARTS)))
