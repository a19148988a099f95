"""Questions with their contexts: the windows, where the answer is in them, and a whole data set of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer

from api_schemas.enums import Head, Modality, Split
from api_schemas.errors import ErrorCode, SecateurError
from checkpoints.data.answers import Answer
from tests.support.checkpoints import preprocessors
from tests.support.checkpoints.rows import ANSWERS, TEXT, read, write_split
from worker.engine.data.featurizers import questions
from worker.engine.data.featurizers.base import SPANS, TARGETS, Value
from worker.engine.data.featurizers.questions import QuestionFeaturizer, ends
from worker.engine.data.split import Ragged

SENTENCE = "ada lovelace sleeps in london. the good films"
LONG = " ".join([SENTENCE] * 12)
WINDOWS = {"bert": (64, 21), "electra": (64, 21), "distilbert": (64, 21), "roberta": (64, 21)}
"""Tokens, and how many of them the window before has as well: a third."""
NONE: dict[str, list[Any]] = {"text": [], "answer_start": []}


def answer(text: str, start: int) -> dict[str, list[Any]]:
    return {"text": [text], "answer_start": [start]}


def featurized(folder: Path, *rows: tuple[str, str, Any]) -> dict[str, Any]:
    made = QuestionFeaturizer(folder)
    places = [f"train[{number}]" for number in range(len(rows))]
    decoded = [
        made.decode(Value((question, context), False, asked), where)
        for (question, context, asked), where in zip(rows, places, strict=True)
    ]
    return made(decoded, places)


@pytest.mark.parametrize("kind", ["bert", "electra", "roberta", "distilbert"])
def test_windows_are_the_question_and_a_part_of_the_context(kind: str, tmp_path: Path) -> None:
    """Put together by hand from the tokens of each, with what the tokenizer puts around two of one token."""
    folder = preprocessors.write(kind, tmp_path)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    length, overlap = WINDOWS[kind]
    found = featurized(folder, ("  ada sleeps", LONG, NONE), ("a", "the film", NONE))

    def plain(text: str) -> tuple[list[int], list[tuple[int, int]]]:
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        return encoded["input_ids"], encoded["offset_mapping"]

    question, (context, offsets) = plain("ada sleeps")[0], plain(LONG)
    first, last = (
        getattr(tokenizer, f"{end}_token_id") for end in (("bos", "eos") if kind == "roberta" else ("cls", "sep"))
    )
    before = [first, *question, last, *([last] if kind == "roberta" else [])]
    room = length - len(before) - 1
    starts = [0]
    while starts[-1] + room < len(context):
        starts.append(starts[-1] + room - overlap)
    assert len(starts) > 2
    *windows, short = found["input_ids"]
    assert [window.tolist() for window in windows] == [[*before, *context[at : at + room], last] for at in starts]
    assert len(short) < length
    for window, at in enumerate(starts):
        inside = offsets[at : at + room]
        outside = [(-1, -1)]
        expected = [*outside * len(before), *map(tuple, inside), *outside]
        assert list(map(tuple, found[SPANS][window])) == expected
        if kind in ("bert", "electra"):
            assert found["token_type_ids"][window].tolist() == [0] * len(before) + [1] * (len(inside) + 1)
    assert ("token_type_ids" in found) == (kind in ("bert", "electra"))
    # Windows and questions are numbered.
    assert [row[2:].tolist() for row in found[TARGETS]] == [[n, 0] for n, _ in enumerate(starts)] + [[len(starts), 1]]


@pytest.mark.parametrize("kind", ["bert", "roberta"])
@pytest.mark.parametrize("which", [0, 5, 11])
def test_the_answer_is_asked_for_in_the_windows_that_have_it_whole(kind: str, which: int, tmp_path: Path) -> None:
    """Read back: the characters of the tokens from the first to the last, and in no other window the answer is whole."""
    folder = preprocessors.write(kind, tmp_path)
    start = [at for at in range(len(LONG)) if LONG.startswith("in london", at)][which]
    found = featurized(folder, ("ada", LONG, answer("in london", start)))
    seen = 0
    for spans, (first, last, *_) in zip(found[SPANS], found[TARGETS], strict=True):
        inside = spans[spans[:, 0] >= 0]
        whole = inside[0, 0] <= start and start + len("in london") <= inside[-1, 1]
        assert whole == ((first, last) != (0, 0))
        if whole:
            assert (spans[first, 0], spans[last, 1]) == (start, start + len("in london"))
            seen += 1
    assert 1 <= seen <= 2


@pytest.mark.parametrize("question", ["ada", "ada sleeps in london " * 20])
@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_a_row_of_too_many_windows_is_named(
    kind: str, question: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted before they are made, and rightly: with a limit of as many as there are the row is read."""
    folder = preprocessors.write(kind, tmp_path)
    made = len(featurized(folder, (question, LONG, NONE))["input_ids"])
    assert made > 2
    monkeypatch.setattr(questions, "MAX_WINDOWS", made)
    assert len(featurized(folder, (question, LONG, NONE))["input_ids"]) == made
    monkeypatch.setattr(questions, "MAX_WINDOWS", made - 1)
    with pytest.raises(
        SecateurError, match=rf"at train\[1\], the context's \d+ tokens give {made} windows of 64"
    ) as caught:
        featurized(folder, ("ada", "the film", NONE), (question, LONG, NONE))
    assert caught.value.code is ErrorCode.DATASET_SCHEMA
    assert f"the maximum is {made - 1}. Split the context" in caught.value.detail


