"""Second moments of activations and gradients against outer products of single tokens, one sample at a time."""

import pytest
import torch

from tests.unit.engine.scoring.reference import EVERYTHING, MODELS, SAMPLES, batches, build_case, loss_of, second, seen
from worker.engine.scoring import Statistic, observe
from worker.engine.scoring.observations import NEEDS_GRADIENTS

TIGHT = {"rtol": 1e-9, "atol": 1e-13}


def close(found, expected):
    torch.testing.assert_close(found, expected, **TIGHT)


@pytest.mark.parametrize("kind", MODELS)
def test_activation_moments(kind):
    model, blocks, x, y = build_case(kind)
    reference = seen(model, blocks, x, y, loss_of())
    found = observe(model, blocks, batches(x, y), loss_of(), {Statistic.QK_MOMENTS, Statistic.CONTEXT})
    for block, layer in zip(blocks, found.layers, strict=True):
        assert len(layer.qk.q) == len(layer.qk.k) == len(layer.qk.k_mean) == block.widths.heads
        if not block.widths.heads:
            assert layer.context.second.shape == (0, 0)
            continue
        q, k, context = (reference[block.number, what] for what in "qkx")
        assert found.tokens == SAMPLES * q.shape[1]
        for h in range(block.widths.heads):
            rows = block.rows("q", h)
            close(layer.qk.q[h], second(q[..., rows]))
            close(layer.qk.k_mean[h], k[..., rows].mean((0, 1)))
            own = k[..., rows] - k[..., rows].mean(1, keepdim=True)
            close(layer.qk.k[h], second(own))
        close(layer.context.mean, context.mean((0, 1)))
        close(layer.context.second, second(context))
        close(layer.context.covariance, torch.cov(context.flatten(0, 1).T, correction=0))


@pytest.mark.parametrize("kind", MODELS)
def test_gradient_moments(kind):
    model, blocks, x, y = build_case(kind)
    reference = seen(model, blocks, x, y, loss_of())
    found = observe(model, blocks, batches(x, y), loss_of(), {Statistic.GRADIENTS, Statistic.OUTPUT_GRADIENT})
    for block, layer in zip(blocks, found.layers, strict=True):
        if not block.widths.heads:
            assert layer.gradients.q == ()
            continue
        for h in range(block.widths.heads):
            close(layer.gradients.q[h], second(reference[block.number, "dq"][..., block.rows("q", h)]))
            close(layer.gradients.k[h], second(reference[block.number, "dk"][..., block.rows("k", h)]))
            close(layer.gradients.context[h], second(reference[block.number, "dx"][..., block.rows("o", h)]))
        close(layer.output_gradient, second(reference[block.number, "do"]))


@pytest.mark.parametrize("statistic", Statistic)
def test_each_statistic_alone_sees_what_it_sees_in_one_pass_for_everything(statistic):
    model, blocks, x, y = build_case("ragged")
    names = {Statistic.QK_MOMENTS: "qk"}
    alone = observe(model, blocks, batches(x, y), loss_of(), {statistic})
    together = observe(model, blocks, batches(x, y, 3), loss_of(), EVERYTHING)
    fields = set(vars(alone.layers[0])) - {"tokens"}
    for one, all_of_them in zip(alone.layers, together.layers, strict=True):
        field = names.get(statistic, statistic.value)
        assert {name for name in fields if getattr(one, name) is not None} == {field}
        for found, expected in zip(tensors(getattr(one, field)), tensors(getattr(all_of_them, field)), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-13)


def tensors(value):
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, int):
        return []
    parts = value if isinstance(value, tuple) else vars(value).values()
    return [tensor for part in parts for tensor in tensors(part)]


def test_a_forward_pass_is_enough_for_activations():
    model, blocks, x, y = build_case("dense")

    def loss(_logits, _targets):
        raise AssertionError("no statistic needs a loss")

    observe(model, blocks, batches(x, y), loss, EVERYTHING - NEEDS_GRADIENTS)


def test_what_one_pass_keeps_does_not_grow_with_the_samples():
    """Tensors alive after each batch: the same number of bytes, from the second batch on."""
    import gc

    model, blocks, x, y = build_case("dense", dtype=torch.float32)
    alive = []

    def count(_samples):
        gc.collect()
        alive.append(sum(o.nbytes for o in gc.get_objects() if type(o) is torch.Tensor))

    observe(model, blocks, batches(x.repeat(3, 1, 1), y.repeat(3)), loss_of(), EVERYTHING, count)
    assert len(alive) == 9
    assert len(set(alive[1:-1])) == 1


def test_half_precision_is_near_and_sums_are_double():
    model, blocks, x, y = build_case("dense", dtype=torch.float32)
    exact = observe(model, blocks, batches(x, y), loss_of(), EVERYTHING)
    rough = observe(model, blocks, batches(x, y), loss_of(), EVERYTHING, autocast=torch.bfloat16)
    for a, b in zip(exact.layers, rough.layers, strict=True):
        for one, other in zip(tensors(a), tensors(b), strict=True):
            assert other.dtype == torch.float64
            assert not torch.equal(one, other)
        assert (a.fisher.qk - b.fisher.qk).norm() / a.fisher.qk.norm() < 0.1
        assert (a.context.second - b.context.second).norm() / a.context.second.norm() < 0.02


@pytest.mark.parametrize("kind", MODELS)
def test_products_in_float32_are_near_and_sums_are_double(kind):
    model, blocks, x, y = build_case(kind, dtype=torch.float32)
    exact = observe(model, blocks, batches(x, y), loss_of(), EVERYTHING)
    rough = observe(model, blocks, batches(x, y), loss_of(), EVERYTHING, moments=torch.float32)
    for a, b in zip(exact.layers, rough.layers, strict=True):
        for one, other in zip(tensors(a), tensors(b), strict=True):
            assert other.dtype == torch.float64
            assert (one - other).norm() <= 1e-6 * one.norm()
        if a.context.second.numel():
            assert not torch.equal(a.context.second, b.context.second)
