"""How long a forward pass takes: the dense model and the cut one in turn, so that their ratio means something."""

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from api_schemas.results.metrics import Latency
from worker.engine.data.split import FeatureSplit, Inputs, placed

# Passes before the clock starts: kernels are chosen, caches filled, clocks raised.
WARM_UP = 3


@contextmanager
def timing_mode(*models: nn.Module) -> Iterator[None]:
    """Eval mode, no autograd, no garbage collection; afterwards everything as it was."""
    training = [model.training for model in models]
    collecting = gc.isenabled()
    for model in models:
        model.train(False)
    gc.collect()
    gc.disable()
    try:
        with torch.inference_mode():
            yield
    finally:
        if collecting:
            gc.enable()
        for model, flag in zip(models, training, strict=True):
            model.train(flag)


def forward(model: nn.Module, inputs: Inputs) -> Callable[[], object]:
    """A call that is one forward pass and returns when the device is idle again. Moving the input there is not in it."""
    device = next(iter(inputs.values())).device
    if device.type != "cuda":
        return lambda: model(**inputs)

    def on_cuda() -> None:
        model(**inputs)
        torch.cuda.synchronize(device)

    return on_cuda


def time_in_turn(passes: Sequence[Callable[[], object]], runs: int) -> NDArray[np.float64]:
    """Wall time in milliseconds of every call, [runs, passes], after warm-up.

    All are called in every run, and which goes first changes from run to run: what else the machine does, and its clock,
    hits all alike. A call returns when its work is done.
    """
    times = np.empty((runs, len(passes)))
    for run in range(-WARM_UP, runs):
        for turn in range(len(passes)):
            which = (turn + run) % len(passes)
            start = time.perf_counter()
            passes[which]()
            if run >= 0:
                times[run, which] = (time.perf_counter() - start) * 1000.0
    return times


def summarise(batch_size: int, dense: NDArray[np.float64], cut: NDArray[np.float64]) -> Latency:
    """Median, 95th percentile and ratio of two models' times in milliseconds, [runs] each."""
    (dense_p50, dense_p95), (p50, p95) = np.percentile(dense, (50, 95)), np.percentile(cut, (50, 95))
    return Latency(
        batch_size=batch_size,
        runs=len(cut),
        p50_ms=float(p50),
        p95_ms=float(p95),
        throughput=float(batch_size / p50 * 1000.0),
        dense_p50_ms=float(dense_p50),
        dense_p95_ms=float(dense_p95),
        speedup=float(dense_p50 / p50),
    )


def inputs_of(split: FeatureSplit, batch_size: int, model: nn.Module, device: torch.device) -> Inputs:
    """The first rows of the split, of those as long as its middle one; from the start again where there are too few."""
    numbers = split.middle()
    inputs, _ = split.batch(numbers[torch.arange(batch_size) % len(numbers)])
    dtype = next(parameter.dtype for parameter in model.parameters() if parameter.is_floating_point())
    return placed(inputs, device, dtype)


def measure_latency(
    dense: nn.Module,
    cut: nn.Module,
    split: FeatureSplit,
    *,
    batch_sizes: Sequence[int],
    runs: int,
    device: torch.device,
) -> tuple[Latency, ...]:
    """Median and 95th percentile of `runs` forward passes a batch size, real features as input.

    `dense` and `cut` are timed in turn; they may be the same model.
    """
    dense.to(device)
    cut.to(device)
    measured: list[Latency] = []
    with timing_mode(dense, cut):
        for batch_size in batch_sizes:
            dense_inputs, cut_inputs = (inputs_of(split, batch_size, model, device) for model in (dense, cut))
            times = time_in_turn((forward(dense, dense_inputs), forward(cut, cut_inputs)), runs)
            measured.append(summarise(batch_size, times[:, 0], times[:, 1]))
    return tuple(measured)
