"""What scoring of questions needs: their contexts, the correct answers, and the position of each window token in the context.

Written beside the inputs, one file of questions and one of positions per role; read when something is scored.
"""

import json
from bisect import bisect_right
from collections.abc import Iterable
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from api_schemas.enums import Split
from checkpoints.data.answers import answers_in
from worker.engine.data import column_files
from worker.engine.data.featurizers.base import SPANS


class Asked(NamedTuple):
    """A question's context, and the texts that are right answers: none where it has none."""

    context: str
    answers: tuple[str, ...]


class Questions:
    """Of all roles, numbered as `QuestionFeaturizer` numbers them: in the order of roles, then of rows and windows."""

    def __init__(self, folder: Path, *, unanswerable: bool) -> None:
        """`unanswerable`: whether any question of the data has no answer, so that none may be the answer to others, too."""
        self.unanswerable = unanswerable
        self._folder = folder
        self._spans = [column_files.read_column(folder, split.value, SPANS) for split in Split]
        self._starts = list(accumulate(map(len, self._spans), initial=0))

    def spans(self, window: int) -> NDArray[np.int32]:
        """[T, 2], see QuestionFeaturizer."""
        role = bisect_right(self._starts, window) - 1
        return self._spans[role].row(window - self._starts[role])

    def asked(self, question: int) -> Asked:
        return self._asked[question]

    @cached_property
    def _asked(self) -> list[Asked]:
        lines = (line for split in Split for line in _path(self._folder, split).open(encoding="utf-8"))
        return [Asked(context, tuple(answers)) for context, answers in map(json.loads, lines)]


def write_questions(folder: Path, role: Split, rows: Iterable[tuple[str, object]]) -> int:
    """Write the questions of a role: context and answers of each. Returns how many have no answer."""
    without = 0
    with _path(folder, role).open("w", encoding="utf-8") as file:
        for context, value in rows:
            answers = [answer.text for answer in answers_in(value, context)]
            without += not answers
            file.write(json.dumps([context, answers]) + "\n")
    return without


def _path(folder: Path, role: Split) -> Path:
    return folder / f"{role.value}.questions.jsonl"
