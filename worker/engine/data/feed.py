"""Batches of a split on the device, so that a GPU never waits for them; on the CPU they are simply read.

On CUDA a split that is used many times is held on the device whole, where it fits. Another is read ahead by a thread into
pinned memory, whence a copy needs nobody to wait. Either way the tensors are those of `FeatureSplit.batch`, bit for bit.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from worker.engine.data.split import FeatureSplit

RESIDENT_SHARE = 0.3
"""A split is held on the device where its features take up no more than this share of the device's free memory."""
AHEAD = 3
"""Batches that are read before they are asked for."""
_CHUNK_BYTES = 64 * 2**20

Batch = tuple[Tensor, Tensor]


def fits(split: FeatureSplit, device: torch.device, share: float = RESIDENT_SHARE) -> bool:
    """Whether all features of `split` may be held on `device`. On the CPU never: they are at hand already."""
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return split.features.nbytes <= share * free


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A copy on `device` for which the host does not wait; on the CPU the tensor itself."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


class Feed:
    """Gives out batches of one split on one device. `resident` holds the whole split there from the start."""

    def __init__(self, split: FeatureSplit, device: torch.device, *, resident: bool = False) -> None:
        self._split, self._device = split, device
        self._held = self._load() if resident else None

    def batches(self, order: Iterable[Tensor]) -> Iterator[Batch]:
        """(input_values float32 [B, frames, mels], targets) on the device, for every tensor of row numbers in turn."""
        if self._held is not None:
            features, targets = self._held
            for rows in order:
                moved = to_device(rows, self._device)
                yield features.index_select(0, moved), targets.index_select(0, moved)
        elif self._device.type == "cuda":
            yield from self._read_ahead(order)
        else:
            for rows in order:
                features, targets = self._split.batch(rows)
                yield features.to(self._device), targets.to(self._device)

    def _load(self) -> Batch:
        """The whole split on the device, through a bounded part of host memory."""
        split = self._split
        features = torch.empty(split.features.shape, dtype=torch.float32, device=self._device)
        rows = max(1, _CHUNK_BYTES * len(split) // max(split.features.nbytes, 1))
        for start in range(0, len(split), rows):
            part, _ = split.batch(range(start, min(start + rows, len(split))))
            features[start : start + len(part)] = to_device(part, self._device)
        return features, split.targets.to(self._device)

    def _read_ahead(self, order: Iterable[Tensor]) -> Iterator[Batch]:
        """One thread reads and pins; the order of batches is the order asked for."""

        def read(rows: Tensor) -> Batch:
            features, targets = self._split.batch(rows)
            return features.pin_memory(), targets.pin_memory()

        def moved(reading: Future[Batch]) -> Batch:
            features, targets = reading.result()
            return features.to(self._device, non_blocking=True), targets.to(self._device, non_blocking=True)

        waiting: deque[Future[Batch]] = deque()
        with ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as pool:
            try:
                for rows in order:
                    waiting.append(pool.submit(read, rows))
                    if len(waiting) > AHEAD:
                        yield moved(waiting.popleft())
                while waiting:
                    yield moved(waiting.popleft())
            finally:
                # Whoever stops asking must not wait for what nobody wants.
                for reading in waiting:
                    reading.cancel()
