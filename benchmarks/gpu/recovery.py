"""Whether recovery waits for its data: epochs as the engine feeds them, beside epochs whose one batch is on the device already.

What an epoch takes longer is what feeding costs, wherever the time went: reading, pinning, copying, or a device without work. On
a GPU torch's profiler also says which share of an epoch some kernel or copy ran.
"""

import copy
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import numpy as np
import torch
from torch import Tensor
from torch._C._autograd import DeviceType

from api_schemas.results.metrics import EpochLoss
from api_schemas.spec.recovery import Distill, Finetune
from benchmarks.gpu.sizes import Size
from benchmarks.latency import Contestant, contestants
from checkpoints.families.audio.ast import AST
from worker.engine.data.loader import Batch, BatchLoader
from worker.engine.data.split import FeatureSplit
from worker.engine.models.attention import attention_blocks, projections_by_name
from worker.engine.models.model_spec import ModelSpec, move_model
from worker.engine.recovery import Teacher, finetune
from worker.engine.tasks import Classification

KIND = ModelSpec(AST, "ASTForAudioClassification")
EPOCHS = 3
"""The first chooses kernels; of the others the faster counts."""


class Watched(BatchLoader):
    """The engine's, with the seconds for which the host waited for a batch."""

    waited: ClassVar[float] = 0.0

    def batches(self, order: Iterable[Tensor]) -> Iterator[Batch]:
        feed = super().batches(order)
        while True:
            begun = time.perf_counter()
            batch = next(feed, None)
            Watched.waited += time.perf_counter() - begun
            if batch is None:
                return
            yield batch


class OneBatch(BatchLoader):
    """The first batch that was asked for, again and again: there is nothing to wait for."""

    _first: Batch | None = None

    def batches(self, order: Iterable[Tensor]) -> Iterator[Batch]:
        for rows in order:
            if self._first is None:
                (self._first,) = super().batches([rows])
            yield self._first


FEEDS: dict[str, tuple[type[BatchLoader], bool]] = {
    "one batch": (OneBatch, False),
    "held on the device": (Watched, True),
    "read ahead": (Watched, False),
}
"""The engine's class or what stands for it, and whether the whole split is to lie on the device."""


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """How much of the line the spans (start, end) cover together."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def busy_share(profile: torch.profiler.profile) -> float | None:
    """Share of the time between a device's first and last work in which it had some; None where it had none."""
    ranges = [event.time_range for event in profile.events() if event.device_type == DeviceType.CUDA]
    spans = [(float(each.start), float(each.end)) for each in ranges]
    if not spans:
        return None
    return covered(spans) / (max(end for _, end in spans) - min(start for start, _ in spans))


def split_on_disk(folder: Path, samples: int, frames: int, mels: int, classes: int) -> FeatureSplit:
    """Random features in a memory map, as the engine keeps them."""
    file = folder / "features.npy"
    generator = np.random.default_rng(0)
    features = np.lib.format.open_memmap(file, mode="w+", dtype=np.float32, shape=(samples, frames, mels))
    for row in range(samples):
        features[row] = generator.standard_normal((frames, mels), dtype=np.float32)
    features.flush()
    return FeatureSplit({"input_values": np.load(file, mmap_mode="r")}, torch.arange(samples) % classes)


def train(
    dense: Contestant, split: FeatureSplit, size: Size, device: torch.device, feed: str, profile: bool = False
) -> dict[str, Any]:
    """A recovery of EPOCHS epochs with one of FEEDS."""
    loader, resident = FEEDS[feed]
    model, original = copy.deepcopy(dense.model), move_model(copy.deepcopy(dense.model), device)
    blocks = attention_blocks(model, KIND, dense.widths)
    ends, waits = [time.perf_counter()], [0.0]
    # Only on request: a profiler slows what it watches.
    watch = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) if profile else None
    Watched.waited = 0.0

    def on_epoch(epoch: EpochLoss) -> None:
        ends.append(time.perf_counter())
        waits.append(Watched.waited)
        if watch is not None and epoch.epoch == EPOCHS - 1:
            watch.start()
        if watch is not None and epoch.epoch == EPOCHS:
            watch.stop()

    with (
        mock.patch("worker.engine.recovery.finetune.BatchLoader", loader),
        mock.patch("worker.engine.recovery.finetune.fits", return_value=resident),
    ):
        finetune(
            model,
            split,
            Finetune(epochs=EPOCHS, batch_size=size.recovery_batch, distill=Distill(weight=0.5)),
            projections=projections_by_name(blocks),
            classifiers=KIND.classifiers,
            task=Classification(several=False),
            pad_value=0.0,
            seed=0,
            device=device,
            on_batch=lambda _done, _total: None,
            on_epoch=on_epoch,
            teacher=Teacher(original),
        )
    if watch is not None:
        return {"busy": busy_share(watch)}
    epoch = min(range(1, EPOCHS), key=lambda number: ends[number + 1] - ends[number])
    return {"seconds": ends[epoch + 1] - ends[epoch], "waited": waits[epoch + 1] - waits[epoch]}


def measure(size: Size, device: torch.device) -> dict[str, Any]:
    """By feed: seconds an epoch, samples a second, seconds the host waited for batches, and the share that feeding costs."""
    dense = contestants(size.shape, size.recovery_tokens, {}, torch.device("cpu"), torch.float32)[1]
    config, samples = dense.model.config, size.recovery_batch * size.recovery_batches
    with tempfile.TemporaryDirectory() as folder:
        split = split_on_disk(
            Path(folder), samples, config.max_length, config.num_mel_bins, int(config.num_labels or 0)
        )
        times = {feed: train(dense, split, size, device, feed) for feed in FEEDS}
        busy = train(dense, split, size, device, "read ahead", profile=True)["busy"] if device.type == "cuda" else None
    bare = times.pop("one batch")["seconds"]
    feeds = {
        feed: {
            "epoch_seconds": round(of["seconds"], 4),
            "samples_a_second": round(samples / of["seconds"], 1),
            "host_waited_seconds": round(of["waited"], 4),
            "starved": round(1.0 - bare / of["seconds"], 4),
        }
        for feed, of in times.items()
    }
    return {
        "tokens": size.recovery_tokens,
        "batch": size.recovery_batch,
        "batches": size.recovery_batches,
        "bare_epoch_seconds": round(bare, 4),
        "feeds": feeds,
        "device_busy": busy if busy is None else round(busy, 4),
    }
