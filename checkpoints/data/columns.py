"""The role of each column of a dataset for a checkpoint: by the name that the user gave, otherwise by type and usual name.

The service calls it when a job is submitted, the inspector when a dataset is completed, the engine when it reads the data: all
three must find the same.
"""

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from api_schemas.enums import ColumnKind, Head, Modality
from api_schemas.errors import ErrorCode, ErrorItem, SecateurError
from api_schemas.results.metrics import JobWarning
from api_schemas.spec.inputs import Columns
from checkpoints.data.shards.columns import Unlike

Kinds = Mapping[str, ColumnKind]

LABEL_NAMES = ("label", "labels")
TAG_NAMES = ("tags", "ner_tags", *LABEL_NAMES)
TRANSCRIPT_NAMES = ("text", "transcript", "transcription", "sentence")
TEXT_NAMES = ("text", "sentence")
WORD_NAMES = ("tokens", "words")
ANSWER_NAMES = ("answers",)
QUESTION, CONTEXT = "question", "context"
PAIR_NAMES = (
    ("text", "text_pair"),
    ("sentence1", "sentence2"),
    ("sentence_a", "sentence_b"),
    ("sentence_A", "sentence_B"),
    ("text1", "text2"),
    ("text_a", "text_b"),
    ("question1", "question2"),
    ("premise", "hypothesis"),
    ("question", "sentence"),
    ("question", "passage"),
    ("question", "context"),
    ("query", "passage"),
)
"""Texts that are read together, the first first: as GLUE, PAWS, SNLI and BoolQ call them, among others."""

UNLABELLED = (Head.EMBEDDING, Head.HIDDEN_STATES, Head.MASKED_LM, Head.CAUSAL_LM)
"""Heads of which nothing is asked that stands in a column of its own."""
_SPOKEN = (Head.CTC, Head.SEQUENCE_TO_SEQUENCE)
_PAIRED = (Head.CLASSIFICATION, Head.QUESTION_ANSWERING)
_EMBEDDED = (ColumnKind.AUDIO, ColumnKind.IMAGE, ColumnKind.EMBEDDED)
SEVERAL = (ColumnKind.LABELS, ColumnKind.TEXTS, ColumnKind.NUMBERS)
"""Kinds of columns whose rows have any number of labels."""
_NO_LABELS = (*_EMBEDDED, ColumnKind.ANSWERS)
_SAID_BY = "lists `text` and `answer_start`, or a list of structs of the two"
_LABEL_KINDS: Mapping[Head, tuple[tuple[ColumnKind, ...], str]] = {
    Head.CTC: ((ColumnKind.TEXT,), "texts: the transcripts"),
    Head.SEQUENCE_TO_SEQUENCE: ((ColumnKind.TEXT,), "texts: the transcripts"),
    Head.TOKEN_CLASSIFICATION: (SEVERAL, "a list of labels, one per word"),
    Head.QUESTION_ANSWERING: ((ColumnKind.ANSWERS,), f"answers and their start positions: {_SAID_BY}"),
}
"""What the labels of some heads have to be, and how that is said."""
_KIND_WORDS = {
    ColumnKind.AUDIO: "Audio",
    ColumnKind.IMAGE: "Image",
    ColumnKind.EMBEDDED: "bytes of files",
    ColumnKind.TEXT: "text",
    ColumnKind.TEXTS: "lists of texts",
    ColumnKind.LABEL: "ClassLabel",
    ColumnKind.LABELS: "lists of ClassLabel",
    ColumnKind.NUMBER: "whole numbers",
    ColumnKind.NUMBERS: "lists of whole numbers",
    ColumnKind.ANSWERS: "answers and their start positions",
    ColumnKind.OTHER: "another type",
}
_INPUT_WORDS = {
    ColumnKind.AUDIO: "audio",
    ColumnKind.IMAGE: "images",
    ColumnKind.TEXT: "texts",
    ColumnKind.TEXTS: "lists of words",
}


USUAL_NAMES = frozenset(
    {
        *LABEL_NAMES,
        *TAG_NAMES,
        *TRANSCRIPT_NAMES,
        *TEXT_NAMES,
        *WORD_NAMES,
        *(name for pair in PAIR_NAMES for name in pair),
    }
)
_ALIKE = Unlike()


