"""The passes that a first estimate counts are those that the engine makes: its calls of models are counted in whole jobs."""

from collections import Counter

import pytest
from torch import is_grad_enabled
from torch.nn.modules.module import register_module_forward_pre_hook
from transformers import PreTrainedModel

from api_schemas.enums import DeviceKind, Phase, Split
from api_schemas.results.events import PhaseChanged
from api_schemas.spec.job import EngineSpec
from checkpoints.describe import describe_folder
from checkpoints.planning.settled import settled
from checkpoints.sizes import engine_passes as counted
from tests.support.checkpoints.tiny import some_data, tiny_model
from tests.support.jobs.engine import run_job
from worker.engine.latency.timing import MORE_ROUNDS, WARM_UP
from worker.engine.pruning.calibration import BATCH, TOKENS_AN_INPUT
from worker.engine.pruning.cutting import JUDGED

SAMPLES = {Split.TRAIN: 128, Split.VALIDATION: 24, Split.TEST: 24}
SHORT = {
    "latency_batch_sizes": [1, 3],
    "latency_runs": 5,
    "latency_seconds": 0,
    "sensitivity_samples": 10,
    "batch_size": 10,
}
ATTENTION = {"target": {"attention_sparsity": 0.5}, "schedule": {"steps": 2}, "calibration": {"samples": 20}}
PAPER = {**ATTENTION, "preset": "paper", "criterion": "fisher"}

CHECKED = 2
"""Passes of a few samples before the first scores: the original in transformers' own class and in the engine's."""


class Calls:
    """Calls of a whole model by phase, samples, and whether gradients were wanted."""

    def __init__(self):
        self.phase = None
        self.plain = Counter()
        self.recorded = Counter()

    def hear(self, event):
        if isinstance(event, PhaseChanged):
            self.phase = event.phase

    def hook(self, module, _args):
        if isinstance(module, PreTrainedModel) and type(module).__name__.endswith("ForAudioClassification"):
            (self.recorded if is_grad_enabled() else self.plain)[self.phase] += 1


def calls_of(tmp_path, spec):
    calls = Calls()
    handle = register_module_forward_pre_hook(calls.hook)
    try:
        cache = tmp_path / "cache"
        run_job(tmp_path / "out", spec, data=some_data(), fresh_process=False, hear=calls.hear, cache=cache)
    finally:
        handle.remove()
    return calls


@pytest.mark.parametrize(
    ("pruning", "finetune"),
    [(ATTENTION, {"epochs": 2, "batch_size": 24}), (PAPER, {"epochs": 1, "batch_size": 24}), (PAPER, None)],
    ids=["best", "paper", "one-shot"],
)
def test_counted_as_the_engine_calls_its_models(pruning, finetune, tmp_path):
    described = describe_folder(tiny_model())
    body = {"pruning": pruning, "finetune": finetune, "evaluate": SHORT}
    spec = settled(EngineSpec.model_validate(body), described.shape, described.widths, described.architecture.head)
    calls = calls_of(tmp_path, spec)
    flops, steps, layers = [9.0, 8.0, 7.0], 2, len(described.widths.layers)

    scored = [each for _ in range(steps) for each in counted.scoring(spec, SAMPLES, 9.0, DeviceKind.CPU)]
    assert calls.plain[Phase.SCORING] + calls.recorded[Phase.SCORING] == sum(each.batches for each in scored)
    with_graph = [each for each in scored if each.backward]
    assert calls.recorded[Phase.SCORING] == sum(each.batches for each in with_graph)

    alone = counted.layers_alone(spec, SAMPLES, layers, 9.0, beside=False)
    assert calls.plain[Phase.ANALYSING] <= sum(each.batches for each in alone)

    recovered = [each for _ in range(steps) for each in counted.recovery(spec, SAMPLES, 8.0, 9.0, beside=False)]
    assert calls.recorded[Phase.FINETUNING] == sum(each.batches for each in recovered if each.trained)
    assert calls.plain[Phase.FINETUNING] == sum(each.batches for each in recovered if not each.trained)

    evaluated = sum(each.batches for each in counted.evaluation(spec, SAMPLES, flops, beside=False))
    timed = sum(each.rounds * len(each.flops) for each in counted.latency(spec, flops))
    assert calls.plain[Phase.EVALUATING] == evaluated + timed + CHECKED


def test_constants_are_the_engines():
    assert counted.WARM_UP == WARM_UP
    assert counted.MORE_ROUNDS == MORE_ROUNDS
    assert {kind.value: count for kind, count in counted.CALIBRATED_TOGETHER.items()} == BATCH
    assert counted.JUDGED == JUDGED
    assert counted.TOKENS_AN_INPUT == TOKENS_AN_INPUT
