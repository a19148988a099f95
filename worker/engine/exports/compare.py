"""Compares an export with torch: whether the same samples give the same outputs, and how fast, timed in turn on the same CPU."""

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from api_schemas.enums import ExportFormat
from api_schemas.results.metrics import Latency
from api_schemas.spec.job import Evaluate
from worker.engine.data import FeatureSplit
from worker.engine.latency.timing import MORE_ROUNDS, inputs_of, summarise, sure, time_in_turn, timing_mode
from worker.engine.models.model_spec import move_model
from worker.engine.tasks import MetricAccumulator, Task

Runner = Callable[..., Tensor]
"""An export: called with the model's inputs by keyword, it gives answers as the task does, float32, on the CPU."""

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


@dataclass
class Compared:
    """One export beside torch, so far."""

    accumulator: MetricAccumulator
    error: float = 0.0
    """Largest absolute difference of an answer; NaN where one was NaN."""
    agreed: float = 0.0
    """Sum over samples of Task.agreement."""


def compare(
    model: PreTrainedModel,
    exports: Mapping[ExportFormat, Runner],
    samples: FeatureSplit,
    task: Task,
    progress: Callable[[int], None],
) -> tuple[dict[ExportFormat, Compared], float]:
    """Each export against `model` in torch on the CPU, and the largest absolute value among torch's answers.

    The first sample alone, then batches: a batch axis that is fixed in a graph is found out.
    """
    found = {format: Compared(task.accumulator()) for format in exports}
    largest = 0.0
    move_model(model, torch.device("cpu")).eval()
    for numbers in [torch.tensor([0]), *samples.batches(BATCH, torch.arange(1, len(samples)))]:
        inputs, targets = samples.batch(numbers)
        with torch.inference_mode():
            reference, wanted = task.outputs(model, inputs).float(), task.asked(inputs, targets)
        largest = max(largest, float(reference.abs().max()))
        for format, run in exports.items():
            answers, own = run(**inputs), found[format]
            own.error = float(np.maximum(own.error, float((answers - reference).abs().max())))
            own.agreed += float(task.agreement(answers, reference).sum())
            own.accumulator.add(numbers, answers, wanted)
        progress(len(numbers))
    return found, largest


def latency_of_exports(
    model: PreTrainedModel, exports: Sequence[Runner], samples: FeatureSplit, settings: Evaluate
) -> tuple[tuple[Latency, ...], ...]:
    """For each export its latency by batch size, beside `model` in torch and its copy, all timed in turn on the CPU.

    `settings.latency_runs` rounds, or as many as a minute allows, but no fewer than five; more as `measure_latency` makes them.
    """
    measured: list[list[Latency]] = [[] for _ in exports]
    again = copy.deepcopy(model)
    with timing_mode(model, again):
        for batch_size in settings.latency_batch_sizes:
            inputs = inputs_of(samples, batch_size, model, torch.device("cpu"))
            runners: tuple[Callable[..., object], ...] = (model, *exports, again)
            passes = [partial(run, **inputs) for run in runners]
            start = time.perf_counter()
            for run_once in passes:
                run_once()
            affordable = int(LATENCY_SECONDS / (time.perf_counter() - start))
            least, seconds = max(MIN_RUNS, min(settings.latency_runs, affordable)), settings.latency_seconds
            times = time_in_turn(passes, least, most=MORE_ROUNDS * least, seconds=seconds, enough=sure)
            for place, rows in enumerate(measured, start=1):
                rows.append(summarise(batch_size, times[:, 0], times[:, place], times[:, -1]))
    return tuple(map(tuple, measured))
