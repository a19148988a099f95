"""The model's own labels: the covariance of their gradients, and the Fisher information they estimate."""

import pytest
import torch
from torch.nn import functional

from tests.unit.engine.scoring.reference import build_case, loss_of
from tests.unit.engine.small import CLASSES
from worker.engine.scoring import Statistic, observe
from worker.engine.tasks import Classification
from worker.engine.tasks.label_sampling import sigmoid_gradients, softmax_gradients

LOGITS = torch.tensor([[2.0, 0.0, -1.0, 0.5], [-3.0, 4.0, 0.0, 0.0]], dtype=torch.float64)
DRAWS = 40_000


def every_label(logits, multi_label):
    """All labels a sample may have (L, ...), and how likely each is (B, L)."""
    classes = logits.shape[1]
    if not multi_label:
        return torch.arange(classes), logits.softmax(1)
    every = torch.tensor([[(n >> c) & 1 for c in range(classes)] for n in range(2**classes)], dtype=logits.dtype)
    chances = torch.where(every[None] > 0, logits.sigmoid()[:, None], 1 - logits.sigmoid()[:, None]).prod(-1)
    return every, chances


@pytest.mark.parametrize("multi_label", [False, True])
def test_gradients_have_the_covariance_that_enumerating_labels_gives(multi_label):
    every, chances = every_label(LOGITS, multi_label)
    draw = sigmoid_gradients if multi_label else softmax_gradients
    drawn = draw(LOGITS.repeat(DRAWS, 1), torch.Generator().manual_seed(0)).view(DRAWS, 2, 4).double()
    for sample in range(2):
        logits = LOGITS[[sample]].repeat(len(every), 1).requires_grad_()
        if multi_label:
            losses = functional.binary_cross_entropy_with_logits(logits, every, reduction="none").mean(1)
        else:
            losses = functional.cross_entropy(logits, every, reduction="none")
        (gradients,) = torch.autograd.grad(losses.sum(), logits)
        expected = (chances[sample][:, None] * gradients).T @ gradients
        found = drawn[:, sample].T @ drawn[:, sample] / DRAWS
        assert (found - expected).abs().max() < 0.02 * expected.abs().max()
        assert drawn[:, sample].mean(0).abs().max() < 0.02 * expected.diagonal().max().sqrt()


@pytest.mark.parametrize("multi_label", [False, True])
def test_they_estimate_the_fisher_information_that_enumerating_labels_gives(multi_label):
    model, blocks, x, _ = build_case("dense", multi_label)
    x, times = x[:2], 600
    with torch.no_grad():
        logits = model(x).logits
    every, chances = every_label(logits, multi_label)
    expected = torch.zeros(sum(blocks[0].widths.vo), dtype=x.dtype)
    for sample in range(2):
        for label, chance in zip(every, chances[sample], strict=True):
            one = observe(
                model, blocks, [({"input_values": x[[sample]]}, label[None])], loss_of(multi_label), {Statistic.FISHER}
            )
            expected += chance * one.layers[0].fisher.vo / 2
    loss = Classification(several=multi_label).sampled_label_loss(0)
    batches = (({"input_values": x.repeat(100, 1, 1)}, None) for _ in range(times // 100))
    drawn = observe(model, blocks, batches, loss, {Statistic.FISHER}).layers[0].fisher.vo
    assert (drawn - expected).norm() / expected.norm() < 0.1
    # Labels that are merely likely give another number: the model's most probable ones.
    sure = (logits > 0).to(x.dtype) if multi_label else logits.argmax(1)
    likely = (
        observe(model, blocks, [({"input_values": x}, sure)], loss_of(multi_label), {Statistic.FISHER})
        .layers[0]
        .fisher.vo
    )
    assert (likely - expected).norm() / expected.norm() > 0.2


def test_a_model_that_is_sure_is_estimated_better_than_by_drawing_labels():
    p = torch.tensor([0.99, 0.01], dtype=torch.float64)
    expected = p[0] * p[1]
    signs = softmax_gradients(p.log().repeat(DRAWS, 1), torch.Generator().manual_seed(0))[:, 0].double().square()
    labels = torch.multinomial(p, DRAWS, replacement=True, generator=torch.Generator().manual_seed(0))
    drawn = (p[0] - (labels == 0).double()).square()
    assert abs(signs.mean() - expected) < 0.1 * expected
    assert abs(drawn.mean() - expected) < 0.2 * expected
    assert signs.var() < 0.05 * drawn.var()


def test_the_same_seed_draws_the_same_and_needs_no_further_forward_pass():
    model, blocks, x, _ = build_case("dense", dtype=torch.float32)
    passes = []
    model.register_forward_hook(lambda *_: passes.append(1))

    def run(seed):
        loss = Classification(several=False).sampled_label_loss(seed)
        found = observe(model, blocks, [({"input_values": x}, None)] * 2, loss, {Statistic.FISHER})
        return found.layers[0].fisher.vo

    assert torch.equal(run(0), run(0))
    assert not torch.equal(run(0), run(1))
    assert len(passes) == 4 * 2


def test_several_labels_are_as_many_as_the_classes():
    gradients = sigmoid_gradients(torch.zeros(3, CLASSES), torch.Generator().manual_seed(0))
    assert torch.equal(gradients.abs(), torch.full((3, CLASSES), 0.5 / CLASSES))
