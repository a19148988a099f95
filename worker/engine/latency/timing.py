"""Times forward passes: the dense model and the cut one in turn, so that their ratio is meaningful."""

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from math import ceil

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from api_schemas.results.metrics import Latency
from checkpoints.sizes.cost_model import LEAST_ROUNDS
from worker.engine.data.split import FeatureSplit, Inputs, placed
from worker.engine.latency.paired import compare, is_narrow
from worker.engine.runtime.mapped import model_copy
from worker.engine.runtime.offload import place

# Passes before the clock starts: kernels are chosen, caches filled, clocks raised.
WARM_UP = 3
WARM_SECONDS = 2.0
"""One round is enough where it takes longer."""
LONG = 30.0
"""Seconds after which the rounds asked for are not all made: of passes over half a minute of speech a few say enough.
LEAST_ROUNDS are made in any case: with fewer there is no interval of a median at 95% (paired.py)."""
PATIENCE = 3
"""How many times as long where the machine is too busy to tell by then."""
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
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> NDArray[np.float64]:
    """Wall time in milliseconds of every call, [rounds, passes], after warm-up. A call returns when its work is done.

    `least` rounds are made, and more up to `most` until `enough` is content with the times or `seconds` have passed. Where
    `least` take longer than LONG, there are fewer, but LEAST_ROUNDS: until `enough` is content, or PATIENCE times LONG have
    passed. `progress` counts rounds, of those that are made at least.

    In every round all are called, in an order of its own: in as many rounds as there are passes each is once in every place, and
    which follows which is drawn anew then. So drift, the caches that the pass before has left, and load that comes and goes hit
    all alike.
    """
    draw, order = np.random.default_rng(0), np.arange(len(passes))
    for _ in range(WARM_UP):
        begun = clock()
        for run in passes:
            run()
        if clock() - begun > WARM_SECONDS:
            break
    rounds: list[NDArray[np.float64]] = []
    begun, look = clock(), 0
    while (made := len(rounds)) < (most or least):
        spent = clock() - begun
        cut_short = LEAST_ROUNDS <= made < least and spent > LONG
        if made >= max(least, look) or (cut_short and made >= look):
            if enough(np.array(rounds)):
                break
            # Looked at ever more seldom: an interval that is looked at often is once narrow by chance.
            look = ceil(LOOK_AGAIN * made)
        if spent >= seconds if made >= least else cut_short and spent > PATIENCE * LONG:
            break
        turn = made % len(passes)
        if turn == 0:
            order = draw.permutation(len(passes))
        row = np.empty(len(passes))
        for which in np.roll(order, turn).tolist():
            start = clock()
            passes[which]()
            row[which] = (clock() - start) * 1000.0
        rounds.append(row)
        progress(min(len(rounds), least), least)
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


def _any(_times: NDArray[np.float64]) -> bool:
    """Whatever was measured is enough."""
    return True


def inputs_of(split: FeatureSplit, batch_size: int, model: nn.Module, device: torch.device) -> Inputs:
    """The first rows of the split, of those as long as its middle one; from the start again where there are too few."""
    numbers = split.middle()
    inputs, _ = split.batch(numbers[torch.arange(batch_size) % len(numbers)])
    dtype = next(parameter.dtype for parameter in model.parameters() if parameter.is_floating_point())
    return placed(inputs, device, dtype)


def _count(
    progress: Callable[[int, int], None], before: int, batch: int, everything: int, done: int, total: int
) -> None:
    """`done` of `total` rounds of a batch size, in samples of all of them; `before`: of a round of those that are done."""
    progress(before * total + batch * done, everything * total)


def measure_latency(
    dense: nn.Module,
    cut: nn.Module,
    split: FeatureSplit,
    *,
    batch_sizes: Sequence[int],
    runs: int,
    seconds: float = 0.0,
    device: torch.device,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> tuple[Latency, ...]:
    """Forward passes of `dense`, `cut` and a copy of `dense` in turn, for each batch size, real features as input.

    At least `runs` rounds, fewer where they take long (time_in_turn); more within `seconds` a batch size, up to MORE_ROUNDS times
    as many, while the machine's noise leaves it open how they compare. `dense` and `cut` may be the same model, which then is
    its own copy, and timed twice a round; nothing is left open then, and no rounds are made for it. `progress(done, total)`
    counts samples.
    """
    place(dense, device)
    place(cut, device)
    # A copy and not the same module again: what one pass leaves in the caches must help no other.
    alone = cut is dense
    models = (dense, dense) if alone else (dense, cut, model_copy(dense))
    most, enough = (runs, _any) if alone else (MORE_ROUNDS * runs, sure)
    measured: list[Latency] = []
    with timing_mode(*models):
        for batch_size in batch_sizes:
            passes = [forward(model, inputs_of(split, batch_size, model, device)) for model in models]
            samples = batch_sizes[: len(measured)], (batch_size,), batch_sizes
            on_round = partial(_count, progress, *map(sum, samples))
            times = time_in_turn(passes, runs, most=most, seconds=seconds, enough=enough, progress=on_round)
            measured.append(summarise(batch_size, times[:, 0], times[:, 1], times[:, -1]))
    return tuple(measured)
