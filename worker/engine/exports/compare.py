"""An exported file against torch: the same samples, the same answers? And how fast, in turn on the same CPU?"""

import time
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from transformers import PreTrainedModel

from api_schemas.metrics import Latency
from api_schemas.spec import Evaluate
from worker.engine.data import FeatureSplit
from worker.engine.evaluate.latency import inputs_of, summarise, time_in_turn, undisturbed
from worker.engine.exports.runtime import OnnxFile

BATCH = 8
MAX_SAMPLES, MIN_SAMPLES = 256, 32
MAX_FLOPS = 5e12
"""Of one pass over the samples: a minute or two on one core."""
LATENCY_SECONDS, MIN_RUNS = 60.0, 5


def check_samples(validation: FeatureSplit, flops: int) -> FeatureSplit:
    """At most 256 samples, fewer of a model that takes `flops` a sample and is large, spread evenly over the split.

    Evenly, since rows are often sorted by label.
    """
    count = min(len(validation), max(MIN_SAMPLES, min(MAX_SAMPLES, int(MAX_FLOPS / flops))))
    return validation.subset([row * len(validation) // count for row in range(count)])


def logits_of_file(file: OnnxFile, samples: FeatureSplit, progress: Callable[[int], None]) -> Tensor:
    """Float32 logits [N, C]. The first sample alone, then batches: a batch axis that is fixed in the file is found out."""
    order = [torch.tensor([0]), *samples.batches(BATCH, torch.arange(1, len(samples)))]
    collected: list[Tensor] = []
    for rows in order:
        inputs, _ = samples.batch(rows)
        collected.append(file(**inputs))
        progress(len(rows))
    return torch.cat(collected)[torch.cat(order).argsort()]


def agreement(logits: Tensor, reference: Tensor, multi_label: bool) -> float:
    """Share of rows of [N, C] with the same answer: the first class, or for several labels every decision at 0.5."""
    same = ((logits > 0) == (reference > 0)).all(dim=1) if multi_label else logits.argmax(1) == reference.argmax(1)
    return float(same.double().mean())


def latency_of_files(
    model: PreTrainedModel, files: Sequence[OnnxFile], samples: FeatureSplit, settings: Evaluate
) -> tuple[tuple[Latency, ...], ...]:
    """For each file its latency by batch size, beside `model` in torch, all timed in turn on the CPU.

    `settings.latency_runs` runs, or as many as a minute allows, but no fewer than five.
    """
    measured: list[list[Latency]] = [[] for _ in files]
    with undisturbed(model):
        for batch_size in settings.latency_batch_sizes:
            inputs = inputs_of(samples, batch_size, model, torch.device("cpu"))
            runners: tuple[Callable[..., object], ...] = (model, *files)
            passes = [partial(run, **inputs) for run in runners]
            start = time.perf_counter()
            for run_once in passes:
                run_once()
            affordable = int(LATENCY_SECONDS / (time.perf_counter() - start))
            times = time_in_turn(passes, max(MIN_RUNS, min(settings.latency_runs, affordable)))
            for place, rows in enumerate(measured, start=1):
                rows.append(summarise(batch_size, times[:, 0], times[:, place]))
    return tuple(map(tuple, measured))
