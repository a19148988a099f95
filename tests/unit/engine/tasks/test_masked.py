"""Masked words: against transformers' own loss and torch's divergence."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import BertForMaskedLM

from tests.unit.engine.tasks.models import bert
from worker.engine.data.split import FeatureSplit, Ragged
from worker.engine.evaluate import evaluate
from worker.engine.tasks.masked import MaskedLm

TASK, CPU = MaskedLm(), torch.device("cpu")


def texts(lengths: list[int], seed: int = 0) -> FeatureSplit:
    """One to three tokens of each row are asked for; nothing is of the last."""
    random = np.random.default_rng(seed)
    ids = [random.integers(0, 20, length) for length in lengths]
    wanted = [np.full(length, -100) for length in lengths]
    for row, found in enumerate(wanted[:-1]):
        places = random.choice(len(found), 1 + row % 3, replace=False)
        found[places] = random.integers(0, 20, len(places))
    return FeatureSplit({"input_ids": Ragged.of(ids)}, Ragged.of(wanted))


def test_a_samples_loss_is_the_models_own_for_it_alone() -> None:
    model, split = bert(BertForMaskedLM), texts([6, 6, 6, 6])
    inputs, targets = split.batch([0, 1, 2, 3])
    answers = TASK.outputs(model, inputs).requires_grad_()
    losses = TASK.loss(answers, targets)
    for row in range(3):
        alone = {name: tensor[[row]] for name, tensor in inputs.items()}
        torch.testing.assert_close(losses[row], model(**alone, labels=targets[[row]]).loss)
    assert losses[3] == 0.0
    (gradient,) = torch.autograd.grad(losses.mean(), answers)
    assert gradient[targets != -100].any(-1).all()
    assert not gradient[targets == -100].any()


def test_scores_are_those_of_all_masked_tokens_whatever_the_batches() -> None:
    model, split = bert(BertForMaskedLM), texts([6, 4, 6, 9, 4, 6, 9, 4])
    by_token, hits, losses = [], [], []
    for row in range(len(split)):
        inputs, targets = split.batch([row])
        with torch.no_grad():
            logits = model(**inputs).logits
        asked = targets != -100
        each = F.cross_entropy(logits[asked], targets[asked], reduction="none")
        by_token += each.tolist()
        hits += (logits.argmax(-1) == targets)[asked].tolist()
        losses.append(float(each.mean()) if len(each) else 0.0)
    for size in (1, 3):
        scores = evaluate(model, split, TASK, batch_size=size, device=CPU)
        assert scores.samples == len(split)
        assert scores.masked_accuracy == scores.metric == pytest.approx(np.mean(hits))
        assert scores.perplexity == pytest.approx(np.exp(np.mean(by_token)), rel=1e-5)
        assert scores.cross_entropy == pytest.approx(np.mean(losses), rel=1e-5)
        assert scores.token_accuracy is None
        assert scores.headline is not None
        assert scores.headline.name == "masked token accuracy"


def test_nothing_asked_is_no_accuracy_and_a_hopeless_model_no_perplexity() -> None:
    accumulator = TASK.accumulator()
    accumulator.add(torch.tensor([0]), torch.zeros(1, 3, 4), torch.full((1, 3), -100))
    scores = accumulator.scores()
    assert (scores.masked_accuracy, scores.perplexity, scores.metric) == (None, None, None)
    accumulator = TASK.accumulator()
    accumulator.add(torch.tensor([0]), torch.tensor([[[2000.0, 0.0]]]), torch.tensor([[1]]))
    assert accumulator.scores().perplexity is None
    assert accumulator.scores().cross_entropy == pytest.approx(2000.0)


def test_divergence_is_of_masked_tokens_alone() -> None:
    student, teacher = torch.randn(2, 2, 4, 3, generator=torch.Generator().manual_seed(0)).double()
    targets = torch.tensor([[0, -100, 1, -100], [-100, -100, -100, 2]])

    def kl(row: int, token: int) -> torch.Tensor:
        log_student, at = (student[row, token] / 2).log_softmax(-1), (teacher[row, token] / 2).softmax(-1)
        return F.kl_div(log_student, at, reduction="sum")

    expected = ((kl(0, 0) + kl(0, 2)) / 2 + kl(1, 3)) / 2
    torch.testing.assert_close(TASK.divergence(student, teacher, 2.0, targets), expected)
