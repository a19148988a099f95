"""Which column is what, for every pair of modality and head; and what is said where it cannot be told."""

import pytest

from api_schemas.enums import ColumnKind, Head, Modality
from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.spec.inputs import Columns
from checkpoints.data.columns import FoundColumns, find_columns

K = ColumnKind
SPEECH = {"file": K.TEXT, "audio": K.AUDIO, "text": K.TEXT, "speaker": K.OTHER, "label": K.LABEL}
NEWS = {"id": K.TEXT, "tokens": K.TEXTS, "pos_tags": K.LABELS, "ner_tags": K.LABELS}
PHOTOS = {"image": K.EMBEDDED, "label": K.TEXT}
SQUAD = {"id": K.TEXT, "title": K.TEXT, "context": K.TEXT, "question": K.TEXT, "answers": K.ANSWERS}


@pytest.mark.parametrize(
    ("kinds", "modality", "head", "expected"),
    [
        (SPEECH, Modality.AUDIO, Head.CLASSIFICATION, ("audio", "label")),
        (SPEECH, Modality.AUDIO, Head.CTC, ("audio", "text")),
        (SPEECH, Modality.AUDIO, Head.SEQUENCE_TO_SEQUENCE, ("audio", "text")),
        (SPEECH, Modality.AUDIO, Head.EMBEDDING, ("audio", None)),
        (SPEECH, Modality.AUDIO, Head.HIDDEN_STATES, ("audio", None)),
        (SPEECH, Modality.TEXT, Head.MASKED_LM, ("text", None)),
        (SPEECH, Modality.TEXT, Head.CAUSAL_LM, ("text", None)),
        ({"text": K.TEXT, "label": K.TEXT}, Modality.TEXT, Head.MASKED_LM, ("text", None)),
        (PHOTOS, Modality.IMAGE, Head.HIDDEN_STATES, ("image", None)),
        (SPEECH, Modality.TEXT, Head.CLASSIFICATION, ("text", "label")),
        (NEWS, Modality.TEXT, Head.TOKEN_CLASSIFICATION, ("tokens", "ner_tags")),
        (NEWS, Modality.TEXT, Head.EMBEDDING, ("id", None)),
        (PHOTOS, Modality.IMAGE, Head.CLASSIFICATION, ("image", "label")),
        (PHOTOS, Modality.AUDIO, Head.CLASSIFICATION, ("image", "label")),
        ({"body": K.TEXT, "labels": K.TEXTS}, Modality.TEXT, Head.CLASSIFICATION, ("body", "labels")),
        ({"body": K.TEXT, "topic": K.LABEL}, Modality.TEXT, Head.CLASSIFICATION, ("body", "topic")),
    ],
)
def test_found_by_type_and_usual_name(
    kinds: dict[str, ColumnKind], modality: Modality, head: Head, expected: tuple[str, str | None]
) -> None:
    assert find_columns(kinds, Columns(), modality, head) == FoundColumns(*expected, None)


def test_names_of_the_user_go_first() -> None:
    wanted = Columns(input="tokens", label="pos_tags", group="id")
    found = find_columns(NEWS, wanted, Modality.TEXT, Head.TOKEN_CLASSIFICATION)
    assert found == FoundColumns("tokens", "pos_tags", "id")


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Columns(), ("question", "answers", None, "context")),
        (Columns(group="title"), ("question", "answers", "title", "context")),
        (Columns(input="title"), ("title", "answers", None, "context")),
        (Columns(input_pair="title"), ("question", "answers", None, "title")),
        (Columns(label="answers"), ("question", "answers", None, "context")),
    ],
)
def test_questions_contexts_and_answers(wanted: Columns, expected: tuple[str | None, ...]) -> None:
    kinds = {**SQUAD, "label": K.LABEL, "text": K.TEXT}
    for each in (SQUAD, kinds):
        assert find_columns(each, wanted, Modality.TEXT, Head.QUESTION_ANSWERING) == FoundColumns(*expected)


@pytest.mark.parametrize(
    ("kinds", "wanted", "modality", "head", "said"),
    [
        (SPEECH, Columns(), Modality.IMAGE, Head.CLASSIFICATION, "no column contains embedded images"),
        (PHOTOS, Columns(), Modality.TEXT, Head.CLASSIFICATION, "no column contains texts"),
        (PHOTOS, Columns(), Modality.IMAGE, Head.CTC, "the checkpoint needs transcripts"),
        (NEWS, Columns(), Modality.TEXT, Head.CLASSIFICATION, "the checkpoint needs labels"),
        (SPEECH, Columns(), Modality.TEXT, Head.TOKEN_CLASSIFICATION, "a label for every word"),
        (SPEECH, Columns(input="file"), Modality.AUDIO, Head.CTC, "column 'file' does not contain audio"),
        (SPEECH, Columns(label="label"), Modality.AUDIO, Head.CTC, "column 'label' does not contain texts"),
        (NEWS, Columns(label="id"), Modality.TEXT, Head.TOKEN_CLASSIFICATION, "one per word"),
        (SPEECH, Columns(label="audio", input="audio"), Modality.AUDIO, Head.CTC, "both input and label"),
        (SPEECH, Columns(group="who"), Modality.AUDIO, Head.CTC, "`columns.group` names 'who'"),
        ({"a": K.AUDIO, "b": K.AUDIO, "label": K.TEXT}, Columns(), Modality.AUDIO, Head.EMBEDDING, "several columns"),
        (
            {**SQUAD, "answers": K.TEXT},
            Columns(),
            Modality.TEXT,
            Head.QUESTION_ANSWERING,
            "needs answers and their start positions",
        ),
        (
            {**SQUAD, "answers": K.TEXT},
            Columns(label="answers"),
            Modality.TEXT,
            Head.QUESTION_ANSWERING,
            "not contain answers",
        ),
        (
            {**SQUAD, "question": K.OTHER},
            Columns(),
            Modality.TEXT,
            Head.QUESTION_ANSWERING,
            "text column called `question`",
        ),
        (
            {**SQUAD, "context": K.TEXTS},
            Columns(),
            Modality.TEXT,
            Head.QUESTION_ANSWERING,
            "text column called `context`",
        ),
        (SQUAD, Columns(input="context"), Modality.TEXT, Head.QUESTION_ANSWERING, "both question and context"),
        (
            SQUAD,
            Columns(input="answers"),
            Modality.TEXT,
            Head.QUESTION_ANSWERING,
            "column 'answers' does not contain texts",
        ),
        (SQUAD, Columns(), Modality.TEXT, Head.CLASSIFICATION, "the checkpoint needs labels"),
        (
            SQUAD,
            Columns(label="answers"),
            Modality.TEXT,
            Head.CLASSIFICATION,
            "column 'answers' does not contain labels",
        ),
        (SQUAD, Columns(), Modality.TEXT, Head.EMBEDDING, "are a pair of texts"),
    ],
)
def test_refusals_say_what_is_needed_and_what_there_is(
    kinds: dict[str, ColumnKind], wanted: Columns, modality: Modality, head: Head, said: str
) -> None:
    with pytest.raises(SecateurError) as caught:
        find_columns(kinds, wanted, modality, head)
    assert caught.value.code is ErrorCode.DATASET_SCHEMA
    assert said in caught.value.detail
    assert all(name in caught.value.detail for name in kinds)
