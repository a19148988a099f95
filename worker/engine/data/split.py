"""One split of the data as the rest of the engine sees it: inputs that stay on disk, targets in memory.

Rows may differ in length. Rows of different lengths never share a batch, so sums over tokens (scores, moments, regressions)
contain only real tokens and need no mask. Training and evaluation request a `padded` split, whose shorter rows are padded and
masked.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from checkpoints.families.base import Padding

Inputs = dict[str, Tensor]
"""What a model is called with, by keyword; every tensor has the samples of the batch first."""

LARGEST_RUN, LEAST_RUNS = 50, 4
"""Rows are sorted by length in runs of so many batches, and in so many runs at least (transformers' `LengthGroupedSampler`)."""
PASS_COSTS = {"cpu": 0.25, "cuda": 4.0}
"""By kind of device, what one more pass takes, in rows of the usual length: kernels are started, and small matrices are slow. As
measured on a CPU with BERT, 4 layers 256 wide; a guess for GPUs, which need more work at once."""
IGNORED = -100
"""Stands in targets where there is nothing to answer, as in transformers."""


def rows(inputs: Inputs) -> int:
    """How many samples a batch has."""
    return len(next(iter(inputs.values())))


def map_tensors(inputs: Inputs, change: Callable[[Tensor], Tensor]) -> Inputs:
    """The same batch with every tensor changed, by part, by place, …"""
    return {name: change(tensor) for name, tensor in inputs.items()}


def placed(inputs: Inputs, device: torch.device, dtype: torch.dtype) -> Inputs:
    """The batch on `device`; what is not whole numbers (ids, say) in `dtype`."""
    return map_tensors(inputs, lambda tensor: tensor.to(device, dtype if tensor.is_floating_point() else tensor.dtype))


@dataclass(frozen=True)
class Ragged:
    """Rows of different lengths, one after another.

    values: [total, …], perhaps a read-only memory map. starts: int64 [N + 1]; row n is values[starts[n]:starts[n + 1]].
    """

    values: NDArray[Any]
    starts: NDArray[np.int64]

    def __post_init__(self) -> None:
        if len(self.starts) < 1 or self.starts[-1] != len(self.values):
            raise ValueError(f"the rows end at {self.starts[-1:]}, but there are {len(self.values)} values")

    def __len__(self) -> int:
        return len(self.starts) - 1

    @classmethod
    def of(cls, items: Sequence[NDArray[Any]]) -> "Ragged":
        """From at least one row."""
        lengths = [len(item) for item in items]
        return cls(np.concatenate(items), np.cumsum([0, *lengths], dtype=np.int64))

    @property
    def lengths(self) -> NDArray[np.int64]:
        """[N]."""
        return np.diff(self.starts)

    def row(self, number: int) -> NDArray[Any]:
        """[length, …], not a copy."""
        return self.values[self.starts[number] : self.starts[number + 1]]

    def take(self, numbers: NDArray[np.int64]) -> "Ragged":
        """These rows, copied into memory."""
        if not len(numbers):
            return Ragged(self.values[:0].copy(), np.zeros(1, np.int64))
        return Ragged.of([self.row(number) for number in numbers])

    def padded(self, numbers: NDArray[np.int64], fill: float) -> NDArray[Any]:
        """A copy of these rows [B, longest of them, …], `fill` behind the shorter ones."""
        chosen = [self.row(number) for number in numbers]
        longest = max((len(row) for row in chosen), default=0)
        out = np.full((len(chosen), longest, *self.values.shape[1:]), fill, self.values.dtype)
        for place, row in enumerate(chosen):
            out[place, : len(row)] = row
        return out


Column = NDArray[Any] | Ragged


@dataclass(frozen=True)
class FeatureSplit:
    """Samples in a fixed order.

    inputs: by the model's keywords, a column each of N rows, usually read-only memory maps, so that a split may be larger than
        memory. Floating point goes to the model as float32, whole numbers as int64.
    targets: int64 [N] for one label a sample; float32 [N, C] of zeros and ones for several; Ragged int64 for a label a token,
        for label ids (CTC, sequence to sequence) and, four a row, for answers to questions; float32 [N, 0] where there is
        nothing to answer.
    """

    inputs: Mapping[str, Column]
    targets: Tensor | Ragged
    padding: Padding | None = None
    """How rows of several lengths may be one batch; None: they may not."""

    def __post_init__(self) -> None:
        for name, column in self.inputs.items():
            if len(column) != len(self.targets):
                raise ValueError(f"{len(column)} rows of {name}, but {len(self.targets)} targets")

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def nbytes(self) -> int:
        """Of all inputs, as they are stored."""
        return sum((c.values if isinstance(c, Ragged) else c).nbytes for c in self.inputs.values())

    @property
    def uniform(self) -> bool:
        """Whether no column of inputs or targets can have rows of different lengths."""
        return not any(isinstance(column, Ragged) for column in (*self.inputs.values(), self.targets))

    @cached_property
    def length_buckets(self) -> NDArray[np.int64]:
        """[N], from 0: rows of one bucket have equal lengths in every column of the inputs that is not padded. Longer rows have
        higher buckets.
        """
        ragged = [column.lengths for name, column in self._ragged() if name not in self._fills]
        if not ragged or not len(self):
            return np.zeros(len(self), np.int64)
        _, buckets = np.unique(np.stack(ragged, axis=1), axis=0, return_inverse=True)
        return buckets.astype(np.int64).reshape(-1)

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """[N], of the columns that are padded, which are equally long in a row; zeros where there are none."""
        padded = [column.lengths for name, column in self._ragged() if name in self._fills]
        return padded[0] if padded else np.zeros(len(self), np.int64)

    @property
    def alike(self) -> bool:
        """Whether all rows are of one length, so that any may share a batch and none is filled up."""
        return not any((each != each[0]).any() for each in (self.length_buckets, self.lengths) if len(each))

    def padded(self, padding: Padding | None) -> "FeatureSplit":
        """The same samples, where rows that differ in the lengths of the inputs it names alone may meet in a batch."""
        return replace(self, padding=padding) if padding != self.padding else self

    @property
    def _fills(self) -> Mapping[str, float]:
        return {} if self.padding is None else self.padding.fills

    def _ragged(self) -> Iterator[tuple[str, Ragged]]:
        return ((name, column) for name, column in self.inputs.items() if isinstance(column, Ragged))

    def batch(self, indices: Sequence[int] | Tensor) -> tuple[Inputs, Tensor]:
        """(inputs, targets) on the CPU, in the order of `indices`; ragged targets [B, longest] are filled up with -100.

        Where a row is filled up, inputs have `padding.mask` as well. The tensors are copies: changing them in place does not
        reach the split. ValueError where the rows are of several buckets.
        """
        numbers = torch.as_tensor(indices, dtype=torch.int64)
        chosen = numbers.numpy()
        if len(chosen) and (self.length_buckets[chosen] != self.length_buckets[chosen[0]]).any():
            raise ValueError("rows of different lengths cannot be one batch")
        inputs = {name: _tensor(column, chosen, self._fills.get(name, 0)) for name, column in self.inputs.items()}
        if self.padding is not None and len(chosen) and (own := self.lengths[chosen]).min() < own.max():
            inputs[self.padding.mask] = torch.from_numpy((np.arange(own.max()) < own[:, None]).astype(np.int64))
        if isinstance(self.targets, Ragged):
            return inputs, torch.from_numpy(self.targets.padded(chosen, IGNORED))
        return inputs, self.targets[numbers]

    def all_targets(self) -> Tensor:
        """[N, …]; ragged ones [N, longest], filled up with -100."""
        if isinstance(self.targets, Ragged):
            return torch.from_numpy(self.targets.padded(np.arange(len(self)), IGNORED))
        return self.targets

    def batches(self, size: int, order: Tensor | None = None) -> list[Tensor]:
        """Numbers of all rows, or of those in `order`, in batches of at most `size`, none with rows of several buckets.

        The rows of each bucket keep their sequence (by default the split's own) and are divided from its start; the batches stand
        as their first rows do. Where all rows are of one bucket that is torch.split(order, size), and where `order` is random, so
        is the sequence of batches.
        """
        order = torch.arange(len(self)) if order is None else order
        buckets = self.length_buckets[order.numpy()]
        if not len(buckets) or (buckets == buckets[0]).all():
            return list(torch.split(order, size)) if len(order) else []
        by_bucket = [np.flatnonzero(buckets == bucket) for bucket in np.unique(buckets)]
        places = [part for places in by_bucket for part in np.split(places, range(size, len(places), size))]
        return [order[torch.from_numpy(part)] for part in sorted(places, key=lambda part: int(part[0]))]

    def passes(self, size: int, device: str = "cpu") -> list[Tensor]:
        """Numbers of all rows in few passes of at most `size`, of similar lengths, for who adds up over samples on a kind of
        device (PASS_COSTS).
        """
        if self.padding is None or self.alike:
            return self.batches(size)
        return self._passes(self._longest_first(torch.arange(len(self))), size, device)

    def steps(self, size: int, order: Tensor, most: int | None = None, device: str = "cpu") -> list[list[Tensor]]:
        """Numbers of the rows in `order` in batches to train on, of similar lengths, each divided into the passes that it takes,
        which hold no more than `most` samples of the usual length, without it `size`.

        Where all rows are of one length that is torch.split(order, size). Otherwise they are divided into as many batches as
        that, none with more rows than another but by one: each weighs what it holds, which is about the same. As in transformers'
        `group_by_length`, runs of `order` are sorted by length (LARGEST_RUN, LEAST_RUNS); without padding all rows are one run,
        since every length of a run makes a pass. Batches stand as the first of their rows in `order`.
        """
        if not len(order):
            return []
        if self.alike:
            return [[part] for part in torch.split(order, size)]
        count = -(-len(order) // size)
        run = count if self.padding is None else max(1, min(LARGEST_RUN, count // LEAST_RUNS))
        bounds = [number * len(order) // count for number in range(count + 1)]
        place = torch.empty(int(order.max()) + 1, dtype=torch.int64)
        place[order] = torch.arange(len(order))
        batches: list[Tensor] = []
        for start in range(0, count, run):
            own = bounds[start : start + run + 1]
            ranked = self._longest_first(order[own[0] : own[-1]])
            batches += torch.tensor_split(ranked, [bound - own[0] for bound in own[1:-1]])
        batches.sort(key=lambda batch: int(place[batch].min()))
        return [self._passes(batch, most or size, device) for batch in batches]

    def _longest_first(self, numbers: Tensor) -> Tensor:
        """The same rows by bucket and length, those that are alike in their sequence."""
        chosen = numbers.numpy()
        by_length = np.lexsort((-self.lengths[chosen], -self.length_buckets[chosen]))
        return numbers[torch.from_numpy(by_length)]

    def _passes(self, ranked: Tensor, size: int, device: str) -> list[Tensor]:
        """Rows that are sorted, longest first, divided into passes of at most `size` rows of one bucket.

        With padding, of no more than `size` rows of the usual length either, and so that what all passes hold is least, a pass
        being worth as many rows of that length as PASS_COSTS says.
        """
        rows = ranked.numpy()
        starts = np.flatnonzero(np.diff(self.length_buckets[rows], prepend=-1))
        parts = [part for run in np.split(rows, starts[1:]) for part in np.split(run, range(size, len(run), size))]
        if self.padding is not None:
            usual = self.padding.usual
            cost = usual * PASS_COSTS.get(device, PASS_COSTS["cpu"])
            cuts = [_cuts(self.lengths[part].tolist(), cost, size * usual) for part in parts]
            parts = [own for part, places in zip(parts, cuts, strict=True) for own in np.split(part, places)]
        return [torch.from_numpy(part) for part in parts]

    def middle(self) -> Tensor:
        """Numbers, in their order, of all rows of the bucket that the sample of median length has."""
        return torch.from_numpy(np.flatnonzero(self.length_buckets == np.sort(self.length_buckets)[len(self) // 2]))

    def random_subset(self, samples: int, seed: int) -> "FeatureSplit":
        """`samples` rows drawn by `seed`, in their order; the split itself where it has no more."""
        return self if samples >= len(self) else self.subset(self.random_rows(samples, seed))

    def random_rows(self, samples: int, seed: int) -> Tensor:
        """Rising numbers of `samples` rows drawn by `seed`: more of them by the same seed are these and others."""
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        return order[:samples].sort().values

    def subset(self, indices: Sequence[int] | Tensor) -> "FeatureSplit":
        """A split of its own with these rows, copied into memory."""
        numbers = torch.as_tensor(indices, dtype=torch.int64)
        chosen = numbers.numpy()
        inputs = {name: c.take(chosen) if isinstance(c, Ragged) else c[chosen] for name, c in self.inputs.items()}
        targets = self.targets.take(chosen) if isinstance(self.targets, Ragged) else self.targets[numbers]
        return replace(self, inputs=inputs, targets=targets)


def _cuts(lengths: Sequence[int], overhead: float, room: int) -> list[int]:
    """Where rows of falling lengths are divided so that what passes hold, rows times the longest, is least, each with `overhead`;
    none but of one row holds more than `room`.
    """
    # best[n]: what the first n rows take, and where the last of their passes starts.
    best: list[tuple[float, int]] = [(0.0, 0)]
    for end in range(1, len(lengths) + 1):
        held = ((lengths[start] * (end - start), start) for start in range(end))
        allowed = ((each, start) for each, start in held if each <= room or end - start == 1)
        best.append(min((best[start][0] + overhead + each, start) for each, start in allowed))
    cuts: list[int] = []
    end = len(lengths)
    while end := best[end][1]:
        cuts.insert(0, end)
    return cuts


def _tensor(column: Column, numbers: NDArray[np.int64], fill: float) -> Tensor:
    # Fancy indexing of a memory map reads just these rows, and copies.
    found = column.padded(numbers, fill) if isinstance(column, Ragged) else column[numbers]
    dtype = np.float32 if np.issubdtype(found.dtype, np.floating) else np.int64
    return torch.from_numpy(np.ascontiguousarray(found, dtype=dtype))
