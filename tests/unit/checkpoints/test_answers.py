"""Answers to questions: both forms, and each looked for where it is said to be."""

from typing import Any

import pytest

from checkpoints.data.answers import Answer, answers_in, has_answer, in_lists
from checkpoints.data.missing_labels import is_missing

CONTEXT = "Ada Lovelace slept in London. Ada woke."


@pytest.mark.parametrize(
    "value",
    [
        {"text": ["London", "in London"], "answer_start": [22, 19]},
        [{"text": "London", "answer_start": 22}, {"text": "in London", "answer_start": 19, "id": 7}],
        {"text": ["London", "in London"], "answer_start": [22, 19], "answer_end": [28, 28]},
    ],
)
def test_both_forms_say_the_same(value: Any) -> None:
    assert answers_in(value, CONTEXT) == (Answer("London", 22), Answer("in London", 19))
    assert in_lists(value) == {"text": ["London", "in London"], "answer_start": [22, 19]}
    assert has_answer(value)
    assert not is_missing(value)


@pytest.mark.parametrize(
    "value", [{"text": [], "answer_start": []}, [], {"text": None, "answer_start": None}, {"text": []}]
)
def test_no_answer_is_an_empty_list(value: Any) -> None:
    assert answers_in(value, CONTEXT) == ()
    assert not has_answer(value)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "answers are missing"),
        ("London", "answers must be lists"),
        (["London"], "answers must be lists"),
        ({"text": "London", "answer_start": 22}, "answers must be lists"),
        ({"text": ["London"], "answer_start": []}, "1 answers, but 0 start positions"),
        ({"text": [""], "answer_start": [0]}, "missing or empty"),
        ({"text": ["  "], "answer_start": [0]}, "missing or empty"),
        ({"text": [None], "answer_start": [0]}, "missing or empty"),
        ({"text": ["Ada"], "answer_start": [None]}, "no `answer_start`"),
        ({"text": ["Ada"], "answer_start": [True]}, "no `answer_start`"),
        ({"text": ["London"], "answer_start": [21]}, "the context has ' Londo' there, and the answer is at 22"),
        (
            {"text": ["Paris"], "answer_start": [22]},
            "the context has 'Londo' there, and the answer is not in the context",
        ),
        ({"text": ["woke."], "answer_start": [-5]}, "the context has '' there, and the answer is at 34"),
        ({"text": ["wok"], "answer_start": [-5]}, "the context has '' there, and the answer is at 34"),
        ({"text": ["woke."], "answer_start": [10**12]}, "the context has '' there, and the answer is at 34"),
        ({"text": ["woke.."], "answer_start": [34]}, "the answer is not in the context"),
        ([{"text": "Ada", "answer_start": 0}, {"text": "Ada"}], "no `answer_start`"),
        ([{"text": "Ada", "answer_start": 0}] * 101, "101 answers; the maximum is 100"),
    ],
)
def test_what_is_wrong_is_said(value: Any, said: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        answers_in(value, CONTEXT)
    assert said in str(caught.value)


def test_an_answer_may_stand_there_twice() -> None:
    assert answers_in([{"text": "Ada", "answer_start": 30}], CONTEXT) == (Answer("Ada", 30),)
