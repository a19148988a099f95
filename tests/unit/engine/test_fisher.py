"""Fisher information against the definition: a loop over single samples with autograd's own weight gradients."""

import pytest
import torch

from tests.unit.engine.small import CLASSES, inputs, small_model
from worker.engine.attention import attention_blocks, projections_by_name
from worker.engine.evaluate import per_sample_loss
from worker.engine.scoring import fisher_information

SAMPLES, BATCH = 11, 4


def _setup(dtype: torch.dtype, multi_label: bool):
    loaded = small_model()
    model = loaded.model.to(dtype)
    x = inputs(SAMPLES).to(dtype)
    generator = torch.Generator().manual_seed(2)
    if multi_label:
        y = (torch.rand(SAMPLES, CLASSES, generator=generator) < 0.4).to(dtype)
    else:
        y = torch.randint(CLASSES, (SAMPLES,), generator=generator)
    projections = projections_by_name(attention_blocks(model, loaded.family, loaded.widths))
    return model, projections, x, y


def _batches(x, y):
    return ((x[i : i + BATCH], y[i : i + BATCH]) for i in range(0, len(x), BATCH))


def _reference(model, projections, x, y, multi_label):
    sums = {name: [torch.zeros_like(m.weight), torch.zeros_like(m.bias)] for name, m in projections.items()}
    for sample in range(len(x)):
        model.zero_grad()
        one = slice(sample, sample + 1)
        per_sample_loss(model(x[one]).logits, y[one], multi_label).sum().backward()
        for name, linear in projections.items():
            sums[name][0] += linear.weight.grad.square()
            sums[name][1] += linear.bias.grad.square()
    return {name: [total / len(x) for total in pair] for name, pair in sums.items()}


def _relative(found, expected):
    return ((found - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("multi_label", [False, True])
def test_equals_a_batch_one_loop_in_float32(multi_label):
    model, projections, x, y = _setup(torch.float32, multi_label)
    found = fisher_information(model, projections, _batches(x, y), lambda lo, t: per_sample_loss(lo, t, multi_label))
    expected = _reference(model, projections, x, y, multi_label)
    assert set(found) == set(expected)
    for name in expected:
        assert _relative(found[name][0], expected[name][0]) < 1e-5, name
        # k's bias moves no softmax: its gradient is rounding noise around zero.
        if not name.endswith("k_proj"):
            assert _relative(found[name][1], expected[name][1]) < 1e-5, name


@pytest.mark.parametrize("multi_label", [False, True])
def test_equals_a_batch_one_loop_elementwise_in_float64(multi_label):
    model, projections, x, y = _setup(torch.float64, multi_label)
    found = fisher_information(model, projections, _batches(x, y), lambda lo, t: per_sample_loss(lo, t, multi_label))
    expected = _reference(model, projections, x, y, multi_label)
    for name in expected:
        torch.testing.assert_close(found[name][0], expected[name][0], rtol=1e-8, atol=1e-16)
        torch.testing.assert_close(found[name][1], expected[name][1], rtol=1e-8, atol=1e-16)


def test_is_not_the_square_of_the_batch_gradient():
    model, projections, x, y = _setup(torch.float64, False)
    found = fisher_information(model, projections, _batches(x, y), lambda lo, t: per_sample_loss(lo, t, False))
    model.zero_grad()
    per_sample_loss(model(x).logits, y, False).mean().backward()
    for name, linear in projections.items():
        assert _relative(linear.weight.grad.square(), found[name][0]) > 0.3, name


def test_leaves_the_model_as_it_was_and_makes_no_weight_gradients():
    model, projections, x, y = _setup(torch.float32, False)
    model.train()
    frozen = next(model.parameters())
    frozen.requires_grad_(False)
    before = model.eval()(x[:2]).logits.detach().clone()
    model.train()
    fisher_information(model, projections, _batches(x, y), lambda lo, t: per_sample_loss(lo, t, False))
    assert model.training
    assert not frozen.requires_grad
    assert all(p.requires_grad for p in model.parameters() if p is not frozen)
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(model.eval()(x[:2]).logits, before)


def test_refuses_to_score_on_nothing():
    model, projections, _, _ = _setup(torch.float32, False)
    with pytest.raises(ValueError, match="no samples"):
        fisher_information(model, projections, [], lambda lo, t: per_sample_loss(lo, t, False))
