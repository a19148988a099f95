"""Bits, intervals and ranks against slower ways to get them."""

import numpy as np
import pytest
import torch

from api_schemas.enums import Split
from benchmarks.race.evaluation import Predictions, measure
from benchmarks.race.results.bootstrap import paired
from benchmarks.race.spectrum import ranks, spectrum
from tests.unit.benchmarks.race.setups import small_setup
from tests.unit.engine.small import HEAD_DIM, HEADS
from worker.engine.models.attention import attention_blocks


def test_bits_come_back_and_take_an_eighth():
    right = np.random.default_rng(0).random(2400) < 0.9
    kept = Predictions.of(right, 0.3)
    again = Predictions.model_validate_json(kept.model_dump_json())
    assert (again.right() == right).all()
    assert again.accuracy == right.mean()
    assert len(again.correct) == 400


def test_measure_counts_the_clips_whose_first_class_is_the_label(tmp_path):
    setup = small_setup(tmp_path)
    split = setup.split(Split.TEST)
    expected = []
    for row in range(len(split)):
        inputs, targets = split.batch([row])
        with torch.inference_mode():
            expected.append(int(setup.dense.model(**inputs).logits.argmax()) == int(targets))
    found = measure(setup, setup.dense.model, Split.TEST)
    assert found.right().tolist() == expected
    assert 0.5 < found.accuracy < 0.8


def test_a_model_that_overflows_gets_nothing_right(tmp_path):
    setup = small_setup(tmp_path)
    with torch.no_grad():
        setup.dense.model.classifier.dense.bias.fill_(float("inf"))
    assert measure(setup, setup.dense.model, Split.TEST).accuracy == 0.0


def test_intervals_are_those_of_resampling_clips_one_by_one():
    generator = np.random.default_rng(1)
    first = generator.random(400) < 0.9
    second = np.where(generator.random(400) < 0.85, first, generator.random(400) < 0.5)
    found = paired(first, second)
    draws = generator.integers(400, size=(5000, 400))
    means = 100 * (first[draws].mean(1) - second[draws].mean(1))
    assert found.points == pytest.approx(100 * (first.mean() - second.mean()))
    assert [found.low, found.high] == pytest.approx(np.quantile(means, [0.025, 0.975]).tolist(), abs=0.3)


def test_equal_models_do_not_differ_and_far_ones_do():
    right = np.arange(100) % 3 > 0
    assert not paired(right, right).significant
    assert paired(right, right).low == paired(right, right).high == 0.0
    better = paired(np.ones(100), right)
    assert better.significant
    assert better.low > 20
    assert paired(right, np.ones(100)).high == pytest.approx(-better.low, abs=1.0)


def test_ranks_count_the_largest_energies_first():
    energies = torch.tensor([0.5, 98.0, 1.4, 0.1])
    assert ranks(energies, 0.98) == 1
    assert ranks(energies, 0.985) == 2
    assert ranks(energies, 1.0) == 4


def test_spectrum_is_that_of_the_logits_and_of_the_heads_output(tmp_path):
    """QK against the singular values of all tokens' Q Kᵀ; VO against the covariance of what the head adds, token by token."""
    setup = small_setup(tmp_path, calibration=6)
    with torch.no_grad():  # one head of the second layer uses two QK channels and three VO channels
        blocks = attention_blocks(setup.dense.model, setup.dense.model_spec, setup.dense.widths)
        blocks[1].projections["q"].weight[2:HEAD_DIM] = 0
        blocks[1].projections["q"].bias[2:HEAD_DIM] = 0
        blocks[1].projections["o"].weight[:, 3:HEAD_DIM] = 0
    found = spectrum(setup)
    assert found[1].qk[0] <= 2
    assert found[1].vo[0] <= 3
    for number, block in enumerate(blocks):
        seen: dict[str, torch.Tensor] = {}
        handles = [
            block.projections[side].register_forward_hook(
                lambda _m, args, output, side=side, seen=seen: seen.update({side: args[0] if side == "o" else output})
            )
            for side in "qko"
        ]
        inputs, _ = setup.calibration(0).batch(range(6))
        with torch.inference_mode():
            setup.dense.model(**inputs)
        for handle in handles:
            handle.remove()
        for head in range(HEADS):
            rows = slice(head * HEAD_DIM, (head + 1) * HEAD_DIM)
            query, key = seen["q"][..., rows].double(), seen["k"][..., rows].double()
            key = key - key.mean(1, keepdim=True)
            logits = query.reshape(-1, HEAD_DIM) @ key.reshape(-1, HEAD_DIM).T
            assert found[number].qk[head] == ranks(torch.linalg.svdvals(logits).square())
            weight = block.projections["o"].weight[:, rows].detach().double()
            written = seen["o"][..., rows].double().reshape(-1, HEAD_DIM) @ weight.T
            assert found[number].vo[head] == ranks(torch.linalg.eigvalsh(torch.cov(written.T)).clamp_min(0))
