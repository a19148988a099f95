"""The time of a first job from what was measured of a device: made of counts that are known here."""

from dataclasses import replace
from typing import Any

import pytest

from api_schemas.enums import DeviceKind, Head, Modality, Phase
from api_schemas.spec.job import EngineSpec
from checkpoints.sizes.cost_model import MOST_TRIALS
from checkpoints.sizes.device_speed import DeviceSpeed, LayerTime
from checkpoints.sizes.first_time import SPREAD, JobFacts, first_seconds
from tests.support.checkpoints.shapes import equal_shape

SPEED = DeviceSpeed(
    layers=(
        LayerTime(flops=1e3, forward=1e-4, training=4e-4),
        LayerTime(flops=1e6, forward=1e-3, training=3e-3),
        LayerTime(flops=1e9, forward=1.0, training=3.0),
    ),
    float64_flops=1e9,
    host_call=1e-4,
)
SHAPE = equal_shape(4, 4, 16, 64, 50)
FACTS = JobFacts(
    shape=SHAPE,
    head=Head.CLASSIFICATION,
    modality=Modality.AUDIO,
    kind=DeviceKind.CPU,
    samples={"train": 1000, "validation": 200, "test": 200},
    flops=(10**7, 8 * 10**6),
)


def spec(**changes: Any) -> EngineSpec:
    pruning = {
        "target": {"attention_sparsity": 0.4},
        "preset": "paper",
        "criterion": "fisher",
        "schedule": {"steps": 1},
    }
    body = {"pruning": pruning | changes.pop("pruning", {}), "finetune": None} | changes
    return EngineSpec.model_validate(body)


def total(job: EngineSpec, facts: JobFacts = FACTS, speed: DeviceSpeed = SPEED) -> tuple[float, float]:
    found = first_seconds(job, facts, speed).values()
    return sum(low for low, _ in found), sum(high for _, high in found)


@pytest.mark.parametrize(
    ("flops", "forward"),
    [(1.0, 1e-4), (1e3, 1e-4), (500_500.0, 5.5e-4), (1e6, 1e-3), (5e8, 0.5), (1e9, 1.0), (3e9, 3.0)],
)
def test_a_layer_takes_what_one_of_its_size_takes(flops: float, forward: float) -> None:
    assert SPEED.forward_seconds(flops) == pytest.approx(forward, rel=2e-3)


def test_scores_are_batches_of_layers_calls() -> None:
    """Of a job that times nothing: what is evaluated more is its layers' calls, five with what lies around four."""
    job = spec(evaluate={"latency_batch_sizes": [], "batch_size": 20})
    more = replace(FACTS, samples=FACTS.samples | {"test": 300})
    before, after = (first_seconds(job, facts, SPEED)[Phase.EVALUATING] for facts in (FACTS, more))
    # 100 samples more in batches of 20, by the original and by what was cut; transformers' layers are called for longer.
    own = [SPEED.forward_seconds(20 * flops / 5) + 0.3e-4 for flops in FACTS.flops]
    expected = sum(5 * 5 * each for each in own)
    assert after[0] - before[0] == pytest.approx(expected / SPREAD)
    assert after[1] - before[1] == pytest.approx(expected * SPREAD)


@pytest.mark.parametrize("preset", ["best", "paper"])
def test_a_row_that_is_divided_counts_as_the_inputs_it_is_divided_into(preset: str) -> None:
    job = spec(pruning={"preset": preset, "criterion": None}, finetune={"epochs": 1})
    divided = first_seconds(job, replace(FACTS, inputs=(2.0, 5.0)), SPEED)
    for end, times in enumerate((2, 5)):
        whole = replace(FACTS, samples={role: times * rows for role, rows in FACTS.samples.items()})
        assert {phase: each[end] for phase, each in divided.items()} == pytest.approx(
            {phase: each[end] for phase, each in first_seconds(job, whole, SPEED).items()}
        )


def test_what_is_not_asked_for_takes_no_time() -> None:
    plain = spec(evaluate={"sensitivity_samples": None}, pruning={"criterion": "magnitude"})
    found = first_seconds(plain, FACTS, SPEED)
    assert not {Phase.SCORING, Phase.FINETUNING, Phase.ANALYSING} & set(found)
    assert all(0 < low < high for low, high in found.values())


@pytest.mark.parametrize(
    "changes",
    [
        {"finetune": {"epochs": 1}},
        {"exports": ["onnx"]},
        {"pruning": {"basis": "principal", "compensation": "least_squares"}},
        {"pruning": {"schedule": {"steps": 1}, "calibration": {"labels": "model", "draws": 4}}},
        {"evaluate": {"latency_runs": 300}},
    ],
    ids=str,
)
def test_what_is_asked_for_takes_time(changes: dict[str, Any]) -> None:
    for less, more in zip(total(spec()), total(spec(**changes)), strict=True):
        assert more > less


def test_slower_devices_and_longer_inputs_take_longer() -> None:
    slow = DeviceSpeed(
        layers=tuple(
            LayerTime(flops=each.flops, forward=2 * each.forward, training=2 * each.training) for each in SPEED.layers
        ),
        float64_flops=SPEED.float64_flops / 2,
        host_call=2 * SPEED.host_call,
    )
    job = spec(finetune={"epochs": 1}, evaluate={"latency_seconds": 0})
    assert total(job, speed=slow) == pytest.approx([2 * each for each in total(job)])
    unsure = total(job, replace(FACTS, length=(0.5, 1.0)))
    assert unsure[0] < total(job)[0]
    assert unsure[1] == total(job)[1]
    writes = total(job, replace(FACTS, head=Head.SEQUENCE_TO_SEQUENCE))
    assert writes[0] > total(job)[0]


@pytest.mark.parametrize("head", Head)
def test_splits_that_are_empty_take_no_time(head: Head) -> None:
    nothing = replace(FACTS, head=head, samples=dict.fromkeys(FACTS.samples, 0))
    job = spec(finetune={"epochs": 1}, pruning={"basis": "principal", "compensation": "least_squares"})
    assert total(job, nothing)[1] < total(job, replace(FACTS, head=head))[1]


def test_the_range_of_a_plain_job_spans_a_factor_of_four_at_most() -> None:
    low, high = total(spec(finetune={"epochs": 1}))
    assert 2 < high / low < 4


def test_cuts_that_a_bound_may_try_widen_it() -> None:
    bound = spec(pruning={"target": {"max_drop": 0.01}}, evaluate={"sensitivity_samples": None})
    low, high = first_seconds(bound, FACTS, SPEED)[Phase.ANALYSING]
    assert high / low == pytest.approx(MOST_TRIALS * SPREAD**2)
