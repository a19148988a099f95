"""Question answering: against transformers' own loss, a plain search for the best answer, SQuAD's numbers worked out by hand."""

from collections.abc import Sequence
from itertools import product
from typing import cast

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import BertForQuestionAnswering

from tests.unit.engine.tasks.models import bert
from worker.engine.data.questions import Asked, Questions
from worker.engine.data.split import FeatureSplit, Ragged
from worker.engine.evaluate import evaluate
from worker.engine.tasks import squad
from worker.engine.tasks.question_answering import QuestionAnswering

CPU = torch.device("cpu")
CONTEXT = "ada love london in the film good bad sleep ada"


class Fixed:
    """Six windows of three questions, of which the second has three windows and the third no answer."""

    def __init__(self, unanswerable: bool) -> None:
        self.unanswerable = unanswerable
        starts = [at for at in range(len(CONTEXT)) if at == 0 or CONTEXT[at - 1] == " "]
        words = [(at, (CONTEXT + " ").index(" ", at)) for at in starts]
        lengths = [(0, 6), (0, 6), (3, 9), (6, 10), (0, 4), (4, 10)]
        # A question of two tokens between special ones.
        self.places = [np.array([(-1, -1)] * 4 + words[a:b] + [(-1, -1)], np.int32) for a, b in lengths]

    def spans(self, window: int) -> np.ndarray:
        return self.places[window]

    def asked(self, question: int) -> Asked:
        return Asked(CONTEXT, [("london",), ("the film", "film good"), ()][question])


def task(*, unanswerable: bool = False) -> QuestionAnswering:
    return QuestionAnswering(cast(Questions, Fixed(unanswerable)))


def windows(seed: int = 0) -> FeatureSplit:
    random, fixed = np.random.default_rng(seed), Fixed(False)
    ids = [random.integers(0, 20, len(places)) for places in fixed.places]
    asked = [(6, 6), (8, 9), (5, 6), (0, 0), (0, 0), (0, 0)]
    questions = [0, 1, 1, 1, 2, 2]
    targets = [np.array([*ends, n, q]) for n, (ends, q) in enumerate(zip(asked, questions, strict=True))]
    return FeatureSplit({"input_ids": Ragged.of(ids)}, Ragged.of(targets))


def test_a_windows_loss_is_the_models_own() -> None:
    model, split = bert(BertForQuestionAnswering, 2), windows()
    for row in range(len(split)):
        inputs, targets = split.batch([row])
        with torch.no_grad():
            own = model(**inputs, start_positions=targets[:, 0], end_positions=targets[:, 1]).loss
            torch.testing.assert_close(task().loss(task().outputs(model, inputs), targets), own[None])


def test_answers_are_start_and_end_logits() -> None:
    model = bert(BertForQuestionAnswering, 2)
    inputs, _ = windows().batch([0, 1])
    with torch.no_grad():
        output, (start, end) = model(**inputs), task().parts(model, inputs)
        both = task().outputs(model, inputs)
    assert task().outputs_called == ("start_logits", "end_logits")
    for place, (name, part) in enumerate(zip(task().outputs_called, (start, end), strict=True)):
        assert torch.equal(part, output[name])
        assert torch.equal(both[:, place], output[name])


def searched(logits: Sequence[np.ndarray], numbers: Sequence[int], unanswerable: bool) -> str:
    """Every pair of tokens, one after the other."""
    fixed, found, none = Fixed(unanswerable), [], []
    for number in numbers:
        start, end = logits[number]
        none.append(start[0] + end[0])
        best_starts, best_ends = ({*np.argsort(each)[-20:]} for each in (start, end))
        for first, last in product(range(len(start)), repeat=2):
            places = fixed.places[number][first][0], fixed.places[number][last][1]
            if min(places) >= 0 and first <= last < first + 30 and first in best_starts and last in best_ends:
                found.append((start[first] + end[last], CONTEXT[places[0] : places[1]]))
    score, text = max(found)
    return "" if unanswerable and min(none) > score else text


@pytest.mark.parametrize("unanswerable", [False, True])
def test_scores_are_of_each_questions_best_answer_whatever_the_batches(unanswerable: bool) -> None:
    said = set()
    for seed in range(12):
        model, split = bert(BertForQuestionAnswering, 2), windows(seed)
        with torch.no_grad():
            model.qa_outputs.weight.mul_(3 if seed % 2 else -3)
            batches = [split.batch([row]) for row in range(len(split))]
            logits = [np.stack([model(**i).start_logits[0], model(**i).end_logits[0]]) for i, _ in batches]
            losses = [model(**i, start_positions=t[:, 0], end_positions=t[:, 1]).loss for i, t in batches]
        marks = []
        for question, numbers in enumerate(([0], [1, 2, 3], [4, 5])):
            given = searched(logits, numbers, unanswerable)
            said.add(given)
            marks.append(squad.against(given, Fixed(False).asked(question).answers))
        for size in (1, 4):
            scores = evaluate(model, split, task(unanswerable=unanswerable), batch_size=size, device=CPU)
            assert (scores.exact_match, scores.f1) == pytest.approx(tuple(np.mean(marks, axis=0)))
            assert scores.samples == 3
            assert scores.cross_entropy == pytest.approx(float(torch.stack(losses).mean()), rel=1e-5)
            assert scores.headline is not None
            assert (scores.headline.name, scores.headline.value) == ("F1", scores.f1)
            assert scores.metric == scores.f1
    assert len(said) > 8
    assert ("" in said) == unanswerable