def spans(*places: tuple[int, int]) -> np.ndarray:
    """Two tokens of a question, the context's, and a special one."""
    return np.array([(-1, -1), (-1, -1), *places, (-1, -1)], np.int32)


@pytest.mark.parametrize(
    ("places", "start", "text", "expected"),
    [
        (((0, 3), (4, 7), (8, 12)), 4, "abc", (3, 3)),
        (((0, 3), (4, 7), (8, 12)), 4, "abc abcd", (3, 4)),
        (((0, 3), (4, 7), (8, 12)), 9, "bc", (4, 4)),  # inside of a token
        (((0, 3), (4, 7), (8, 12)), 3, " abc ", (3, 3)),  # white space around it is nobody's
        (((0, 1), (0, 1), (0, 1), (2, 5)), 0, "a", (2, 4)),  # tokens of one sign together
        (((4, 7), (8, 12)), 2, "a abc", (0, 0)),  # it begins before the window
        (((4, 7), (8, 12)), 8, "abcde", (0, 0)),  # it ends behind it
        (((0, 1), (6, 8)), 2, "abc", (0, 0)),  # the tokenizer has left it out
        ((), 0, "abc", (0, 0)),
    ],
)
def test_ends(places: Any, start: int, text: str, expected: tuple[int, int]) -> None:
    assert ends(spans(*places), (Answer(text, start), Answer("other", 0))) == expected


def test_of_no_answer_the_class_token_is_asked_for() -> None:
    assert ends(spans((0, 3)), ()) == (0, 0)


@pytest.mark.parametrize("question", ["ada " * 90, "😀" * 40, "x" * 3000])
@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_a_long_question_leaves_room_for_the_context(kind: str, question: str, tmp_path: Path) -> None:
    folder = preprocessors.write(kind, tmp_path)
    found = featurized(folder, (question, LONG, answer("ada", 0)))
    assert all(len(ids) <= 64 for ids in found["input_ids"])
    read_in_all = np.concatenate([span[span[:, 0] >= 0] for span in found[SPANS]])
    assert {*range(len(LONG))} - {at for start, stop in read_in_all for at in range(start, stop)} == {
        at for at, sign in enumerate(LONG) if sign == " "
    }
    assert len(found["input_ids"]) < 30


def test_a_data_set_of_questions(tmp_path: Path) -> None:
    folder = preprocessors.write("bert", tmp_path / "model")
    rows = [
        {"question": "ada", "context": SENTENCE, "answers": answer("london", 23)},
        {"question": "the good", "context": LONG, "answers": answer("ada", 0)},
        {"question": "a bad film", "context": SENTENCE, "answers": NONE},
    ]
    features = {"question": TEXT, "context": TEXT, "answers": ANSWERS, "id": TEXT}
    for split, count in (("train", 3), ("validation", 2), ("test", 3)):
        write_split(tmp_path / "data" / f"{split}.parquet", features, [{**row, "id": "x"} for row in rows[:count]])
    found = read(tmp_path / "data", folder, Modality.TEXT, Head.QUESTION_ANSWERING)
    summary, questions = found.summary, found.questions
    assert summary.samples == {"train": 3, "validation": 2, "test": 3}
    assert summary.unanswerable == {"train": 1, "validation": 0, "test": 1}
    windows = summary.windows["train"] - 2
    assert windows > 2
    assert summary.windows == {"train": windows + 2, "validation": windows + 1, "test": windows + 2}
    assert {split: len(each) for split, each in found.splits.items()} == summary.windows
    assert questions is not None
    assert questions.unanswerable
    numbers = []
    for split in Split:
        targets = found.splits[split].targets
        assert isinstance(targets, Ragged)
        for row in range(len(targets)):
            first, last, window, question = targets.row(row).tolist()
            numbers.append((window, question))
            asked, places = questions.asked(question), questions.spans(window)
            ids = found.splits[split].inputs["input_ids"]
            assert isinstance(ids, Ragged)
            assert len(ids.row(row)) == len(places)
            if first:
                assert asked.context[places[first, 0] : places[last, 1]] == asked.answers[0]
    assert [window for window, _ in numbers] == list(range(sum(summary.windows.values())))
    assert sorted({question for _, question in numbers}) == list(range(8))


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"answers": answer("paris", 0)}, "test[1], the answer 'paris' does not start at character 0"),
        ({"answers": None}, "test[1], the question's answers are missing"),
        ({"context": None}, "test[1], the context is missing"),
        ({"context": "", "answers": NONE}, "the text at test[1] is null or empty"),
        ({"question": ""}, "the text at test[1] is null or empty"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(row: dict[str, Any], said: str, tmp_path: Path) -> None:
    folder = preprocessors.write("bert", tmp_path / "model")
    good = {"question": "ada", "context": SENTENCE, "answers": answer("london", 23)}
    for split in ("train", "validation", "test"):
        rows = [good, {**good, **row}] if split == "test" else [good]
        write_split(
            tmp_path / "data" / f"{split}.parquet", {"question": TEXT, "context": TEXT, "answers": ANSWERS}, rows
        )
    with pytest.raises(SecateurError) as caught:
        read(tmp_path / "data", folder, Modality.TEXT, Head.QUESTION_ANSWERING)
    assert caught.value.code is ErrorCode.DATASET_SCHEMA
    assert said in caught.value.detail


def test_a_model_of_too_few_positions_is_refused(tmp_path: Path) -> None:
    folder = preprocessors.write("bert", tmp_path, max_position_embeddings=5)
    with pytest.raises(SecateurError, match="only 5 tokens of a question") as caught:
        QuestionFeaturizer(folder)
    assert caught.value.code is ErrorCode.CONFIG_INVALID
