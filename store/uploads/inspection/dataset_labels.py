"""The labels of a dataset, row by row: their names, and whether a text column holds labels or transcripts."""

from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any, TypeVar

from api_schemas.api.resources import JobError
from api_schemas.enums import ColumnKind, Modality
from api_schemas.errors import SecateurError
from checkpoints.data.columns import LABEL_NAMES, SEVERAL, TRANSCRIPT_NAMES
from store.uploads.inspection import dataset_rows
from store.uploads.inspection.dataset_schema import MAX_LABELS, Names, schema_error

T = TypeVar("T")

MAX_LABEL_LENGTH = 256
# A text column of another name than `label` holds texts, and not labels, from this many different ones on.
MAX_UNDECLARED = 4096
MAX_COUNTED = 200
"""Labels whose rows are counted: as many as a page shows."""


class LabelJudgement:
    """What is wrong with the label column of a dataset: the first thing, after which it is not looked at any more.

    The labels may not be needed, because only a job names the checkpoint. If the user named the column, they are.
    """

    def __init__(self, *, named: bool) -> None:
        self.error: JobError | None = None
        self._named = named

    def of(self, judge: Callable[[], T]) -> T | None:
        """What `judge` gives; None where something was wrong, now or before. Raises what `judge` does where it was named."""
        if self.error is not None:
            return None
        try:
            return judge()
        except SecateurError as error:
            if self._named:
                raise
            self.error = JobError.of(error)
            return None


class Labels:
    """What one label column holds; `take` every row's value in order."""

    def __init__(self, column: str, kind: ColumnKind, names: Names | None, modality: Modality) -> None:
        self.several = kind in SEVERAL
        self._column = column
        self._names = names
        # A text column that is not called `label` may be either; no checkpoint has said yet which.
        self._perhaps_text = kind is ColumnKind.TEXT and column not in LABEL_NAMES
        self._texts = self._perhaps_text and modality is Modality.AUDIO and column in TRANSCRIPT_NAMES
        self._used: set[str] = set()
        self._counts: defaultdict[str, Counter[str]] = defaultdict(Counter)

    def take(self, value: Any, split: str, where: str, words: int | None = None) -> Names:
        """Judge one row's value; there is a label for each of its `words`, where these are counted. Returns its labels, or what
        was said. Raises DATASET_SCHEMA."""
        if self._perhaps_text:
            text = dataset_rows.text(value, where)
            self._take_text(text, split)
            return (text,)
        if not self.several and value is None:
            raise schema_error(f"row {where} has no label", where)
        found = [self._name(each, where) for each in (value if self.several and value is not None else [value])]
        self._used.update(found)
        # Rows are counted, and one may name a label twice; of words each counts.
        self._counts[split].update(set(found) if words is None else found)
        if len(self._used) > MAX_LABELS:
            raise schema_error(f"it has more than {MAX_LABELS} different labels", self._column)
        if words is not None and words != len(found):
            raise schema_error(f"row {where} has {words} words but {len(found)} labels", where)
        return tuple(found)

    def finish(self) -> Names:
        """The names in use: ids in their order, texts sorted; none where the column holds texts and not labels.

        What a ClassLabel names beyond them needs no place in the checkpoint. Raises DATASET_SCHEMA where no row has a label.
        """
        if self._texts:
            return ()
        if not self._used:
            raise schema_error("no row has a label", self._column)
        return tuple(dict.fromkeys(name for name in self._names or sorted(self._used) if name in self._used))

    def counts(self) -> dict[str, dict[str, int]] | None:
        """Rows by split and label, of words the words, of the MAX_COUNTED most frequent labels in the order of `finish`. None
        where the column holds texts and not labels."""
        if self._texts:
            return None
        total: Counter[str] = sum(self._counts.values(), Counter())
        most = {name for name, _ in total.most_common(MAX_COUNTED)}
        names = [name for name in self.finish() if name in most]
        return {split: {name: of[name] for name in names if of[name]} for split, of in self._counts.items()}

    def _take_text(self, value: str, split: str) -> None:
        if self._texts:
            return
        self._used.add(value)
        self._counts[split][value] += 1
        self._texts = not is_label(value) or len(self._used) > MAX_UNDECLARED

    def _name(self, value: Any, where: str) -> str:
        if self._names is not None:
            if not isinstance(value, int) or not 0 <= value < len(self._names):
                raise schema_error(
                    f"the label at {where} is {value}, which is not an id of the {len(self._names)} names", where
                )
            value = self._names[value]
        elif isinstance(value, int):
            value = str(value)
        if not is_label(value):
            raise schema_error(f"the label at {where} is not a text of 1 to {MAX_LABEL_LENGTH} characters", where)
        return str(value)


def is_label(value: Any) -> bool:
    """Whether a text can be the name of a label."""
    return isinstance(value, str) and 0 < len(value) <= MAX_LABEL_LENGTH and not dataset_rows.UNSTORABLE.search(value)
