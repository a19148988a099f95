"""The work of a job, counted by hand: what its time is taken to be proportional to."""

from typing import Any

import pytest

from api_schemas.enums import Phase
from api_schemas.spec.job import EngineSpec
from checkpoints.sizes.cost_model import passes, phase_work, scoring_passes

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
    ],
    ids=str,
)  # fmt: skip
def test_draws_of_labels_share_a_forward_pass(pruning: dict[str, Any], forward_passes: float) -> None:
    job = spec(**pruning)
    assert scoring_passes(job.pruning) == forward_passes
    scored = 512 if "preset" in pruning else 100
    assert passes(job, LAYERS, 2, SAMPLES)[Phase.SCORING] == (2, forward_passes * scored)
    assert phase_work(job, LAYERS, SAMPLES, FLOPS)[Phase.SCORING] == forward_passes * scored * (10 + 8)


def test_a_cut_that_is_not_refitted_passes_through_no_model() -> None:
    works = {
        how: phase_work(spec(compensation=how), LAYERS, SAMPLES, FLOPS)[Phase.PRUNING]
        for how in ("none", "bias", "least_squares", "least_squares_feed_forward")
    }
    assert works == {"none": 0, "bias": 0, "least_squares": 1800, "least_squares_feed_forward": 1800}


def test_training_is_a_forward_and_a_backward_pass_an_epoch() -> None:
    assert phase_work(spec(), LAYERS, SAMPLES, FLOPS)[Phase.FINETUNING] == 3 * 1000 * 2 * (8 + 5)
