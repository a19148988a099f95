"""The work of a job, counted by hand: what its time is taken to be proportional to."""

from typing import Any

import pytest

from api_schemas.enums import DeviceKind, Phase
from api_schemas.spec.job import EngineSpec
from checkpoints.sizes.cost_model import (
    LEAST_ROUNDS,
    MOST_DIVISIONS,
    MOST_TRIALS,
    passes,
    phase_work,
    scoring_passes,
    tensor_bytes,
    timed_samples,
)
from tests.support.checkpoints.shapes import equal_shape

SAMPLES = {"train": 1000, "validation": 100, "test": 50}
FLOPS = (10, 8, 5)
LAYERS = 3


def spec(**pruning: Any) -> EngineSpec:
    """By the paper's method: a native basis, nothing made up for, all of validation."""
    asked = {"preset": "paper", "target": {"attention_sparsity": 0.5}, **pruning}
    return EngineSpec.model_validate({"pruning": asked, "finetune": {"epochs": 2}})


@pytest.mark.parametrize(
    ("pruning", "forward_passes"),
    [
        ({"criterion": "magnitude"}, 0),
        ({"criterion": "magnitude", "compensation": "bias"}, 1),
        ({"criterion": "magnitude", "basis": "principal"}, 1),
        ({"criterion": "energy"}, 1),
        ({"criterion": "fisher_gate"}, 1 + 1),
        # The data's labels are one draw, whatever the spec says beside.
        ({"criterion": "fisher_gate", "calibration": {"draws": 4}}, 1 + 1),
        ({"criterion": "fisher_gate", "calibration": {"draws": 4, "labels": "model"}}, 1 + 4),
        ({"criterion": "fisher_gate", "calibration": {"draws": 4, "labels": "model"}, "basis": "principal"}, 1 + 1 + 4),
        ({"criterion": "fisher_energy", "calibration": {"draws": 4, "labels": "model"}, "basis": "principal"}, 1 + 4),
        ({"preset": "best"}, 1 + 1 + 4),
        ({"preset": "best", "target": {"ffn_sparsity": 0.5}}, 0),
        ({"preset": "best", "target": {"flops": 0.5}, "parts": ["attention", "feed_forward"]}, 1 + 1 + 4),
    ],
    ids=str,
)  # fmt: skip
def test_draws_of_labels_share_a_forward_pass(pruning: dict[str, Any], forward_passes: float) -> None:
    job = spec(**pruning)
    assert scoring_passes(job.pruning) == forward_passes
    scored = 512 if "preset" in pruning else 100
    assert passes(job, LAYERS, 2, SAMPLES, FLOPS[0])[Phase.SCORING] == (2, forward_passes * scored)
    assert phase_work(job, LAYERS, SAMPLES, FLOPS)[Phase.SCORING] == forward_passes * scored * (10 + 8)


def test_a_cut_that_is_not_refitted_passes_through_no_model() -> None:
    works = {
        how: phase_work(spec(compensation=how), LAYERS, SAMPLES, FLOPS)[Phase.PRUNING]
        for how in ("none", "bias", "least_squares", "least_squares_feed_forward")
    }
    assert works == {"none": 0, "bias": 0, "least_squares": 1800, "least_squares_feed_forward": 1800}
    more = spec(calibration={"split": "train", "samples": 100, "refit_samples": 250}, compensation="least_squares")
    assert phase_work(more, LAYERS, SAMPLES, FLOPS)[Phase.PRUNING] == 250 * (10 + 8)
    both = {"preset": "best", "target": {"flops": 0.5}, "parts": ["attention", "feed_forward"]}
    for given, divisions in (({}, MOST_DIVISIONS), ({"part_shares": "ranked"}, 0), ({"parts": ["attention"]}, 0)):
        # Of 1,000 samples 512 are scored, and least squares take all.
        assert phase_work(spec(**(both | given)), LAYERS, SAMPLES, FLOPS)[Phase.PRUNING] == (divisions * 512 + 1000) * (
            10 + 8
        )


def test_every_model_is_scored_and_timed_beside_the_original() -> None:
    recovered, one_shot = spec(), spec().model_copy(update={"finetune": None})
    timed = recovered.evaluate.latency_runs * sum(recovered.evaluate.latency_batch_sizes)
    assert timed_samples(recovered.evaluate, FLOPS[0]) == timed
    of_original = (100 + 50 + 2 * timed) * 10
    of_cut = timed * (8 + 5) + 2 * 2 * timed * 10 + 50 * 5
    works = [phase_work(job, LAYERS, SAMPLES, FLOPS)[Phase.EVALUATING] for job in (recovered, one_shot)]
    assert works == [of_original + of_cut + times * 100 * (8 + 5) for times in (2, 1)]
    for job, pieces in ((recovered, 5), (one_shot, 3)):
        assert passes(job, LAYERS, 2, SAMPLES, FLOPS[0])[Phase.EVALUATING][0] == pieces


