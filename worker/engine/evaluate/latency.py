"""How long a forward pass takes: the dense model and the cut one in turn, so that their ratio means something."""

import gc
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from api_schemas.metrics import Latency
from worker.engine.data.split import FeatureSplit

# Passes before the clock starts: kernels are chosen, caches filled, clocks raised.
WARM_UP = 3


@contextmanager
def _undisturbed(*models: nn.Module) -> Iterator[None]:
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


def _milliseconds(model: nn.Module, inputs: Tensor) -> float:
    """Wall time of one forward pass, from idle device to idle device. Moving the input there is not in it."""
    cuda = inputs.device.type == "cuda"
    if cuda:
        torch.cuda.synchronize(inputs.device)
    start = time.perf_counter()
    model(inputs)
    if cuda:
        torch.cuda.synchronize(inputs.device)
    return (time.perf_counter() - start) * 1000.0


def _inputs(split: FeatureSplit, batch_size: int, model: nn.Module, device: torch.device) -> Tensor:
    """The split's first rows, from the start again where it has fewer than the batch."""
    inputs, _ = split.batch([row % len(split) for row in range(batch_size)])
    dtype = next(parameter.dtype for parameter in model.parameters() if parameter.is_floating_point())
    return inputs.to(device, dtype)


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

    In every run both models are timed, and which goes first changes from run to run: what else the machine does, and
    its clock, hits both alike. `dense` and `cut` may be the same model.
    """
    dense.to(device)
    cut.to(device)
    measured: list[Latency] = []
    with _undisturbed(dense, cut):
        for batch_size in batch_sizes:
            dense_inputs, cut_inputs = (_inputs(split, batch_size, model, device) for model in (dense, cut))
            pairs = [(dense, dense_inputs), (cut, cut_inputs)]
            times = np.empty((runs, 2))
            for _ in range(WARM_UP):
                for model, inputs in pairs:
                    _milliseconds(model, inputs)
            for run in range(runs):
                for side in (0, 1) if run % 2 == 0 else (1, 0):
                    times[run, side] = _milliseconds(*pairs[side])
            (dense_p50, p50), (dense_p95, p95) = np.percentile(times, (50, 95), axis=0)
            measured.append(
                Latency(
                    batch_size=batch_size,
                    runs=runs,
                    p50_ms=float(p50),
                    p95_ms=float(p95),
                    throughput=float(batch_size / p50 * 1000.0),
                    dense_p50_ms=float(dense_p50),
                    dense_p95_ms=float(dense_p95),
                    speedup=float(dense_p50 / p50),
                )
            )
    return tuple(measured)
