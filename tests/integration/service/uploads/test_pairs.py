"""Datasets of every kind over HTTP, and the pair of checkpoint and data: accepted where it can run, else refused at once."""

from typing import Any

import pyarrow as pa
import pytest
from starlette.testclient import TestClient

from api_schemas.enums import Head, Modality
from service.services import Services
from store.database.tables import Upload
from tests.integration.service.conftest import problem
from tests.support.uploads import EMBEDDED, LABELS, checkpoint_files, picture, send, table, tone

TEXT, TEXTS = pa.string(), pa.list_(pa.string())
PHOTOS = table(image=(EMBEDDED, [picture()] * 4), label=(TEXT, LABELS))
REVIEWS = table(text=(TEXT, ["a b", "c", "d e f", "g"]), label=(TEXT, LABELS))
WORDS = table(tokens=(TEXTS, [["go", "up"], ["down"]] * 2), tags=(TEXTS, [["left", "up"], ["down"]] * 2))
SPEECH = table(audio=(EMBEDDED, [tone()] * 4), sentence=(TEXT, ["go up", "go down"] * 2))
ANSWERS = pa.struct([("text", TEXTS), ("answer_start", pa.list_(pa.int32()))])
SAID = ["go up now", "then down", "up", "down and up"]


def questions(*starts: int) -> bytes:
    """Where is up, or down?"""
    words = ["up", "down", "up", "down"]
    answers = [{"text": [word], "answer_start": [at]} for word, at in zip(words, starts, strict=True)]
    return table(question=(TEXT, ["where", "how", "what", "why"]), context=(TEXT, SAID), answers=(ANSWERS, answers))


DATA = {
    "photos": PHOTOS,
    "reviews": REVIEWS,
    "words": WORDS,
    "speech": SPEECH,
    "questions": questions(3, 5, 0, 0),
}


def upload(client: TestClient, kind: str, files: dict[str, bytes]) -> dict[str, Any]:
    answer = send(client, kind, files)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def a_model(client: TestClient, services: Services, modality: Modality, head: Head) -> str:
    """A checkpoint on record as one of this modality and head."""
    model = str(upload(client, "models", checkpoint_files())["id"])
    with services.database.write() as session:
        row = session.get_one(Upload, model)
        row.description = {**(row.description or {}), "modality": modality.value, "head": head.value}
    return model


