"""Batches of a split on the device, so that a GPU never waits for them; on the CPU they are simply read.

On CUDA, a split that is used many times is kept on the device if its rows have equal length and it fits. Otherwise a thread
prefetches it into pinned memory, from which copies are asynchronous. Either way the tensors are those of `FeatureSplit.batch`,
bit for bit.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from worker.engine.data.split import FeatureSplit, Inputs, map_tensors

RESIDENT_SHARE = 0.3
"""A split is held on the device where its inputs take up no more than this share of the device's free memory."""
AHEAD = 3
"""Batches that are read before they are asked for."""
_CHUNK_BYTES = 64 * 2**20

Batch = tuple[Inputs, Tensor]


def fits(split: FeatureSplit, device: torch.device, share: float = RESIDENT_SHARE) -> bool:
    """Whether all inputs of `split` may be held on `device`. On the CPU never: they are at hand already."""
    if device.type != "cuda" or not split.uniform:
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return split.nbytes <= share * free


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A copy on `device` for which the host does not wait; on the CPU the tensor itself."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


class BatchLoader:
    """Gives out batches of one split on one device. `resident` holds the whole split there from the start."""

    def __init__(self, split: FeatureSplit, device: torch.device, *, resident: bool = False) -> None:
        self._split, self._device = split, device
        self._held = self._load() if resident else None

    def batches(self, order: Iterable[Tensor]) -> Iterator[Batch]:
        """(inputs, targets) on the device, for every tensor of row numbers in turn; see FeatureSplit.batches."""
        if self._held is not None:
            held, targets = self._held
            for rows in order:
                moved = to_device(rows, self._device)
                yield (
                    {name: column.index_select(0, moved) for name, column in held.items()},
                    targets.index_select(0, moved),
                )
        elif self._device.type == "cuda":
            yield from self._read_ahead(order)
        else:
            for rows in order:
                inputs, targets = self._split.batch(rows)
                yield map_tensors(inputs, lambda tensor: tensor.to(self._device)), targets.to(self._device)

    def _load(self) -> Batch:
        """The whole split on the device, through a bounded part of host memory."""
        split = self._split
        held: Inputs = {}
        answers: list[Tensor] = []
        size = max(1, _CHUNK_BYTES * len(split) // max(split.nbytes, 1))
        for start in range(0, len(split), size):
            part, targets = split.batch(range(start, min(start + size, len(split))))
            answers.append(targets)
            for name, column in part.items():
                if name not in held:
                    held[name] = column.new_empty((len(split), *column.shape[1:]), device=self._device)
                held[name][start : start + len(column)] = to_device(column, self._device)
        return held, torch.cat(answers).to(self._device)

    def _read_ahead(self, order: Iterable[Tensor]) -> Iterator[Batch]:
        """One thread reads and pins; the order of batches is the order asked for."""

        def read(rows: Tensor) -> Batch:
            inputs, targets = self._split.batch(rows)
            return map_tensors(inputs, Tensor.pin_memory), targets.pin_memory()

        def moved(reading: Future[Batch]) -> Batch:
            inputs, targets = reading.result()
            return map_tensors(inputs, there), there(targets)

        def there(tensor: Tensor) -> Tensor:
            return tensor.to(self._device, non_blocking=True)

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
                # A consumer that stops early must not wait for batches that it does not need.
                for reading in waiting:
                    reading.cancel()