@dataclass(frozen=True)
class FoundColumns:
    """None is `label` where nothing is to be answered, `group` where rows are not grouped, `pair` where rows are no pairs."""

    input: str
    label: str | None
    group: str | None
    pair: str | None = None
    unread: tuple[str, ...] = dataclasses.field(default=(), compare=False)
    """Other text columns, for a text classifier whose column the user did not name."""

    @property
    def warnings(self) -> tuple[JobWarning, ...]:
        """That rows may have more to say than what is read of them."""
        if not self.unread:
            return ()
        others = ", ".join(repr(name) for name in self.unread[:5]) + (" and more" if len(self.unread) > 5 else "")
        detail = (
            f"Only the text in column {self.input!r} of every row is read, but there are texts in {others} as well. "
            "If two of them are a pair, name them in columns.input and columns.input_pair; if not, set columns.input "
            "to the column that you mean."
        )
        return (JobWarning(code="texts_unread", pointer="/dataset/columns/input", detail=detail),)


def find_columns(
    kinds: Kinds, wanted: Columns, modality: Modality, head: Head, unlike: Unlike = _ALIKE
) -> FoundColumns:
    """The columns that a checkpoint of this modality and head is given. `unlike`: in what the shards differ.

    Raises DATASET_SCHEMA, saying what is needed and which columns there are, where one is missing, ambiguous, of another kind,
    or not the same in all shards.
    """
    check_named(kinds, wanted)
    found = _find(kinds, wanted, modality, head, unlike)
    check_alike(kinds, found, unlike)
    if found.pair is not None and head not in _PAIRED:
        gives = {
            Head.TOKEN_CLASSIFICATION: "labels words",
            Head.MASKED_LM: "fills in words",
            Head.CAUSAL_LM: "continues texts",
        }.get(head, "gives embeddings")
        reason = (
            f"columns {found.input!r} and {found.pair!r} are a pair of texts, but a checkpoint that {gives} reads one "
            "text per row; name it in `columns.input` and leave out `columns.input_pair`"
        )
        raise columns_error(kinds, reason, "columns", "input" if wanted.input_pair is None else "input_pair")
    return found


def inspected_columns(kinds: Kinds, wanted: Columns, unlike: Unlike = _ALIKE) -> tuple[Modality, FoundColumns]:
    """The columns to inspect while no checkpoint is known yet, and what the first of them holds. Raises DATASET_SCHEMA.

    Audio comes before images and these before text, labels before transcripts; without either the data is for embeddings.
    Whether a pair of texts can be read is for the checkpoint to say, and so is whether labels are: shards may differ in them. A
    column of a label's usual name whose type no label has is none. Of a label column that is named both is refused.
    """
    check_named(kinds, wanted)
    offered = _offered(kinds, wanted, unlike)
    modality = _modality(offered, wanted)
    head = _inspected_head(offered, wanted, modality)
    found = _find(kinds, wanted, modality, head, unlike)
    check_alike(kinds, found, unlike, but=() if wanted.label else ("label",))
    if found.label is not None and wanted.label is None and kinds[found.label] is ColumnKind.OTHER:
        # For example scores of pairs: they are no labels, and tasks without labels ignore them.
        found = replace(found, label=None)
    return modality, found


def check_alike(kinds: Kinds, found: FoundColumns, unlike: Unlike, but: Collection[str] = ()) -> None:
    """Raises DATASET_SCHEMA where a column that is read, for something else than `but`, is not the same in all shards."""
    for field, name in (
        ("input", found.input),
        ("input_pair", found.pair),
        ("label", found.label),
        ("group", found.group),
    ):
        # Splits without the label column are left out, and only rows of train are grouped.
        read_everywhere = field in ("input", "input_pair")
        reason = unlike.reasons(name or "") if read_everywhere else unlike.differing.get(name or "")
        if reason is not None and field not in but:
            raise columns_error(kinds, f"{reason}; all shards must have the same columns and types", "columns", field)


def _inspected_head(kinds: Kinds, wanted: Columns, modality: Modality) -> Head:
    if modality is Modality.TEXT:
        named = kinds.get(wanted.input or "")
        tagged = _first(kinds, TAG_NAMES, SEVERAL) or _only(kinds, (ColumnKind.LABELS,)) or wanted.label
        words = any(kind is ColumnKind.TEXTS for name, kind in kinds.items() if name != tagged)
        if named is ColumnKind.TEXTS or (named is None and words and tagged and kinds[tagged] in SEVERAL):
            return Head.TOKEN_CLASSIFICATION
    if kinds.get(wanted.label or "") is ColumnKind.ANSWERS:
        return Head.QUESTION_ANSWERING
    if wanted.label is not None or _usual_label(kinds) is not None:
        return Head.CLASSIFICATION
    if modality is Modality.AUDIO and _first(kinds, TRANSCRIPT_NAMES, (ColumnKind.TEXT,)):
        return Head.CTC
    return Head.EMBEDDING


