"""How long a forward pass takes: the dense model and the cut one in turn, so that their ratio means something."""

import copy
import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import ceil

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from api_schemas.results.metrics import Latency
from worker.engine.data.split import FeatureSplit, Inputs, placed
from worker.engine.latency.paired import compare, is_narrow

# Passes before the clock starts: kernels are chosen, caches filled, clocks raised.
WARM_UP = 3
MORE_ROUNDS = 10
"""How many times the rounds asked for a busy machine is given."""
LOOK_AGAIN = 1.5
"""By how much the rounds grow between two looks at whether they are enough."""


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


def time_in_turn(
    passes: Sequence[Callable[[], object]],
    least: int,
    *,
    most: int | None = None,
    seconds: float = 0.0,
    enough: Callable[[NDArray[np.float64]], bool] = lambda _: False,
    clock: Callable[[], float] = time.perf_counter,
) -> NDArray[np.float64]:
    """Wall time in milliseconds of every call, [rounds, passes], after warm-up. A call returns when its work is done.

    `least` rounds are made, and more up to `most` until `enough` is content with the times or `seconds` have passed.

    In every round all are called, in an order of its own: in as many rounds as there are passes each is once in every place, and
    which follows which is drawn anew then. So drift, the caches that the pass before has left, and load that comes and goes hit
    all alike.
    """
    draw, order = np.random.default_rng(0), np.arange(len(passes))
    for _ in range(WARM_UP):
        for run in passes:
            run()
    rounds: list[NDArray[np.float64]] = []
    until, look = clock() + seconds, least
    while len(rounds) < (most or least):
        # Looked at ever more seldom: an interval that is looked at often is once narrow by chance.
        if len(rounds) >= look:
            if enough(np.array(rounds)):
                break
            look = ceil(LOOK_AGAIN * len(rounds))
        if len(rounds) >= least and clock() >= until:
            break
        turn = len(rounds) % len(passes)
        if turn == 0:
            order = draw.permutation(len(passes))
        row = np.empty(len(passes))
        for which in np.roll(order, turn).tolist():
            start = clock()
            passes[which]()
            row[which] = (clock() - start) * 1000.0
        rounds.append(row)
    return np.array(rounds)


def summarise(
    batch_size: int, dense: NDArray[np.float64], cut: NDArray[np.float64], dense_copy: NDArray[np.float64]
) -> Latency:
    """Medians, 95th percentiles and ratios of times in milliseconds, [rounds] each, from the same rounds."""
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
        paired=compare(dense, cut, dense_copy),
    )


def sure(times: NDArray[np.float64]) -> bool:
    """Whether more rounds would say little more of how the first pass compares with each of the others."""
    return all(is_narrow(times[:, 0] / times[:, other]) for other in range(1, times.shape[1]))


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
    seconds: float = 0.0,
    device: torch.device,
) -> tuple[Latency, ...]:
    """Forward passes of `dense`, `cut` and a copy of `dense` in turn, for each batch size, real features as input.

    At least `runs` rounds; more within `seconds` a batch size, up to MORE_ROUNDS times as many, while the machine's noise leaves
    it open how they compare. `dense` and `cut` may be the same model, which then is its own copy.
    """
    dense.to(device)
    cut.to(device)
    # A copy and not the same module again: what one pass leaves in the caches must help no other.
    models = (dense, cut, dense if cut is dense else copy.deepcopy(dense))
    measured: list[Latency] = []
    with timing_mode(*models):
        for batch_size in batch_sizes:
            passes = [forward(model, inputs_of(split, batch_size, model, device)) for model in models]
            times = time_in_turn(passes, runs, most=MORE_ROUNDS * runs, seconds=seconds, enough=sure)
            measured.append(summarise(batch_size, *times.T))
    return tuple(measured)
