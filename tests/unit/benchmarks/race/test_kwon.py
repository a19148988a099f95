"""The re-implementation of Kwon et al. against slow references: autograd on a mask, every set of heads, plain least squares."""

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks.race.arms import kwon
from benchmarks.race.setup import Setup
from tests.unit.benchmarks.race.setups import small_setup
from tests.unit.engine.small import HEAD_DIM, HEADS, LAYERS
from worker.engine.models.attention import attention_blocks


@pytest.fixture
def setup(tmp_path) -> Setup:
    return small_setup(tmp_path)


def outputs(setup: Setup) -> list[nn.Linear]:
    dense = setup.dense
    return [block.projections["o"] for block in attention_blocks(dense.model, dense.model_spec, dense.widths)]


def test_mask_gradients_are_those_of_a_real_mask_one_sample_at_a_time(setup):
    found = kwon.mask_gradients(setup, 0)
    mask_LH = torch.ones(LAYERS, HEADS, requires_grad=True)

    def apply(layer: int):
        return lambda _module, args: (args[0] * mask_LH[layer].repeat_interleave(HEAD_DIM),)

    handles = [linear.register_forward_pre_hook(apply(layer)) for layer, linear in enumerate(outputs(setup))]
    expected = []
    for inputs, targets in setup.batches(setup.calibration(0), 1):
        (gradient,) = torch.autograd.grad(setup.loss(setup.dense.model(**inputs).logits, targets).sum(), mask_LH)
        expected.append(gradient)
    for handle in handles:
        handle.remove()
    torch.testing.assert_close(found, torch.stack(expected).double(), rtol=1e-3, atol=1e-6)
    assert all(parameter.grad is None for parameter in setup.dense.model.parameters())


def test_search_takes_the_least_fisher_over_all_layers():
    gradients_NLH = torch.tensor([[[3.0, -1.0], [2.0, 0.5]], [[3.0, 1.0], [-2.0, 0.5]]], dtype=torch.float64)
    assert kwon.search(gradients_NLH, 2) == [{1}, {1}]
    assert kwon.search(gradients_NLH, 3) == [{1}, {0, 1}]


def cost(gradients_NH: Tensor, going: set[int]) -> float:
    """(1 − m)ᵀ I (1 − m) as the paper writes it."""
    fisher = sum(torch.outer(g, g) for g in gradients_NH) / len(gradients_NH)
    gone = torch.tensor([float(h in going) for h in range(gradients_NH.shape[1])], dtype=torch.float64)
    return float(gone @ fisher @ gone)


def test_rearrangement_finds_the_best_set_of_the_same_size():
    gradients_NH = torch.randn(30, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    gradients_NH[:, 1] = 0.1 * gradients_NH[:, 1] - gradients_NH[:, 0]  # two heads that cancel
    found = kwon.rearrange(gradients_NH, {2, 3})
    best = min((set(s) for s in itertools.combinations(range(6), 2)), key=lambda s: cost(gradients_NH, s))
    assert found == best == {0, 1}


def test_the_exchange_for_many_heads_never_ends_worse_than_it_began(monkeypatch):
    monkeypatch.setattr(kwon, "MOST_SETS", 0)
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        gradients_NH = torch.randn(20, 4, generator=generator, dtype=torch.float64)
        gradients_NH = gradients_NH @ torch.randn(4, 8, generator=generator, dtype=torch.float64)
        (going,) = kwon.search(gradients_NH[:, None], 4)
        found = kwon.rearrange(gradients_NH, going)
        assert len(found) == 4
        assert cost(gradients_NH, found) <= cost(gradients_NH, going) * (1 + 1e-12)


def test_tuned_masks_of_the_first_layer_solve_the_least_squares_problem(setup):
    """In the first layer both models see the same input, so the wanted output is the dense layer's own."""
    loaded = kwon.arms()[0].cut(setup, 0, 0.5)
    first = loaded.widths.layers[0].heads
    gradients = kwon.mask_gradients(setup, 0)
    removed = sum(HEADS - layer.heads for layer in loaded.widths.layers)
    going = kwon.rearrange(gradients[:, 0], kwon.search(gradients, removed)[0])
    left = [h for h in range(HEADS) if h not in going]
    assert len(left) == first
    dense, contexts = outputs(setup)[0], []
    handle = dense.register_forward_pre_hook(lambda _module, args: contexts.append(args[0].detach()))
    for inputs, _ in setup.batches(setup.calibration(0), 32):
        setup.dense.model(**inputs)
    handle.remove()
    parts = []
    for h in range(HEADS):
        rows = slice(h * HEAD_DIM, (h + 1) * HEAD_DIM)
        parts.append((torch.cat(contexts)[..., rows] @ dense.weight[:, rows].T).detach().double().numpy().ravel())
    kept, everything = np.stack([parts[h] for h in left], axis=1), np.sum(parts, axis=0)
    damped = np.vstack([kept, kwon.DAMPING * np.eye(first)])
    wanted = np.concatenate([everything - kept.sum(1), np.zeros(first)])
    mask = 1 + np.linalg.lstsq(damped, wanted, rcond=None)[0]
    raced = attention_blocks(loaded.model, loaded.model_spec, loaded.widths)[0].projections["o"].weight.detach()
    for position, h in enumerate(left):
        original = dense.weight[:, h * HEAD_DIM : (h + 1) * HEAD_DIM].detach()
        tuned = raced[:, position * HEAD_DIM : (position + 1) * HEAD_DIM]
        torch.testing.assert_close(tuned, original * float(mask[position]), rtol=1e-4, atol=1e-5)


def test_the_cut_removes_what_was_asked_and_tuning_brings_it_nearer_to_the_dense_model(setup, monkeypatch):
    tuned = kwon.arms()[0].cut(setup, 0, 0.5)
    assert setup.sparsity(tuned) == pytest.approx(0.5, abs=0.01)
    monkeypatch.setattr(kwon, "_tune", lambda *_: None)
    plain = kwon.arms()[0].cut(setup, 0, 0.5)
    inputs, _ = setup.calibration(0).batch(range(12))
    with torch.inference_mode():
        dense, near, far = (m(**inputs).logits for m in (setup.dense.model, tuned.model, plain.model))
    assert (near - dense).square().mean() < (far - dense).square().mean()
