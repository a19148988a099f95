"""Token classification: against transformers, scikit-learn, and all labels enumerated."""

import itertools

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score

from tests.unit.engine.tasks.models import bert
from worker.engine.data.split import FeatureSplit, Ragged
from worker.engine.evaluate import evaluate
from worker.engine.tasks.masked import MaskedLm
from worker.engine.tasks.tokens import TokenClassification, TokenTask

TASK, CPU = TokenClassification(), torch.device("cpu")


def tagged(lengths: list[int], seed: int = 0) -> FeatureSplit:
    """First and last token of each row are special ones without a label; the last row has no label at all."""
    random = np.random.default_rng(seed)
    tags = [random.integers(0, 3, length) for length in lengths]
    for row in tags:
        row[[0, -1]] = -100
    tags[-1][:] = -100
    return FeatureSplit({"input_ids": Ragged.of([random.integers(0, 20, n) for n in lengths])}, Ragged.of(tags))


def test_a_samples_loss_is_the_models_own_for_it_alone() -> None:
    model, split = bert(), tagged([6, 6, 6])
    inputs, targets = split.batch([0, 1, 2])
    with torch.no_grad():
        losses = TASK.loss(TASK.outputs(model, inputs), targets)
        for row in range(2):
            alone = {name: tensor[[row]] for name, tensor in inputs.items()}
            torch.testing.assert_close(losses[row], model(**alone, labels=targets[[row]]).loss)
    assert losses[2] == 0.0


def test_the_measured_loss_is_that_of_float64_to_seven_digits() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 20 * torch.randn(3, 5, 5000, generator=generator)
    targets = torch.randint(0, 5000, (3, 5), generator=generator)
    targets[0, 3:] = targets[2] = -100
    measured = TASK.measured_loss(logits, targets)
    assert measured.dtype == torch.float64
    torch.testing.assert_close(measured, TASK.loss(logits.double(), targets), rtol=1e-6, atol=0)
    assert measured[2] == 0.0
    low = TASK.measured_loss(logits.bfloat16(), targets)
    torch.testing.assert_close(low, TASK.loss(logits.bfloat16().double(), targets), rtol=1e-6, atol=0)


def test_scores_are_those_of_all_labelled_tokens_whatever_the_batches() -> None:
    model, split = bert(), tagged([6, 4, 6, 9, 4, 6, 9, 4])
    found = [evaluate(model, split, TASK, batch_size=size, device=CPU) for size in (1, 3)]
    true, predicted, losses = [], [], []
    for row in range(len(split)):
        inputs, targets = split.batch([row])
        with torch.no_grad():
            logits = model(**inputs).logits
        losses.append(float(TASK.loss(logits.double(), targets)))
        asked = targets[0] != -100
        true += targets[0][asked].tolist()
        predicted += logits[0].argmax(-1)[asked].tolist()
    for scores in found:
        assert scores.samples == len(split)
        assert scores.token_accuracy == pytest.approx(accuracy_score(true, predicted))
        assert scores.macro_f1 == pytest.approx(f1_score(true, predicted, average="macro"))
        assert scores.cross_entropy == pytest.approx(np.mean(losses), abs=1e-6)
        assert scores.accuracy is None
        assert scores.metric == scores.token_accuracy


@pytest.mark.parametrize("task", [TASK, MaskedLm()], ids=lambda task: task.head)
def test_own_labels_have_the_covariance_that_enumerating_them_gives(task: TokenTask) -> None:
    """Two of three tokens count, three classes: nine labellings, each as likely as its tokens' labels together."""
    logits = torch.tensor([[[2.0, 0, -1], [0.5, 0.1, 0], [-1.0, 1, 0.3]]], dtype=torch.float64)
    counts, draws = torch.tensor([[1, -100, 2]]), 40_000
    expected = torch.zeros(9, 9, dtype=torch.float64)
    p = logits[0].softmax(-1)
    for first, last in itertools.product(range(3), repeat=2):
        answers = logits.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(task.loss(answers, torch.tensor([[first, -100, last]])).sum(), answers)
        expected += p[0, first] * p[2, last] * torch.outer(gradient.flatten(), gradient.flatten())
    answers = logits.repeat(draws, 1, 1).requires_grad_()
    (gradients,) = torch.autograd.grad(task.sampled_label_loss(0)(answers, counts.repeat(draws, 1)).sum(), answers)
    flat = gradients.flatten(1)
    assert (flat.T @ flat / draws - expected).abs().max() < 0.02 * expected.abs().max()
    assert flat.mean(0).abs().max() < 0.02 * expected.diagonal().max().sqrt()
    assert not gradients[:, 1].any()


def test_divergence_is_the_mean_over_tokens() -> None:
    student, teacher = torch.randn(2, 2, 4, 3, generator=torch.Generator().manual_seed(0)).double()
    kl = torch.nn.functional.kl_div(
        (student / 2).log_softmax(-1).flatten(0, 1), (teacher / 2).softmax(-1).flatten(0, 1), reduction="batchmean"
    )
    torch.testing.assert_close(TASK.divergence(student, teacher, 2.0, torch.empty(0)), kl)


def test_agreement_is_the_share_of_tokens() -> None:
    reference = torch.eye(3)[None].repeat(2, 1, 1)
    other = reference.clone()
    other[1, 0] = torch.tensor([0.0, 0.0, 5.0])
    assert TASK.agreement(other, reference).tolist() == [1.0, pytest.approx(2 / 3)]