def _find(kinds: Kinds, wanted: Columns, modality: Modality, head: Head, unlike: Unlike) -> FoundColumns:
    offered = _offered(kinds, wanted, unlike)
    label = _label(offered, wanted, head)
    kind = ColumnKind.TEXTS if head is Head.TOKEN_CLASSIFICATION else ColumnKind(modality.value)
    pair = _question(offered, wanted) if head is Head.QUESTION_ANSWERING else _pair(offered, wanted, kind, label)
    if pair is None:
        read = _input(offered, wanted, kind, label)
        taken = (read, label, wanted.group)
        more = [name for name, each in offered.items() if each is ColumnKind.TEXT and name not in taken]
        asked = wanted.input is None and kind is ColumnKind.TEXT and head is Head.CLASSIFICATION
        return FoundColumns(read, label, wanted.group, unread=tuple(more) if asked else ())
    return FoundColumns(pair[0], label, wanted.group, pair[1])


def columns_error(kinds: Kinds, reason: str, *place: str) -> SecateurError:
    """DATASET_SCHEMA: the reason, then the columns there are. `place`: as of `ErrorItem.at`."""
    columns = ", ".join(f"{name} ({_KIND_WORDS[kind]})" for name, kind in kinds.items())
    item = ErrorItem.at(*place, code=ErrorCode.DATASET_SCHEMA, detail=reason)
    detail = f"The dataset cannot be used: {reason}. Its columns are: {columns}."
    return SecateurError(ErrorCode.DATASET_SCHEMA, detail, (item,))


def check_named(kinds: Kinds, wanted: Columns) -> None:
    """Raises DATASET_SCHEMA where a column that the user names is not there, or is to be two things."""
    for field, name in wanted.named().items():
        if name not in kinds:
            raise columns_error(
                kinds, f"`columns.{field}` names {name!r}, but there is no such column", "columns", field
            )
    if wanted.input is not None and wanted.input == wanted.label:
        raise columns_error(kinds, f"column {wanted.input!r} cannot be both input and label", "columns", "input")
    if wanted.input_pair is not None and wanted.input_pair in (wanted.input, wanted.label):
        other = "input" if wanted.input_pair == wanted.input else "label"
        reason = f"column {wanted.input_pair!r} cannot be both {other} and input_pair"
        raise columns_error(kinds, reason, "columns", "input_pair")


def _offered(kinds: Kinds, wanted: Columns, unlike: Unlike) -> Kinds:
    """A column in which shards differ is not found by its type alone, because it is probably not meant. By a usual name it is
    found, and then refused."""
    named = (*USUAL_NAMES, *wanted.named().values())
    return {
        name: kind
        for name, kind in kinds.items()
        if unlike.reasons(name) is None or name in named or (name in ANSWER_NAMES and kind is ColumnKind.ANSWERS)
    }


def _pair(kinds: Kinds, wanted: Columns, kind: ColumnKind, label: str | None) -> tuple[str, str] | None:
    """Two texts that are read together: those that are named, else the first usual pair where no single text is called `text`."""
    second = wanted.input_pair
    if second is not None and kinds[second] is not ColumnKind.TEXT:
        raise columns_error(
            kinds,
            f"column {second!r} cannot be the second text of a pair, because it does not contain texts",
            "columns",
            "input_pair",
        )
    if kind is not ColumnKind.TEXT:
        if second is not None:
            reason = (
                f"the checkpoint reads {_INPUT_WORDS[kind]}, but pairs must be texts; leave out `columns.input_pair`"
            )
            raise columns_error(kinds, reason, "columns", "input_pair")
        return None
    texts = [name for name, each in kinds.items() if each is ColumnKind.TEXT and name not in (label, wanted.group)]
    if second is not None:
        usual = [first for first, other in PAIR_NAMES if other == second and first in texts]
        rest = {name: each for name, each in kinds.items() if name != second}
        return (usual[0] if usual and wanted.input is None else _input(rest, wanted, kind, label)), second
    if wanted.input is not None:
        return None
    found = [(first, other) for first, other in PAIR_NAMES if first in texts and other in texts]
    if not found or ("text" in texts and found[0][0] != "text"):
        return None
    return found[0]


def _question(kinds: Kinds, wanted: Columns) -> tuple[str, str]:
    """Questions, and the texts that their answers stand in."""
    found = []
    for field, named, usual, what in (
        ("input", wanted.input, QUESTION, "questions"),
        ("input_pair", wanted.input_pair, CONTEXT, "contexts (which contain the answers)"),
    ):
        if named is not None and kinds[named] is not ColumnKind.TEXT:
            raise columns_error(
                kinds, f"column {named!r} does not contain texts, but {what} are read from it", "columns", field
            )
        if named is None and kinds.get(usual) is not ColumnKind.TEXT:
            reason = (
                f"the checkpoint reads {what} from a text column called `{usual}`; if yours has another name, set "
                f"`columns.{field}`"
            )
            raise columns_error(kinds, reason, "columns", field)
        found.append(named or usual)
    question, context = found
    if question == context:
        raise columns_error(kinds, f"column {question!r} cannot be both question and context", "columns", "input")
    return question, context


