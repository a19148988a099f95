"""Inputs of extractive question answering models: a question with a part of its context, as in transformers' run_qa.py.

A context longer than the model's input is divided into overlapping windows, and each is its own sample. The target of a window is
where the first answer begins and ends in it, or the class token, the first token, if the answer is not in it. Shapes: T tokens of
one window.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from checkpoints.data.answers import Answer, answers_in
from checkpoints.families.text.text_encoder import WINDOW
from worker.engine.data.columns import row_error
from worker.engine.data.featurizers.base import SPANS, TARGETS, Value
from worker.engine.data.featurizers.texts import TYPE_IDS, TextFeaturizer, arrays
from worker.engine.data.settings import invalid

OVERLAP = 128 / WINDOW
"""Share of a window's tokens that the one before it has, too: 128 of 384, as in run_qa.py."""
LEAST_STEP = 1 / 6
"""Share of a window's tokens that the next one has not, at least: where a question leaves less room, its end is cut off."""
MAX_WINDOWS = 1000
"""Of one row. A quarter of a million tokens beside a short question; SQuAD's contexts make a few windows."""
BYTES = 4
"""Of a character in UTF-8: a tokenizer makes no more tokens of it, but for one that puts others in its place."""
OUTSIDE = -1
"""As the place of a token that is not of the context."""


class Question(NamedTuple):
    """A row."""

    text: str
    context: str
    answers: tuple[Answer, ...]


class QuestionFeaturizer(TextFeaturizer):
    """Rows that are pairs of a question and a context, of each one window or more.

    By window: input_ids, and token_type_ids for BERT, int64 [T]; TARGETS, int64 [4]: the first and the last token of the answer,
    the window's number and its question's; and SPANS, int32 [T, 2]: from which character of the context to which each token is,
    OUTSIDE for others. Windows and questions are numbered in the order in which they come.
    """

    def __init__(self, model_dir: Path) -> None:
        """Raises CONFIG_INVALID or CODE_REFUSED."""
        super().__init__(model_dir, words=False)
        if not getattr(self._tokenizer, "is_fast", False):
            raise invalid("the tokenizer cannot map tokens to positions in the text; a tokenizer.json is required")
        self._longest = min(self._longest, WINDOW)
        self._overlap = int(OVERLAP * self._longest)
        self._around = self._tokenizer.num_special_tokens_to_add(pair=True)
        self._most_of_question = self._longest - self._around - self._overlap - max(1, int(LEAST_STEP * self._longest))
        if self._most_of_question < 1:
            raise invalid(f"only {self._longest} tokens of a question with its context fit")
        self._questions = self._windows = 0

    def decode(self, value: Value, where: str) -> Question:
        """Raises DATASET_SCHEMA, naming `where`: a text is missing, empty or too long, or an answer is not in the context."""
        question, context = super().decode(value, where)
        try:
            # Spaces before a question would take room, and a tokenizer may drop them (run_qa.py).
            return Question(question.lstrip(), context, answers_in(value.asked, context))
        except ValueError as error:
            raise row_error(where, str(error)) from None

    def __call__(self, decoded: Sequence[Question], places: Sequence[str]) -> dict[str, Any]:
        """Raises CONFIG_INVALID where an id is outside the model's vocabulary, DATASET_SCHEMA for a row of too many windows."""
        asked = [self._short(question.text) for question in decoded]
        for text, question, where in zip(asked, decoded, places, strict=True):
            self._require_few(text, question.context, where)
        encoded = self._tokenizer(
            asked,
            [question.context for question in decoded],
            truncation="only_second",
            max_length=self._longest,
            stride=self._overlap,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            padding=False,
            return_attention_mask=False,
            return_token_type_ids=self._typed,
        )
        ids, rows = arrays(encoded["input_ids"]), encoded["overflow_to_sample_mapping"]
        self._check(ids, [places[row] for row in rows])
        spans = [self._spans(encoded, window) for window in range(len(ids))]
        targets = [
            np.array([*ends(span, decoded[row].answers), self._windows + window, self._questions + row], np.int64)
            for window, (span, row) in enumerate(zip(spans, rows, strict=True))
        ]
        self._windows += len(ids)
        self._questions += len(decoded)
        found: dict[str, Any] = {"input_ids": ids, TARGETS: targets, SPANS: spans}
        return found | ({TYPE_IDS: arrays(encoded[TYPE_IDS])} if self._typed else {})

    def _require_few(self, question: str, context: str, where: str) -> None:
        """Raises DATASET_SCHEMA where the row makes more than MAX_WINDOWS: before they are made, since they take gigabytes."""
        if len(context) * BYTES <= MAX_WINDOWS * int(LEAST_STEP * self._longest):
            return
        asked, read = (
            len(self._tokenizer(text, add_special_tokens=False)["input_ids"]) for text in (question, context)
        )
        room = self._longest - self._around - asked
        windows = 1 + max(0, -(-(read - room) // (room - self._overlap)))
        if windows > MAX_WINDOWS:
            reason = (
                f"the context's {read} tokens give {windows} windows of {self._longest} with the question; the "
                f"maximum is {MAX_WINDOWS}. Split the context into several rows"
            )
            raise row_error(where, reason)

    def _short(self, question: str) -> str:
        """The question, without its end where it has too many tokens."""
        while True:
            offsets = self._tokenizer(question, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
            if len(offsets) <= self._most_of_question:
                return question
            if not question:
                raise invalid("the tokenizer makes tokens of an empty text")
            # Shorter every time: a last space is for some tokenizers a token without a place before the end.
            question = question[: min(offsets[self._most_of_question][0], len(question) - 1)]

    @staticmethod
    def _spans(encoded: Any, window: int) -> NDArray[np.int32]:
        spans_T2 = np.asarray(encoded["offset_mapping"][window], np.int32).reshape(-1, 2)
        of_context_T = np.array([each == 1 for each in encoded.sequence_ids(window)])
        return np.where(of_context_T[:, None], spans_T2, np.int32(OUTSIDE))


def ends(spans_T2: NDArray[np.int32], answers: Sequence[Answer]) -> tuple[int, int]:
    """First and last token of the first answer, (0, 0) where there is none or it is not whole in the window."""
    places = np.flatnonzero(spans_T2[:, 0] != OUTSIDE)
    if not answers or not len(places):
        return 0, 0
    begin, end = answers[0].start, answers[0].start + len(answers[0].text)
    starts, stops = spans_T2[places].T
    if starts[0] > begin or stops[-1] < end:
        return 0, 0
    # Those that have a character of it: the first that ends behind its beginning, the last that begins before its end.
    first, last = np.searchsorted(stops, begin, "right"), np.searchsorted(starts, end, "left") - 1
    return (int(places[first]), int(places[last])) if first <= last else (0, 0)
