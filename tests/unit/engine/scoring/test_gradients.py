"""Sums of squared per-sample gradients and gates against a loop over single samples with autograd's own gradients."""

import pytest
import torch

from tests.unit.engine.scoring.reference import MODELS, SAMPLES, batches, build_case, loss_of, seen
from worker.engine.scoring import Statistic, gradients, observe

SQUARES = {Statistic.FISHER, Statistic.SALIENCY}
TIGHT = {"rtol": 1e-9, "atol": 1e-16}


def channel_sums(block, reference, weighted=False):
    """E[g²], or E[θ²g²], summed over each channel's parameters: (qk, vo)."""
    total = {}
    for side in "qkvo":
        for what in ("weight", "bias"):
            square = reference[block.number, side, what].square().mean(0)
            if weighted:
                square = square * getattr(block.projections[side], what).detach().square()
            if what == "weight":
                total[side] = square.sum(0 if side == "o" else 1)
            elif side != "o":
                total[side] = total[side] + square
    return total["q"] + total["k"], total["v"] + total["o"]


@pytest.mark.parametrize("by", ["Gram matrix", "forming gradients"])
@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("kind", MODELS)
def test_fisher_and_saliency_are_sums_over_channels_of_squared_gradients(kind, multi_label, by, monkeypatch):
    model, blocks, x, y = build_case(kind, multi_label)
    # 14 tokens and 32 channels: the Gram matrix is cheaper, unless θ²g² is wanted too, which needs the gradients.
    monkeypatch.setitem(gradients._TEMPORARY, "cpu", 3 * 32 * 32)
    reference = seen(model, blocks, x, y, loss_of(multi_label))
    statistics = {Statistic.FISHER} if by == "Gram matrix" else SQUARES
    found = observe(model, blocks, batches(x, y), loss_of(multi_label), statistics)
    assert found.samples == SAMPLES
    for block, layer in zip(blocks, found.layers, strict=True):
        if not block.widths.heads:
            assert layer.fisher.qk.numel() == layer.fisher.vo.numel() == 0
            continue
        qk, vo = channel_sums(block, reference)
        torch.testing.assert_close(layer.fisher.qk, qk, **TIGHT)
        torch.testing.assert_close(layer.fisher.vo, vo, **TIGHT)
        if by == "Gram matrix":
            assert layer.saliency is None
            continue
        qk, vo = channel_sums(block, reference, weighted=True)
        torch.testing.assert_close(layer.saliency.qk, qk, **TIGHT)
        torch.testing.assert_close(layer.saliency.vo, vo, **TIGHT)


def test_the_gram_matrix_is_used_where_it_is_cheaper_only():
    few, many = torch.randn(2, 3, 20), torch.randn(2, 90, 20)
    for x, uses in ((few, True), (many, False)):
        factor = gradients.Factor(x)
        factor.rows = 30
        factor.squared_norms(torch.randn(2, x.shape[1], 30))
        assert (factor._gram_BTT is not None) is uses


@pytest.mark.parametrize("tokens", [3, 90])
def test_squared_norms_are_those_of_the_gradients(tokens):
    x, dy = torch.randn(5, tokens, 20, dtype=torch.float64), torch.randn(5, tokens, 30, dtype=torch.float64)
    factor = gradients.Factor(x)
    factor.rows = 30
    found, _ = factor.squared_norms(dy)
    expected = torch.einsum("bto,bti->boi", dy, x).square().sum((0, 2))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("kind", MODELS)
def test_float32_is_as_good_as_float32_gradients_are(kind):
    model, blocks, x, y = build_case(kind, dtype=torch.float32)
    found = observe(model, blocks, batches(x, y), loss_of(), {Statistic.FISHER})
    exact, blocks64, x64, y64 = build_case(kind)
    reference = seen(exact, blocks64, x64, y64, loss_of())
    for block, layer in zip(blocks64, found.layers, strict=True):
        if block.widths.heads:
            sums = channel_sums(block, reference)
            for got, expected in zip((layer.fisher.qk, layer.fisher.vo), sums, strict=True):
                assert (got - expected).norm() / expected.norm() < 1e-5


@pytest.mark.parametrize("kind", MODELS)
def test_gates_are_the_sums_of_parameter_times_gradient(kind):
    """One side stands for the coupling: q's sum equals k's, v's equals o's; of any set, so the moments agree too."""
    model, blocks, x, y = build_case(kind)
    reference = seen(model, blocks, x, y, loss_of())
    found = observe(model, blocks, batches(x, y), loss_of(), {Statistic.GATES})
    for block, layer in zip(blocks, found.layers, strict=True):
        if not block.widths.heads:
            assert layer.gates.qk.shape == layer.gates.vo.shape == (0, 0)
            continue
        for side in "qkvo":
            weight = block.projections[side].weight.detach()
            gates = (weight * reference[block.number, side, "weight"]).sum(1 if side == "o" else 2)
            if side != "o":
                gates = gates + block.projections[side].bias.detach() * reference[block.number, side, "bias"]
            pair = "qk" if side in "qk" else "vo"
            expected = sum(torch.outer(gate, gate) for gate in gates) / SAMPLES
            torch.testing.assert_close(getattr(layer.gates, pair), expected, rtol=1e-8, atol=1e-14)
            torch.testing.assert_close(getattr(layer.gates.mean, pair), gates.mean(0), rtol=1e-8, atol=1e-13)


def test_fisher_is_not_the_square_of_the_batch_gradient():
    model, blocks, x, y = build_case("dense")
    found = observe(model, blocks, batches(x, y), loss_of(), {Statistic.FISHER})
    model.zero_grad()
    loss_of()(model(x).logits, y).mean().backward()
    for block, layer in zip(blocks, found.layers, strict=True):
        names = [(side, what) for side in "qkvo" for what in ("weight", "bias")]
        of_batch = {(block.number, *name): getattr(block.projections[name[0]], name[1]).grad[None] for name in names}
        qk, _ = channel_sums(block, of_batch)
        assert (qk - layer.fisher.qk).norm() / layer.fisher.qk.norm() > 0.3


@pytest.mark.parametrize("statistics", [SQUARES, {Statistic.CONTEXT}], ids=["backward", "forward"])
def test_leaves_the_model_as_it_was_and_makes_no_weight_gradients(statistics):
    model, blocks, x, y = build_case("dense", dtype=torch.float32)
    frozen = next(model.parameters())
    frozen.requires_grad_(False)
    before = model.eval()(x[:2]).logits.detach().clone()
    model.train()
    observe(model, blocks, batches(x, y), loss_of(), statistics)
    assert model.training
    assert not frozen.requires_grad
    assert all(p.requires_grad for p in model.parameters() if p is not frozen)
    assert all(p.grad is None for p in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert torch.equal(model.eval()(x[:2]).logits, before)


def test_refuses_to_observe_nothing():
    model, blocks, x, y = build_case("dense")
    with pytest.raises(ValueError, match="no samples"):
        observe(model, blocks, [], loss_of(), {Statistic.FISHER})
    with pytest.raises(ValueError, match="no statistic is asked for"):
        observe(model, blocks, batches(x, y), loss_of(), ())


def test_a_model_without_heads_can_be_observed():
    """Nothing to see, and no gradient to take; not an error, because a schedule may end there."""
    model, blocks, x, y = build_case("ragged")
    without = [block for block in blocks if not block.widths.heads]
    found = observe(model, without, batches(x, y), loss_of(), set(Statistic))
    assert found.samples == SAMPLES
    assert found.layers[0].fisher.qk.numel() == 0
