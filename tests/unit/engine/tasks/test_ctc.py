"""CTC: against transformers' own loss, and against all paths enumerated."""

import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from torchaudio.functional import edit_distance

from tests.unit.engine.tasks.models import ctc, spell
from worker.engine.data.split import FeatureSplit, Ragged
from worker.engine.evaluate import evaluate
from worker.engine.tasks.ctc import Ctc, collapsed

TASK, CPU = Ctc(blank=0, decode=spell), torch.device("cpu")


def collapse(path: tuple[int, ...]) -> tuple[int, ...]:
    """By its definition: runs of one id are one, then blanks go."""
    return tuple(number for number, _ in itertools.groupby(path) if number != 0)


def probabilities(logits_TV: torch.Tensor) -> dict[tuple[int, ...], float]:
    """p(text | input) of every text: the sum over all paths that collapse to it."""
    p = logits_TV.double().softmax(-1)
    found: Counter[tuple[int, ...]] = Counter()
    for path in itertools.product(range(p.shape[1]), repeat=len(p)):
        found[collapse(path)] += float(torch.stack([p[t, v] for t, v in enumerate(path)]).prod())
    return dict(found)


def spoken(texts: list[list[int]], samples: int = 50) -> FeatureSplit:
    random = np.random.default_rng(0)
    sound = Ragged.of([random.normal(size=samples + 5 * (row % 2)).astype(np.float32) for row in range(len(texts))])
    return FeatureSplit({"input_values": sound}, Ragged.of([np.array(text, np.int64) for text in texts]))


@pytest.mark.parametrize("path", list(itertools.product(range(3), repeat=4)))
def test_collapsing(path: tuple[int, ...]) -> None:
    row = collapsed(torch.tensor([path]), 0)[0].tolist()
    expected = list(collapse(path))
    assert row == expected + [-100] * (4 - len(expected))


def test_the_loss_is_minus_the_logarithm_of_all_paths_together() -> None:
    logits = torch.randn(1, 4, 3, generator=torch.Generator().manual_seed(0))
    for text, p in probabilities(logits[0]).items():
        targets = torch.tensor([[*text, -100, -100]])
        expected = -np.log(p) / max(1, len(text))
        assert float(TASK.loss(logits, targets)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_it_is_the_models_own(reduction: str) -> None:
    model = ctc(reduction)
    inputs, targets = spoken([[1, 2, 2, 3], [], [4, 1], [], [1, 5, 2]]).batch([0, 2, 4])
    with torch.no_grad():
        losses = TASK.loss(TASK.outputs(model, inputs), targets)
        expected = model(**inputs, labels=targets).loss
    lengths = torch.tensor([4.0, 2.0, 3.0])
    torch.testing.assert_close(losses.mean() if reduction == "mean" else (losses * lengths).sum(), expected)


def test_own_labels_are_drawn_as_the_model_would_say_them() -> None:
    """The mean of a gradient's square over draws is that over all texts, each as likely as the model has it."""
    logits = torch.randn(1, 3, 3, generator=torch.Generator().manual_seed(3)).double()
    expected = torch.zeros(9, 9, dtype=torch.float64)
    for text, p in probabilities(logits[0]).items():
        answers = logits.clone().requires_grad_()
        targets = torch.tensor([[*text, *[-100] * (3 - len(text))]])
        (gradient,) = torch.autograd.grad(TASK.loss(answers, targets).sum(), answers)
        expected += p * torch.outer(gradient.flatten(), gradient.flatten())
    draws = 40_000
    answers = logits.repeat(draws, 1, 1).requires_grad_()
    (gradients,) = torch.autograd.grad(TASK.sampled_label_loss(0)(answers, None).sum(), answers)
    flat = gradients.flatten(1)
    assert (flat.T @ flat / draws - expected).abs().max() < 0.03 * expected.abs().max()
    (again,) = torch.autograd.grad(TASK.sampled_label_loss(0)(answers, None).sum(), answers)
    assert torch.equal(gradients, again)


def test_error_rates_are_of_what_is_said_greedily() -> None:
    model, split = ctc(), spoken([[1, 2, 2, 3], [1, 5, 2], [4, 1], [3, 3], [1, 5, 2, 5, 1]])
    words = letters = all_words = all_letters = 0
    losses = []
    for row in range(len(split)):
        inputs, targets = split.batch([row])
        with torch.no_grad():
            answers = model(**inputs).logits
        losses.append(float(TASK.loss(answers.double(), targets)))
        given, wanted = spell(list(collapse(tuple(answers[0].argmax(-1).tolist())))), spell(targets[0].tolist())
        words += edit_distance(given.split(), wanted.split())
        letters += edit_distance(" ".join(given.split()), " ".join(wanted.split()))
        all_words, all_letters = all_words + len(wanted.split()), all_letters + len(" ".join(wanted.split()))
    scores = evaluate(model, split, TASK, batch_size=2, device=CPU)
    assert scores.word_error_rate == pytest.approx(words / all_words)
    assert scores.character_error_rate == pytest.approx(letters / all_letters)
    assert scores.cross_entropy == pytest.approx(np.mean(losses), abs=1e-6)
    assert scores.metric == pytest.approx(1 - min(1, words / all_words))


def test_a_text_that_fits_no_alignment_is_infinitely_unlikely() -> None:
    """Nine frames hold seven ids and two blanks between equal ones, and no more. Nothing makes a zero of it."""
    model = ctc()
    inputs, targets = spoken([[1, 1, 2, 3, 3, 4, 5], [1], [1, 1, 2, 2, 3, 3, 4]]).batch([0, 2])
    losses = TASK.loss(TASK.outputs(model, inputs), targets)
    assert torch.isfinite(losses).tolist() == [True, False]


def test_agreement_is_the_same_text() -> None:
    def path(*ids: int) -> torch.Tensor:
        return torch.eye(6)[torch.tensor(ids)]

    reference, other = torch.stack([path(1, 1, 0), path(1, 2, 2)]), torch.stack([path(0, 1, 1), path(1, 2, 3)])
    assert TASK.agreement(other, reference).tolist() == [1.0, 0.0]


def test_a_device_is_waited_for_once_however_many_batches_there_are(monkeypatch):
    """Each time a tensor is asked for a truth value, or brought to the CPU, the host waits for a GPU."""
    waits = []
    for batches in (2, 5):
        accumulator = Ctc(blank=0, decode=lambda ids: " ".join(map(str, ids))).accumulator()
        for number in range(batches):
            accumulator.add(torch.tensor([number]), torch.randn(1, 7 + number, 5), torch.tensor([[1, 2, -100]]))
        counted = []
        with monkeypatch.context() as patch:
            for name in ("__bool__", "cpu", "item"):
                own = getattr(torch.Tensor, name)
                patch.setattr(
                    torch.Tensor, name, lambda *args, own=own, counted=counted: counted.append(1) or own(*args)
                )
            accumulator.scores()
        waits.append(len(counted))
    assert waits[0] == waits[1] > 0