def submit(client: TestClient, model: str, dataset: str, **more: Any) -> Any:
    body = {"model": {"type": "upload", "id": model}, "dataset": {"type": "upload", "id": dataset, **more}}
    return client.post("/v1/jobs", json=body | {"pruning": {"target": {"attention_sparsity": 0.5}}})


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("photos", {"modality": "image", "input_column": "image", "label_column": "label"}),
        ("reviews", {"modality": "text", "input_column": "text", "label_column": "label"}),
        ("words", {"modality": "text", "input_column": "tokens", "label_column": "tags"}),
        ("speech", {"modality": "audio", "input_column": "audio", "label_column": "sentence", "labels": []}),
    ],
)
def test_a_dataset_says_what_it_holds(client: TestClient, name: str, expected: dict[str, Any]) -> None:
    contents = upload(client, "datasets", {"train.parquet": DATA[name]})["contents"]
    assert {key: contents[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("name", "modality", "head"),
    [
        ("photos", Modality.IMAGE, Head.CLASSIFICATION),
        ("reviews", Modality.TEXT, Head.CLASSIFICATION),
        ("reviews", Modality.TEXT, Head.EMBEDDING),
        ("words", Modality.TEXT, Head.TOKEN_CLASSIFICATION),
        ("questions", Modality.TEXT, Head.QUESTION_ANSWERING),
        ("speech", Modality.AUDIO, Head.CTC),
        ("speech", Modality.AUDIO, Head.SEQUENCE_TO_SEQUENCE),
        ("speech", Modality.AUDIO, Head.EMBEDDING),
    ],
)
def test_pairs_that_fit(client: TestClient, services: Services, name: str, modality: Modality, head: Head) -> None:
    dataset = upload(client, "datasets", {"train.parquet": DATA[name]})["id"]
    assert submit(client, a_model(client, services, modality, head), dataset).status_code == 202


@pytest.mark.parametrize(
    ("name", "modality", "head", "said"),
    [
        ("photos", Modality.AUDIO, Head.CLASSIFICATION, "no column contains embedded audio"),
        ("photos", Modality.TEXT, Head.CLASSIFICATION, "no column contains texts"),
        ("reviews", Modality.IMAGE, Head.CLASSIFICATION, "no column contains embedded images"),
        ("reviews", Modality.TEXT, Head.TOKEN_CLASSIFICATION, "a label for every word"),
        ("words", Modality.TEXT, Head.CLASSIFICATION, "needs labels"),
        ("questions", Modality.TEXT, Head.CLASSIFICATION, "needs labels"),
        ("reviews", Modality.TEXT, Head.QUESTION_ANSWERING, "needs answers and their start positions"),
        ("speech", Modality.AUDIO, Head.CLASSIFICATION, "needs labels"),
    ],
)
def test_pairs_that_do_not(
    client: TestClient, services: Services, name: str, modality: Modality, head: Head, said: str
) -> None:
    dataset = upload(client, "datasets", {"train.parquet": DATA[name]})["id"]
    body = problem(submit(client, a_model(client, services, modality, head), dataset), 422, "dataset_schema")
    assert said in body["detail"]
    assert "Its columns are: " in body["detail"]
    assert "ASTForAudioClassification" in body["detail"]


def test_answers_that_are_somewhere_else_are_refused_where_they_are_read(
    client: TestClient, services: Services
) -> None:
    """The texts can be used for something else."""
    dataset = upload(client, "datasets", {"train.parquet": questions(3, 5, 1, 0)})["id"]
    answering = a_model(client, services, Modality.TEXT, Head.QUESTION_ANSWERING)
    body = problem(submit(client, answering, dataset), 422, "dataset_schema")
    assert (
        "at train[2], the answer 'up' does not start at character 1 of the context: the context has 'p' there"
        in body["detail"]
    )
    assert body["errors"][0]["pointer"] == "/dataset/columns/label"
    encoder = a_model(client, services, Modality.TEXT, Head.MASKED_LM)
    assert submit(client, encoder, dataset, columns={"input": "context"}).status_code == 202


def test_labels_of_images_are_matched_by_name(client: TestClient, services: Services) -> None:
    data = table(image=(EMBEDDED, [picture()]), label=(TEXT, ["sideways"]))
    dataset = upload(client, "datasets", {"train.parquet": data})["id"]
    answer = submit(client, a_model(client, services, Modality.IMAGE, Head.CLASSIFICATION), dataset)
    assert "sideways" in problem(answer, 422, "labels_mismatch")["detail"]


def test_a_text_that_is_read_alone_beside_another_is_warned_of(client: TestClient, services: Services) -> None:
    model = a_model(client, services, Modality.TEXT, Head.CLASSIFICATION)
    texts = ["a b", "c", "d e f", "g"]
    data = table(text=(TEXT, texts), hypothesis=(TEXT, texts[::-1]), label=(TEXT, LABELS))
    dataset = str(upload(client, "datasets", {"train.parquet": data})["id"])
    for columns, warns in (
        ({}, True),
        ({"input": "text"}, False),
        ({"input": "text", "input_pair": "hypothesis"}, False),
    ):
        answer = submit(client, model, dataset, columns=columns).json()
        assert ("texts_unread" in [each["code"] for each in answer["warnings"]]) is warns


def test_texts_are_no_labels(client: TestClient, services: Services) -> None:
    dataset = upload(client, "datasets", {"train.parquet": SPEECH})["id"]
    model = a_model(client, services, Modality.AUDIO, Head.CLASSIFICATION)
    answer = submit(client, model, dataset, columns={"label": "sentence"})
    assert "not label names" in problem(answer, 422, "dataset_schema")["detail"]


def test_what_was_completed_before_kinds_were_written_down(client: TestClient, services: Services) -> None:
    data = table(audio=(EMBEDDED, [tone()] * 4), label=(TEXT, LABELS))
    dataset = upload(client, "datasets", {"train.parquet": data})["id"]
    with services.database.write() as session:
        row = session.get_one(Upload, dataset)
        row.description = {
            key: value for key, value in (row.description or {}).items() if key not in ("kinds", "modality")
        }
    assert client.get(f"/v1/datasets/{dataset}").json()["contents"]["modality"] == "audio"
    assert submit(client, a_model(client, services, Modality.AUDIO, Head.CLASSIFICATION), dataset).status_code == 202
    model = a_model(client, services, Modality.IMAGE, Head.CLASSIFICATION)
    problem(submit(client, model, dataset), 422, "dataset_schema")
