"""Labels drawn from the model: their distribution, and the Fisher information they estimate."""

import math

import pytest
import torch

from tests.unit.engine.scoring.reference import build_case, loss_of
from tests.unit.engine.small import CLASSES
from worker.engine.scoring import Want, observe, with_drawn_labels
from worker.engine.scoring.labels import draw_labels

LOGITS = torch.tensor([[2.0, 0.0, -1.0, 0.5], [-3.0, 4.0, 0.0, 0.0]])
DRAWS = 20_000


def test_single_labels_follow_the_softmax():
    repeated = LOGITS.repeat(DRAWS, 1)
    drawn = draw_labels(repeated, False, torch.Generator().manual_seed(0)).view(DRAWS, 2)
    for sample in range(2):
        probabilities = LOGITS[sample].softmax(0)
        found = torch.bincount(drawn[:, sample], minlength=4) / DRAWS
        for got, p in zip(found.tolist(), probabilities.tolist(), strict=True):
            assert abs(got - p) < 5 * math.sqrt(p * (1 - p) / DRAWS) + 1e-4


def test_several_labels_follow_each_classes_sigmoid():
    drawn = draw_labels(LOGITS.repeat(DRAWS, 1), True, torch.Generator().manual_seed(0)).view(DRAWS, 2, 4)
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    probabilities = LOGITS.sigmoid()
    assert ((drawn.mean(0) - probabilities).abs() < 5 * (probabilities * (1 - probabilities) / DRAWS).sqrt()).all()
    # Independent: two classes are on together as often as the product says.
    both = (drawn[:, 0, 1] * drawn[:, 0, 3]).mean()
    assert abs(float(both) - float(probabilities[0, 1] * probabilities[0, 3])) < 0.02


@pytest.mark.parametrize("multi_label", [False, True])
def test_draws_estimate_the_fisher_information_that_enumerating_labels_gives(multi_label):
    model, blocks, x, _ = build_case("dense", multi_label)
    x, times = x[:2], 600
    with torch.no_grad():
        logits = model(x).logits
    if multi_label:
        every = torch.tensor([[(n >> c) & 1 for c in range(CLASSES)] for n in range(2**CLASSES)], dtype=x.dtype)
        chances = torch.where(every[None] > 0, logits.sigmoid()[:, None], 1 - logits.sigmoid()[:, None]).prod(-1)
    else:
        every, chances = torch.arange(CLASSES), logits.softmax(1)
    expected = torch.zeros(sum(blocks[0].widths.vo), dtype=x.dtype)
    for sample in range(2):
        for label, chance in zip(every, chances[sample], strict=True):
            one = observe(model, blocks, [(x[[sample]], label[None])], loss_of(multi_label), {Want.FISHER})
            expected += chance * one.layers[0].fisher.vo / 2
    loss = with_drawn_labels(loss_of(multi_label), multi_label=multi_label, seed=0)
    batches = ((x.repeat(100, 1, 1), None) for _ in range(times // 100))
    drawn = observe(model, blocks, batches, loss, {Want.FISHER}).layers[0].fisher.vo
    assert (drawn - expected).norm() / expected.norm() < 0.1
    # Labels that are merely likely give another number: the model's most probable ones.
    sure = (logits > 0).to(x.dtype) if multi_label else logits.argmax(1)
    likely = observe(model, blocks, [(x, sure)], loss_of(multi_label), {Want.FISHER}).layers[0].fisher.vo
    assert (likely - expected).norm() / expected.norm() > 0.2


def test_the_same_seed_draws_the_same_labels_and_needs_no_further_forward_pass():
    model, blocks, x, _ = build_case("dense", dtype=torch.float32)
    passes = []
    model.register_forward_hook(lambda *_: passes.append(1))

    def run(seed):
        loss = with_drawn_labels(loss_of(), multi_label=False, seed=seed)
        found = observe(model, blocks, [(x, None), (x, None)], loss, {Want.FISHER})
        return found.layers[0].fisher.vo

    assert torch.equal(run(0), run(0))
    assert not torch.equal(run(0), run(1))
    assert len(passes) == 4 * 2