def test_a_model_whose_pass_takes_a_second_is_timed_less_often_and_nothing_else_is_as_slow() -> None:
    job, second = spec(), 100 * 10**9
    assert timed_samples(job.evaluate, second) == 10 * 1 + LEAST_ROUNDS * 8
    slow, quick = (passes(job, LAYERS, 2, SAMPLES, flops) for flops in (second, 5 * 10**8))
    for phase in (Phase.PREPARING, Phase.PACKAGING):
        assert slow[phase][1] == pytest.approx(quick[phase][1] / 200)
    assert quick[Phase.PREPARING] == (1, 1150)


def test_training_is_a_forward_and_a_backward_pass_an_epoch() -> None:
    assert phase_work(spec(), LAYERS, SAMPLES, FLOPS)[Phase.FINETUNING] == 3 * 1000 * 2 * (8 + 5)


def test_hidden_states_take_a_pass_of_the_original_wherever_they_are_asked() -> None:
    """A step's two scores on validation, two epochs on train, and the test split of the first and the last model."""
    job = spec()
    alone, beside = (phase_work(job, LAYERS, SAMPLES, FLOPS, beside=beside) for beside in (False, True))
    more = {phase: work - alone[phase] for phase, work in beside.items() if work != alone[phase]}
    assert more.pop(Phase.ANALYSING, 0) == alone[Phase.ANALYSING]
    assert more == {Phase.FINETUNING: 2 * 1000 * 2 * 10, Phase.EVALUATING: (5 * 100 + 2 * 50) * 10}
    plans = [passes(job, LAYERS, 2, SAMPLES, FLOPS[0], beside=beside) for beside in (False, True)]
    assert plans[1][Phase.FINETUNING] == (2, plans[0][Phase.FINETUNING][1] + 2 * 1000)
    pieces, cost = plans[1][Phase.EVALUATING]
    assert pieces * (cost - plans[0][Phase.EVALUATING][1]) == pytest.approx(5 * 100 + 2 * 50)


@pytest.mark.parametrize(("compensation", "refitted"), [("none", 0), ("least_squares", 100)])
def test_cuts_that_are_tried_for_a_bound_are_refitted_and_scored_on_validation(
    compensation: str, refitted: int
) -> None:
    """Beside the sensitivity analysis, which looks at three cuts of every layer on all of validation; each from the original."""
    asked = {"target": {"max_drop": 0.01}, "compensation": compensation, "criterion": "energy"}
    job, share = spec(**asked), spec(**{**asked, "target": {"flops": 0.5}})
    alone, trial = 3 * LAYERS * 100, 100 + refitted
    assert phase_work(share, LAYERS, SAMPLES, FLOPS)[Phase.ANALYSING] == alone * 10
    works = [phase_work(job, LAYERS, SAMPLES, FLOPS, trials=trials) for trials in (3, None)]
    for work, trials in zip(works, (3, MOST_TRIALS), strict=True):
        assert work[Phase.ANALYSING] == pytest.approx((alone + trials * trial) * 10)
        assert work[Phase.SCORING] == 100 * 2 * 10
        assert work[Phase.PRUNING] == refitted * 2 * 10
    pieces, cost = passes(job, LAYERS, 1, SAMPLES, FLOPS[0])[Phase.ANALYSING]
    assert pieces == 2
    assert pieces * cost == pytest.approx(alone + MOST_TRIALS * trial)
    unseen = job.model_copy(update={"evaluate": job.evaluate.model_copy(update={"sensitivity_samples": None})})
    assert passes(unseen, LAYERS, 1, SAMPLES, FLOPS[0])[Phase.ANALYSING] == (1, MOST_TRIALS * trial)


def test_what_memory_grows_with_on_a_cpu_is_not_the_depth_but_where_weights_are_trained() -> None:
    evaluate = {"batch_size": 8, "latency_batch_sizes": [1]}
    pruning = {"target": {"attention_sparsity": 0.5}, "calibration": {"samples": 512}}
    one_shot = EngineSpec.model_validate({"pruning": pruning, "finetune": None, "evaluate": evaluate})
    trained = EngineSpec.model_validate(
        {"pruning": pruning, "finetune": {"epochs": 1, "batch_size": 8}, "evaluate": evaluate}
    )
    shallow, deep = (equal_shape(layers, 16, 64, 1024, 1500) for layers in (12, 48))
    on_cpu = [tensor_bytes(one_shot, shape, DeviceKind.CPU) for shape in (shallow, deep)]
    assert on_cpu[0] == on_cpu[1], "the graph and the calls of layers are at their bounds"
    # One sample's activations in a block (queries, what is projected), of 8; bounds; four normal matrices.
    block = 1500 * (2 * 1024 + 2048) + 1500 * 2048
    assert on_cpu[0] == 4 * 8 * block + 3 * 2**28 + 4 * 8 * 1024**2
    weights, activations = 4 * (10_000 + 12 * 4 * 1024**2), 4 * 8 * 12 * (block + 16 * 1500**2)
    assert tensor_bytes(trained, shallow, DeviceKind.CPU) == activations + 3 * weights
    assert tensor_bytes(trained, shallow, DeviceKind.CUDA) == activations + 4 * weights
    assert tensor_bytes(one_shot, deep, DeviceKind.CUDA) > 3 * tensor_bytes(one_shot, shallow, DeviceKind.CUDA)