def _modality(kinds: Kinds, wanted: Columns) -> Modality:
    if wanted.input is not None and kinds[wanted.input] is ColumnKind.EMBEDDED:
        return Modality.AUDIO
    of_kind = {
        ColumnKind.AUDIO: Modality.AUDIO,
        ColumnKind.EMBEDDED: Modality.AUDIO,
        ColumnKind.IMAGE: Modality.IMAGE,
        ColumnKind.TEXT: Modality.TEXT,
        ColumnKind.TEXTS: Modality.TEXT,
    }
    present = [kinds[wanted.input]] if wanted.input is not None else list(kinds.values())
    for kind, modality in of_kind.items():
        if kind in present:
            return modality
    which = "no column contains" if wanted.input is None else f"column {wanted.input!r} does not contain"
    reason = f"{which} audio or images (a struct with `bytes`), texts, or lists of words"
    raise columns_error(kinds, reason, *(() if wanted.input is None else ("columns", "input")))


def _input(kinds: Kinds, wanted: Columns, kind: ColumnKind, label: str | None) -> str:
    what = _INPUT_WORDS[kind]
    embedded = kind in (ColumnKind.AUDIO, ColumnKind.IMAGE)
    fitting = (kind, ColumnKind.EMBEDDED) if embedded else (kind,)
    if wanted.input is not None:
        if kinds[wanted.input] not in fitting:
            reason = f"column {wanted.input!r} does not contain {what}, which the checkpoint reads"
            raise columns_error(kinds, reason, "columns", "input")
        return wanted.input
    taken = (label, wanted.group, *(() if embedded else TAG_NAMES))
    found: list[str] = []
    for each in fitting:
        found = found or [name for name, is_kind in kinds.items() if is_kind is each and name not in taken]
    usual = [] if embedded else [name for name in (*TEXT_NAMES, *WORD_NAMES) if name in found]
    if len(found) > 1 and usual:
        return usual[0]
    if len(found) != 1:
        inside = "embedded " if embedded else ""
        reason = (
            f"several columns contain {what} ({', '.join(found)}); choose one with `columns.input`"
            if found
            else f"no column contains {inside}{what}, which the checkpoint reads"
        )
        raise columns_error(kinds, reason)
    return found[0]


def _label(kinds: Kinds, wanted: Columns, head: Head) -> str | None:
    if head in UNLABELLED:
        return None
    if wanted.label is not None:
        needed, what = _LABEL_KINDS.get(head, (None, ""))
        if needed is not None and kinds[wanted.label] not in needed:
            raise columns_error(kinds, f"column {wanted.label!r} does not contain {what}", "columns", "label")
        if needed is None and kinds[wanted.label] in _NO_LABELS:
            reason = (
                f"column {wanted.label!r} does not contain labels; labels are matched by name with the checkpoint's"
            )
            raise columns_error(kinds, reason, "columns", "label")
        return wanted.label
    if head in _SPOKEN:
        found = _first(kinds, TRANSCRIPT_NAMES, (ColumnKind.TEXT,))
        what = f"transcripts: a text column called {_either(TRANSCRIPT_NAMES)}"
    elif head is Head.QUESTION_ANSWERING:
        found = _first(kinds, ANSWER_NAMES, (ColumnKind.ANSWERS,))
        what = f"answers and their start positions: a column called `{ANSWER_NAMES[0]}` with {_SAID_BY}"
    elif head is Head.TOKEN_CLASSIFICATION:
        found = _first(kinds, TAG_NAMES, SEVERAL) or _only(kinds, (ColumnKind.LABELS,))
        what = f"a label for every word: a column of lists called {_either(TAG_NAMES)}"
    else:
        found = _usual_label(kinds)
        what = f"labels: a column called {_either(LABEL_NAMES)}"
    if found is None:
        raise columns_error(kinds, f"the checkpoint needs {what}; if yours has another name, set `columns.label`")
    return found


def _usual_label(kinds: Kinds) -> str | None:
    return _first(kinds, LABEL_NAMES, tuple(ColumnKind)) or _only(kinds, (ColumnKind.LABEL, ColumnKind.LABELS))


def _first(kinds: Kinds, names: tuple[str, ...], of: tuple[ColumnKind, ...]) -> str | None:
    return next((name for name in names if kinds.get(name) in of), None)


def _only(kinds: Kinds, of: tuple[ColumnKind, ...]) -> str | None:
    found = [name for name, kind in kinds.items() if kind in of]
    return found[0] if len(found) == 1 else None


def _either(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names[:-1]) + f" or `{names[-1]}`"