def ends(start: list[float], end: list[float], spans: list[tuple[int, int]]) -> squad.Ends:
    first, last = np.argsort(start)[::-1][:20].copy(), np.argsort(end)[::-1][:20].copy()
    logits = np.array(start), np.array(end)
    return squad.Ends(first, logits[0][first], last, logits[1][last], start[0] + end[0], np.array(spans, np.int32))


def test_an_answer_has_thirty_tokens_at_most_and_none_outside_the_context() -> None:
    context = "".join(chr(97 + number % 26) for number in range(40))
    spans = [(-1, -1), *((at, at + 1) for at in range(40)), (-1, -1)]
    start, end = np.full(42, -9.0), np.full(42, -9.0)
    start[[0, 1, 11]], end[[0, 31, 40, 41]] = (9, 3, 2), (9, 2, 3, 8)
    window = ends(list(start), list(end), spans)
    # 3 + 3 would be forty tokens, 3 + 2 thirty-one; the special tokens are no place.
    assert squad.best_answer(context, [window], unanswerable=False) == context[10:40]
    assert squad.best_answer(context, [window], unanswerable=True) == ""
    # The window that has least to say for there being none decides.
    other = ends([-20.0, 0.0], [-20.0, 0.0], [(-1, -1), (3, 4)])
    assert squad.best_answer(context, [window, other], unanswerable=True) == context[10:40]


def test_where_nothing_can_be_an_answer_there_is_none() -> None:
    window = ends([1.0, 2.0], [1.0, 2.0], [(-1, -1), (-1, -1)])
    assert squad.best_answer("ada", [window], unanswerable=False) == ""


@pytest.mark.parametrize(
    ("given", "wanted", "exact", "f1"),
    [
        # Of SQuAD 1.1's question "Which NFL team represented the AFC at Super Bowl 50?"
        ("Denver Broncos", ["Denver Broncos", "Denver Broncos", "Denver Broncos"], 1, 1),
        ("the Denver Broncos!", ["Denver Broncos"], 1, 1),
        ("Denver  BRONCOS", ["denver broncos."], 1, 1),
        # Two words of three, both wanted ones: precision 2/3, recall 1.
        ("Denver Broncos won", ["the Denver Broncos"], 0, 0.8),
        # The nearest of the wanted: one of two words against one of one.
        ("Santa Clara, California", ["Levi's Stadium", "Clara", "Santa Clara"], 0, 0.8),
        # A word counts as often as both have it: 2 of 3 and 2 of 2.
        ("to be to", ["to to"], 0, 0.8),
        ("Carolina Panthers", ["Denver Broncos"], 0, 0),
        # What is joined by punctuation becomes one word.
        ("co-operate", ["cooperate"], 1, 1),
        ("", [], 1, 1),
        ("Denver", [], 0, 0),
        ("", ["Denver"], 0, 0),
        ("the", ["The", "Denver"], 0, 0),  # nothing is left of the first, which counts for nothing
        ("an", ["The"], 1, 1),
    ],
)
def test_against_the_official_scripts_numbers(given: str, wanted: list[str], exact: float, f1: float) -> None:
    assert squad.against(given, wanted) == pytest.approx((exact, f1))


def test_divergence_is_of_both_ends() -> None:
    student, teacher = torch.randn(2, 3, 2, 5, generator=torch.Generator().manual_seed(0)).double()
    by_end = [
        F.kl_div((student[:, end] / 2).log_softmax(-1), (teacher[:, end] / 2).softmax(-1), reduction="batchmean")
        for end in (0, 1)
    ]
    targets = torch.zeros(3, 4, dtype=torch.long)
    torch.testing.assert_close(task().divergence(student, teacher, 2.0, targets), sum(by_end) / 2)


def test_drawn_gradients_are_of_the_models_own_distribution() -> None:
    """Their covariance is that of p − y at either end, halved as the loss is, and ends know nothing of each other."""
    answers = torch.tensor([[[1.0, 0.0, -1.0], [0.5, 2.0, 0.0]]]).repeat(20_000, 1, 1).requires_grad_()
    loss = task().sampled_label_loss(3)(answers, torch.zeros(len(answers), 4, dtype=torch.long))
    (drawn,) = torch.autograd.grad(loss.sum(), answers)
    p = answers[0].detach().softmax(-1)
    expected = torch.block_diag(*(each.diag() - each.outer(each) for each in p)) / 4
    torch.testing.assert_close(drawn.flatten(1).T @ drawn.flatten(1) / len(drawn), expected, atol=4e-3, rtol=0)
    assert drawn.mean(0).abs().max() < 0.01


def test_agreement_is_at_both_ends() -> None:
    reference = torch.tensor([[[0.0, 1.0], [1.0, 0.0]]]).repeat(3, 1, 1)
    answers = torch.tensor([[[0.0, 2.0], [1.0, 0.5]], [[3.0, 2.0], [1.0, 0.5]], [[0.0, 2.0], [0.0, 0.5]]])
    assert task().agreement(answers, reference).tolist() == [1.0, 0.0, 0.0]
