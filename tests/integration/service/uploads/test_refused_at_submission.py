"""What an upload has told the service already is said when a job is submitted, and not by a worker: errors and warnings."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import soundfile
from starlette.testclient import TestClient

from api_schemas.api.resources import JobResource
from api_schemas.enums import Head, Modality
from api_schemas.results.estimate import JobEstimate, JobPreview
from service.services import Services
from store.database.tables import Upload
from tests.integration.service.conftest import problem
from tests.integration.service.uploads.test_pairs import a_model, submit, upload
from tests.support.uploads import EMBEDDED, LABELS, ast_config, checkpoint_files, send, shard, table, tone

TEXT, TEXTS = pa.string(), pa.list_(pa.string())
MANY = 12


def clips(first: int = 0, rows: int = MANY) -> list[bytes]:
    """No two alike, none in a call with another `first`."""
    return [tone(200.0 + 10 * (first + row)) for row in range(rows)]


def labelled(first: int = 0, rows: int = MANY, labels: Sequence[str] = LABELS) -> bytes:
    return shard(clips(first, rows), [labels[row % len(labels)] for row in range(rows)])


@pytest.fixture
def model(client: TestClient) -> str:
    return str(upload(client, "models", checkpoint_files())["id"])


def warned(answer: Any) -> list[tuple[str, str]]:
    assert answer.status_code in (200, 202), answer.text
    return [(found["code"], found["pointer"]) for found in answer.json()["warnings"]]


@pytest.mark.parametrize(
    ("splits", "role", "code"),
    [
        ({"train": labelled(0, 1), "validation": labelled(20), "test": labelled(40)}, "train", "dataset_empty"),
        ({"train": labelled(), "validation": labelled(20, 1), "test": labelled(40)}, "validation", "dataset_empty"),
        ({"train": labelled(), "validation": labelled(20), "test": labelled(40, 1)}, "test", "dataset_empty"),
        ({"train": labelled(0, 2)}, "train", "dataset_empty"),
        ({"train": labelled(0, 3)}, "train", "dataset_empty"),
        ({"train": labelled(labels=["up"]), "test": labelled(20)}, "train", "dataset_schema"),
        ({"train": labelled(), "test": labelled(20, labels=["up"])}, "test", "dataset_schema"),
        ({"train": labelled(), "dev": labelled(20, labels=["up"])}, "validation", "dataset_schema"),
    ],
    ids=["one to train on", "one to decide by", "one to score", "none left", "one left", "train", "test", "alias"],
)
def test_splits_with_one_row_or_one_class(
    client: TestClient, model: str, splits: dict[str, bytes], role: str, code: str
) -> None:
    dataset = upload(client, "datasets", {f"{name}.parquet": data for name, data in splits.items()})["id"]
    body = problem(submit(client, model, dataset), 422, code)
    assert [item["pointer"] for item in body["errors"]] == [f"/dataset/splits/{role}"]


def test_train_may_be_of_one_class_where_nothing_is_learnt_of_it(client: TestClient, model: str) -> None:
    files = {"train": labelled(labels=["up"]), "validation": labelled(20), "test": labelled(40)}
    dataset = upload(client, "datasets", {f"{name}.parquet": data for name, data in files.items()})["id"]
    job = {
        "model": {"type": "upload", "id": model},
        "dataset": {"type": "upload", "id": dataset},
        "pruning": {"target": {"attention_sparsity": 0.5}, "calibration": {"split": "validation"}},
        "finetune": None,
    }
    assert client.post("/v1/jobs", json=job).status_code == 202
    problem(client.post("/v1/jobs", json=job | {"finetune": {}}), 422, "dataset_schema")


@pytest.mark.parametrize(
    ("data", "modality", "head"),
    [
        (table(audio=(EMBEDDED, clips()), text=(TEXT, ["go"] * MANY)), Modality.AUDIO, Head.CTC),
        (table(audio=(EMBEDDED, clips()), text=(TEXT, ["go"] * MANY)), Modality.AUDIO, Head.SEQUENCE_TO_SEQUENCE),
        (table(audio=(EMBEDDED, clips()), label=(TEXT, ["up"] * MANY)), Modality.AUDIO, Head.EMBEDDING),
    ],
    ids=["ctc", "generation", "embedding"],
)
def test_answers_without_classes_may_be_all_alike(
    client: TestClient, services: Services, data: bytes, modality: Modality, head: Head
) -> None:
    dataset = upload(client, "datasets", {"train.parquet": data})["id"]
    assert submit(client, a_model(client, services, modality, head), dataset).status_code == 202


def test_one_label_a_word_is_a_class_and_several_a_row_are_not(client: TestClient, services: Services) -> None:
    words = table(tokens=(TEXTS, [["go", str(row)] for row in range(MANY)]), tags=(TEXTS, [["up", "up"]] * MANY))
    dataset = upload(client, "datasets", {"train.parquet": words})["id"]
    tagger = a_model(client, services, Modality.TEXT, Head.TOKEN_CLASSIFICATION)
    problem(submit(client, tagger, dataset), 422, "dataset_schema")
    several = table(audio=(EMBEDDED, clips()), label=(TEXTS, [["up"], []] * (MANY // 2)))
    dataset = upload(client, "datasets", {"train.parquet": several})["id"]
    files = checkpoint_files(ast_config(problem_type="multi_label_classification"))
    assert submit(client, upload(client, "models", files)["id"], dataset).status_code == 202


def test_any_column_is_judged_by_its_labels(client: TestClient, model: str) -> None:
    columns = {
        "label": (TEXT, list(LABELS) * 3),
        "speaker": (TEXT, ["ann", "bob"] * 6),
        "said": (TEXT, ["w" * 300] * MANY),
        "again": (TEXT, list(LABELS) * 3),
        "some": (TEXT, [*LABELS, None] * 2 + ["up", "up"]),
        "both": (TEXTS, [["up", "down"]] * MANY),
        "age": (pa.int64(), list(range(MANY))),
        "height": (pa.float64(), [1.5] * MANY),
    }
    dataset = upload(client, "datasets", {"train.parquet": table(audio=(EMBEDDED, clips()), **columns)})["id"]
    assert submit(client, model, dataset, columns={"label": "again"}).status_code == 202
    for column, code, said in (
        ("speaker", "labels_mismatch", "2 labels of the dataset in column 'speaker'"),
        ("said", "dataset_schema", "train[0] is not a text of 1 to 256"),
        ("some", "dataset_schema", "train[4] is not a text"),
        ("both", "labels_mismatch", "several labels per row"),
        ("age", "labels_mismatch", "12 labels of the dataset in column 'age'"),
        ("height", "dataset_schema", "neither texts nor whole numbers"),
    ):
        body = problem(submit(client, model, dataset, columns={"label": column}), 422, code)
        assert said in body["detail"]
        assert body["errors"][0]["pointer"] in ("/dataset/columns/label", "/dataset")


def test_only_splits_that_the_job_reads_are_judged(client: TestClient, model: str) -> None:
    files = {"train": labelled(), "other": labelled(20, labels=["sideways"])}
    dataset = upload(client, "datasets", {f"{name}.parquet": data for name, data in files.items()})["id"]
    assert submit(client, model, dataset).status_code == 202
    body = problem(submit(client, model, dataset, splits={"test": "other"}), 422, "labels_mismatch")
    assert "sideways" in body["detail"]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_audio_that_is_not_finite(client: TestClient, value: float, subtype: str) -> None:
    samples = np.zeros((1600, 2))
    samples[700, 1] = value
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, 16000, format="WAV", subtype=subtype)
    # Not among the few that are decoded to the end in any case.
    data = shard([*clips(rows=40), buffer.getvalue()], ["up"] * 41)
    body = problem(send(client, "datasets", {"train.parquet": data}), 422, "audio_undecodable")
    assert body["errors"][0]["pointer"] == "/train[40]"
    assert "not finite numbers" in body["detail"]


def test_inputs_in_two_splits_are_warned_of(client: TestClient, services: Services, model: str) -> None:
    train, test = clips(), [*clips(20, 4), *clips(0, 3)]
    files = {
        "train.parquet": shard(train, list(LABELS) * 3),
        "validation.parquet": labelled(40),
        "test.parquet": shard(test, [*LABELS, *LABELS[:3]]),
    }
    dataset = upload(client, "datasets", files)["id"]
    contents = client.get(f"/v1/datasets/{dataset}").json()["contents"]
    assert contents["shared_rows"] == {"test": {"train": 3}, "train": {"test": 3}}
    expected = [("shared_rows", "/dataset/splits/test")]
    answer = submit(client, model, dataset)
    assert warned(answer) == expected
    assert "3 of the 7 rows of test" in answer.json()["warnings"][0]["detail"]
    job = JobResource.model_validate_json(client.get(f"/v1/jobs/{answer.json()['id']}").text)
    assert [found.code for found in job.warnings] == ["shared_rows"]
    body = {key: answer.json()["request"][key] for key in ("model", "dataset", "pruning")}
    preview = client.post("/v1/jobs?validate_only=true", json=body)
    assert warned(preview) == expected
    assert JobPreview.model_validate_json(preview.text).estimate is not None
    estimate = client.post("/v1/jobs:estimate", json=body)
    assert warned(estimate) == expected
    assert JobEstimate.model_validate_json(estimate.text).warnings == job.warnings
    with services.database.write() as session:
        row = session.get_one(Upload, dataset)
        old = ("shared_rows", "label_columns")
        row.description = {key: value for key, value in (row.description or {}).items() if key not in old}
    assert warned(submit(client, model, dataset)) == [], "completed before it was looked for"


def test_rows_that_repeat_are_warned_of_where_the_rest_is_held_out_of_them(client: TestClient, model: str) -> None:
    data = table(
        audio=(EMBEDDED, clips(rows=10) * 2), label=(TEXT, list(LABELS) * 5), speaker=(TEXT, ["ann", "bob"] * 10)
    )
    dataset = upload(client, "datasets", {"train.parquet": data})["id"]
    answer = submit(client, model, dataset)
    assert warned(answer) == [("repeated_rows", "/dataset/splits/train")]
    assert "10 of the 20 rows" in answer.json()["warnings"][0]["detail"]
    assert warned(submit(client, model, dataset, columns={"group": "speaker"})) == []


def test_a_few_rows_to_try_with_are_warned_of(client: TestClient, model: str) -> None:
    dataset = upload(client, "datasets", {"train.parquet": labelled(0, 8)})["id"]
    expected = [("few_rows", "/dataset/splits/validation"), ("few_rows", "/dataset/splits/test")]
    assert warned(submit(client, model, dataset)) == expected


def dataset(client: TestClient) -> str:
    shards = {"train": labelled(), "validation": labelled(20), "test": labelled(40)}
    return str(upload(client, "datasets", {f"{split}.parquet": data for split, data in shards.items()})["id"])


def test_a_job_carries_what_is_said_of_its_model(client: TestClient) -> None:
    model = str(upload(client, "models", checkpoint_files(ast_config(num_class=4)))["id"])
    assert warned(submit(client, model, dataset(client))) == [("config_ignored", "/model")]


@pytest.mark.parametrize("names", [(*LABELS, LABELS[1]), (*LABELS, "heron", "heron")], ids=["in the data", "elsewhere"])
def test_a_name_of_several_classes_is_refused_where_the_data_has_it(client: TestClient, names: Sequence[str]) -> None:
    config = ast_config(id2label={str(at): name for at, name in enumerate(names)}, label2id=None)
    model = str(upload(client, "models", checkpoint_files(config))["id"])
    answer = submit(client, model, dataset(client))
    if names[-1] == "heron":
        assert warned(answer) == [("labels_repeated", "/model")]
    else:
        body = problem(answer, 422, "labels_mismatch")
        assert f"{LABELS[1]!r} is the name of the classes 1, 4" in body["detail"]
        assert body["errors"][0]["pointer"] == "/dataset/columns/label"


def test_labels_may_be_the_numbers_of_classes(client: TestClient) -> None:
    """Which classes that share a name need; a number that no class has is a label like any other."""
    config = ast_config(id2label=dict(zip("0123", ("crane", "heron", "crane", "wren"), strict=True)), label2id=None)
    model = str(upload(client, "models", checkpoint_files(config))["id"])

    def numbered(*labels: str) -> Any:
        starts = {"train": 0, "validation": 20, "test": 40}
        files = {f"{split}.parquet": labelled(start, labels=labels) for split, start in starts.items()}
        return submit(client, model, str(upload(client, "datasets", files)["id"]))

    answer = numbered("0", "1", "2", "3")
    assert warned(answer) == [("labels_repeated", "/model"), ("labels_by_number", "/dataset/columns/label")]
    assert "0 as 'crane'" in answer.json()["warnings"][1]["detail"]
    problem(numbered("0", "1", "2", "4"), 422, "labels_mismatch")
    problem(numbered("0", "1", "2", "wren"), 422, "labels_mismatch")


def test_scores_are_no_labels_and_refused_by_whoever_needs_some(client: TestClient, services: Services) -> None:
    texts = table(text=(TEXT, [f"text {row}" for row in range(MANY)]), label=(pa.float64(), [0.5] * MANY))
    dataset = str(upload(client, "datasets", {"train.parquet": texts})["id"])
    assert submit(client, a_model(client, services, Modality.TEXT, Head.EMBEDDING), dataset).status_code == 202
    classifier = a_model(client, services, Modality.TEXT, Head.CLASSIFICATION)
    body = problem(submit(client, classifier, dataset), 422, "dataset_schema")
    assert "neither texts nor whole numbers" in body["detail"]


@pytest.mark.parametrize(
    ("label", "said"),
    [
        ((TEXT, [*LABELS, None] * 4), "row train[4] has no label"),
        ((TEXT, ["w" * 300] * 20), "the label at train[0] is not a text of 1 to 256 characters"),
    ],
    ids=["null", "long"],
)
def test_labels_that_cannot_be_used_stop_only_jobs_that_read_them(
    client: TestClient, services: Services, label: Any, said: str
) -> None:
    rows = len(label[1])
    files = {"train.parquet": table(text=(TEXT, [f"text {row}" for row in range(rows)]), label=label)}
    body = upload(client, "datasets", files)
    sentence = body["contents"]["label_error"]["detail"]
    assert said in sentence
    [warning] = body["warnings"]
    assert (warning["code"], warning["pointer"]) == ("label_column", "/contents/label_column")
    assert warning["detail"].startswith(sentence)
    for head in (Head.MASKED_LM, Head.HIDDEN_STATES, Head.EMBEDDING):
        assert warned(submit(client, a_model(client, services, Modality.TEXT, head), body["id"])) == []
    classifier = a_model(client, services, Modality.TEXT, Head.CLASSIFICATION)
    refused = submit(client, classifier, body["id"])
    assert problem(refused, 422, "dataset_schema")["detail"] == sentence
    assert [item["pointer"] for item in refused.json()["errors"]] == ["/dataset/columns/label"]
    job = {
        "model": {"type": "upload", "id": classifier},
        "dataset": {"type": "upload", "id": body["id"]},
        "pruning": {"target": {"attention_sparsity": 0.5}},
    }
    assert problem(client.post("/v1/jobs:estimate", json=job), 422, "dataset_schema")["detail"] == sentence
    with services.database.write() as session:
        row = session.get_one(Upload, body["id"])
        row.description = {key: value for key, value in (row.description or {}).items() if key != "label_error"}
    assert client.get(f"/v1/datasets/{body['id']}").json()["warnings"] == [], "completed before it was written down"


IDS = pa.int64()
CRANES = ("crane", "heron", "crane", "wren")


def ids_of(values: Sequence[int], names: Sequence[str] | None = None) -> dict[str, bytes]:
    features = {"label": {"names": list(names), "_type": "ClassLabel"}} if names else None
    starts = {"train": 0, "validation": 20, "test": 40}
    return {
        f"{split}.parquet": table(features, audio=(EMBEDDED, clips(start)), label=(IDS, values))
        for split, start in starts.items()
    }


@pytest.mark.parametrize(
    ("names", "told", "values", "expected"),
    [
        (None, False, [0, 1, 2, 3], ["labels_repeated", "labels_by_number"]),
        (None, True, [0, 1, 2, 3], ["labels_repeated"]),
        (None, False, [1, 2, 3, 4], "labels_mismatch"),
        (None, True, [1, 2, 3, 4], "labels_mismatch"),
        (CRANES, False, [0, 1, 2, 3], ["labels_repeated"]),
        (CRANES, False, [0, 2, 0, 2], ["labels_repeated"]),
        (CRANES, True, [0, 1, 2, 3], ["labels_repeated"]),
        (CRANES[::-1], False, [0, 1, 2, 3], "labels_mismatch"),
        (CRANES[::-1], False, [0, 2, 0, 2], ["labels_repeated"]),
        (CRANES[::-1], True, [0, 1, 2, 3], ["labels_repeated"]),
        (("a", "b", "c", "d"), True, [0, 1, 2, 3], ["labels_repeated"]),
        (("a", "b", "c", "d", "e"), True, [0, 1, 2, 4], "labels_mismatch"),
    ],
)
def test_ids_are_class_numbers_where_it_is_told_or_the_lists_agree(
    client: TestClient, names: Sequence[str] | None, told: bool, values: list[int], expected: Any
) -> None:
    config = ast_config(id2label={str(at): name for at, name in enumerate(CRANES)}, label2id=None)
    model = str(upload(client, "models", checkpoint_files(config))["id"])
    dataset = str(upload(client, "datasets", ids_of(values * 3, names))["id"])
    answer = submit(client, model, dataset, columns={"label_ids": told})
    if isinstance(expected, str):
        body = problem(answer, 422, expected)
        assert body["errors"][0]["pointer"].startswith("/dataset/columns/label")
    else:
        assert [code for code, _ in warned(answer)] == expected


def test_a_split_without_labels_is_left_out_with_a_warning(client: TestClient, model: str) -> None:
    files = {
        "train.parquet": labelled(),
        "validation.parquet": labelled(20),
        "test.parquet": shard(clips(40), [None] * MANY),
    }
    dataset = upload(client, "datasets", files)["id"]
    contents = client.get(f"/v1/datasets/{dataset}").json()["contents"]
    assert contents["rows"]["test"] == MANY
    assert contents["label_columns"]["label"]["unlabelled"] == ["test"]
    answer = submit(client, model, dataset)
    assert warned(answer) == [("no_labels", "/dataset/splits/test"), ("few_rows", "/dataset/splits/test")]
    assert "No row of the split 'test' has a label in column 'label'" in answer.json()["warnings"][0]["detail"]
    train = submit(client, model, dataset, splits={"train": "test", "test": "train"})
    body = problem(train, 422, "dataset_schema")
    assert [item["pointer"] for item in body["errors"]] == ["/dataset/splits/train"]


def test_rows_without_a_text_are_left_out_or_refused(client: TestClient, services: Services) -> None:
    """By what the checkpoint answers: with words, or with labels."""
    texts = [text for number in range(MANY) for text in (f"a text {number}", "", " \n")]
    files = {
        "train.parquet": table(text=(TEXT, texts), label=(TEXT, list(LABELS) * 9)),
        "test.parquet": table(text=(TEXT, [f"text {number}" for number in range(4)]), label=(TEXT, list(LABELS))),
    }
    dataset = str(upload(client, "datasets", files)["id"])
    contents = client.get(f"/v1/datasets/{dataset}").json()["contents"]
    assert contents["blank_texts"] == {"train": {"rows": 2 * MANY, "missing": 1}}
    words = a_model(client, services, Modality.TEXT, Head.MASKED_LM)
    answer = submit(client, words, dataset)
    assert warned(answer) == [("blank_texts", "/dataset/splits/train"), ("few_rows", "/dataset/splits/validation")]
    assert "24 of the 36 texts of the split 'train'" in answer.json()["warnings"][0]["detail"]
    body = problem(
        submit(client, a_model(client, services, Modality.TEXT, Head.CLASSIFICATION), dataset), 422, "dataset_schema"
    )
    assert body["errors"][0]["pointer"] == "/dataset/columns/input"
    assert "train[1] is null or empty" in body["detail"]
    nothing = {"train.parquet": table(text=(TEXT, ["", " "] * 9)), "test.parquet": files["test.parquet"]}
    problem(submit(client, words, str(upload(client, "datasets", nothing)["id"])), 422, "dataset_empty")


def test_a_column_that_differs_between_shards_is_refused_where_it_is_named(client: TestClient, model: str) -> None:
    more = table(audio=(EMBEDDED, clips(40)), label=(TEXT, list(LABELS) * 3), other=(EMBEDDED, clips(60)))
    dataset = upload(client, "datasets", {"train.parquet": labelled(), "test.parquet": more})["id"]
    assert ("no_labels", "/dataset/splits/test") not in warned(submit(client, model, dataset))
    body = problem(submit(client, model, dataset, columns={"input": "other"}), 422, "dataset_schema")
    assert "column 'other' is in test.parquet but not in train.parquet" in body["detail"]


def test_clips_that_end_early_or_cancel_out_are_counted_and_warned_of(client: TestClient, model: str) -> None:
    sound = 0.3 * np.sin(np.arange(1600) / 5)
    written = io.BytesIO()
    soundfile.write(written, np.stack([sound, -sound], axis=1), 16000, format="WAV")
    odd = [*clips(rows=MANY - 3), clips(rows=1)[0][:-1000], tone(999)[:-7], written.getvalue()]
    files = {
        "train.parquet": shard(odd, list(LABELS) * 3),
        "validation.parquet": labelled(20),
        "test.parquet": labelled(40),
    }
    dataset = upload(client, "datasets", files)["id"]
    contents = client.get(f"/v1/datasets/{dataset}").json()["contents"]
    assert contents["clip_flaws"] == {"train": {"clips_cut_short": 2, "clips_cancelled": 1}}
    answer = submit(client, model, dataset)
    assert warned(answer) == [(code, "/dataset/splits/train") for code in ("clips_cut_short", "clips_cancelled")]
    assert answer.json()["warnings"][0]["detail"].startswith("2 of the clips of the split 'train' end earlier")
