"""Uploads over HTTP: the way they go well, and every way they must not, with nothing stored half."""

import asyncio
import base64
import json
import pickle
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from safetensors.numpy import save
from sqlalchemy import select
from starlette.testclient import TestClient

import store.uploads.uploads
from api_schemas.api.resources import DeclaredFile, UploadedFile
from service.core.uploads import uploads
from service.services import Services
from store.database.tables import Upload
from tests.integration.service.conftest import problem
from tests.support.uploads import (
    LABELS,
    NARROW,
    ast_config,
    ast_tensors,
    checkpoint_files,
    dataset_files,
    declared,
    preprocessor_config,
    pruned_ast_config,
    send,
    sentence_files,
    shard,
    tone,
)


def stored(services: Services) -> list[str]:
    """Keys of everything among the artifacts."""
    return [found.key for found in services.artifacts.list("uploads")]


def declare(client: TestClient, files: dict[str, bytes], kind: str = "models") -> str:
    answer = client.post(f"/v1/{kind}", json={"name": "mine", "files": declared(files)})
    assert answer.status_code == 201
    return str(answer.headers["location"])


def test_a_model_goes_in_and_is_described(client: TestClient) -> None:
    files = checkpoint_files()
    address = declare(client, files)
    assert client.get(address).json()["state"] == "open"
    for name, data in files.items():
        answer = client.put(f"{address}/files/{name}", content=data)
        assert answer.json() == declared({name: data})[0] | {"uploaded": True}

    model = client.post(f"{address}/complete").json()

    assert (model["state"], model["name"]) == ("ready", "mine")
    layout = model["layout"]
    assert layout["labels"] == list(LABELS)
    assert layout["attention_parameters"] == 2 * (4 * 32 * 32 + 4 * 32)
    assert layout["total_parameters"] == sum(array.size for array in ast_tensors(ast_config()).values())
    assert layout["max_sparsity"]["entire_head"] == pytest.approx(0.75, abs=0.01)
    assert client.get(address).json() == model
    assert client.post(f"{address}/complete").json() == model
    assert [item["id"] for item in client.get("/v1/models").json()["items"]] == [model["id"]]


def test_a_result_in_the_layout_of_our_own_is_taken_as_it_is(client: TestClient) -> None:
    config = pruned_ast_config()
    model = send(client, "models", checkpoint_files(config)).json()
    assert model["state"] == "ready", model
    assert [layer["qk"] for layer in model["layout"]["widths"]["layers"]] == [list(qk) for qk, _, _ in NARROW]
    assert model["layout"]["total_parameters"] == sum(array.size for array in ast_tensors(config).values())
    assert [warning["code"] for warning in model["warnings"]] == ["pruned_before"]
    other = config | {"pruned_feed_forward": [each | {"neurons": 8} for each in config["pruned_feed_forward"]]}
    problem(send(client, "models", checkpoint_files(other, weights=save(ast_tensors(config)))), 422, "weights_mismatch")


def test_what_of_a_model_is_not_used_is_said(client: TestClient, services: Services) -> None:
    config = ast_config(
        num_class=4, auto_map={"AutoModel": "own.Own"}, id2label=dict.fromkeys("0123", "up"), label2id=None
    )
    settings = json.dumps(preprocessor_config(crop=1)).encode()
    model = send(client, "models", checkpoint_files(config, preprocessor=settings)).json()
    codes = ["code_ignored", "config_ignored", "labels_repeated", "settings_ignored"]
    assert [warning["code"] for warning in model["warnings"]] == codes
    assert client.get(f"/v1/models/{model['id']}").json() == model
    # As it was stored before there were any.
    with services.database.write() as session:
        row = session.scalar(select(Upload).where(Upload.id == model["id"]))
        assert row is not None
        row.description = {key: value for key, value in (row.description or {}).items() if key != "warnings"}
    assert client.get(f"/v1/models/{model['id']}").json() == model | {"warnings": []}


def test_a_model_that_cannot_be_taken_is_refused_before_its_weights_come(
    client: TestClient, services: Services
) -> None:
    config = json.dumps(ast_config(model_type="bloom")).encode()
    assert refused_at_put(client, services, "config.json", config) == "architecture_unsupported"


def test_a_dataset_goes_in_and_is_inspected(client: TestClient, services: Services) -> None:
    dataset = send(client, "datasets", dataset_files()).json()
    assert dataset["contents"]["rows"] == {"train": 4, "validation": 4, "test": 4}
    assert dataset["contents"]["labels"] == list(LABELS)
    assert client.get(f"/v1/datasets/{dataset['id']}").json() == dataset
    assert [path for path in services.settings.scratch.rglob("*") if path.is_file()] == []


def test_columns_named_at_completion(client: TestClient) -> None:
    files = {"train.parquet": shard([tone()], ["up"], label_column="word")}
    address = declare(client, files, "datasets")
    client.put(f"{address}/files/train.parquet", content=files["train.parquet"])
    problem(client.post(f"{address}/complete", json={"columns": {"label": "label"}}), 422, "dataset_schema")
    body = {"columns": {"label": "word"}}
    assert client.post(f"{address}/complete", json=body).json()["contents"]["label_column"] == "word"


def test_a_file_may_be_sent_again_until_the_upload_is_complete(client: TestClient, services: Services) -> None:
    files = checkpoint_files()
    address = declare(client, files)
    for name, data in [*files.items(), *files.items()]:
        assert client.put(f"{address}/files/{name}", content=data).status_code == 200
    assert len(stored(services)) == 3
    assert client.post(f"{address}/complete").status_code == 200
    problem(client.put(f"{address}/files/config.json", content=files["config.json"]), 409, "upload_closed")
    assert len(stored(services)) == 3


def test_a_file_sent_several_times_at_once_is_kept_once(client: TestClient, services: Services) -> None:
    data = checkpoint_files()["config.json"]
    model_id = declare(client, checkpoint_files()).rpartition("/")[2]

    async def send_together() -> list[UploadedFile]:
        all_have_begun = asyncio.Barrier(4)

        async def halves() -> AsyncIterator[bytes]:
            yield data[:100]
            await all_have_begun.wait()  # Every one has found the upload open and the file not there yet.
            yield data[100:]

        one = (uploads.receive(services, "model", model_id, "config.json", None, halves()) for _ in range(4))
        return await asyncio.wait_for(asyncio.gather(*one), 60)

    assert all(file.uploaded for file in asyncio.run(send_together()))
    assert len(stored(services)) == 1


@pytest.mark.parametrize("kind", ["models", "datasets"])
def test_files_that_go_while_they_are_checked(client: TestClient, services: Services, kind: str) -> None:
    files = checkpoint_files() if kind == "models" else dataset_files()
    address = declare(client, files, kind)
    for name, data in files.items():
        client.put(f"{address}/files/{name}", content=data)
    for key in stored(services)[1:]:
        services.artifacts.delete(key)
    asked = "Send the missing files" if kind == "models" else "Send them again"
    assert asked in problem(client.post(f"{address}/complete"), 409, "conflict")["detail"]
    assert client.get(address).json()["state"] == "open"
    for name, data in files.items():
        client.put(f"{address}/files/{name}", content=data)
    assert client.post(f"{address}/complete").status_code == 200


def test_chunked_bodies_need_no_length(client: TestClient) -> None:
    files = checkpoint_files()
    address = declare(client, files)

    def chunks() -> Iterator[bytes]:
        data = files["model.safetensors"]
        yield from (data[start : start + 1000] for start in range(0, len(data), 1000))

    assert client.put(f"{address}/files/model.safetensors", content=chunks()).status_code == 200


def refused_at_put(client: TestClient, services: Services, name: str, data: bytes, kind: str = "models") -> str:
    """Declare truthfully, send, expect a refusal; the file is not there afterwards, nor are its bytes."""
    files = (checkpoint_files() if kind == "models" else dataset_files()) | {name: data}
    address = declare(client, files, kind)
    answer = client.put(f"{address}/files/{name}", content=data)
    assert answer.status_code == 422
    assert stored(services) == []
    assert not any(file["uploaded"] for file in client.get(address).json()["files"])
    problem(client.post(f"{address}/complete"), 409, "upload_incomplete")
    return str(answer.json()["code"])


def test_pickles_under_another_name_are_refused_and_not_kept(client: TestClient, services: Services) -> None:
    data = pickle.dumps({"weight": [0.0] * 1000})
    assert refused_at_put(client, services, "model.safetensors", data) == "file_type_refused"
    assert refused_at_put(client, services, "config.json", data) == "file_type_refused"
    assert refused_at_put(client, services, "train.parquet", data, "datasets") == "file_type_refused"


def test_code_and_rubbish_are_refused_and_not_kept(client: TestClient, services: Services) -> None:
    config = json.dumps(ast_config(auto_map={"AutoConfig": "evil.Config"}, architectures=["EvilModel"])).encode()
    assert refused_at_put(client, services, "config.json", config) == "code_refused"
    assert refused_at_put(client, services, "config.json", b"{") == "config_invalid"
    assert refused_at_put(client, services, "model.safetensors", bytes(100)) == "safetensors_invalid"


def test_pickles_are_refused_by_name_before_a_byte_is_sent(client: TestClient) -> None:
    for name in ("pytorch_model.bin", "model.pt", "model.pkl"):
        answer = client.post("/v1/models", json={"files": declared({**checkpoint_files(weights=None), name: b"x"})})
        problem(answer, 422, "file_type_refused")
    assert client.get("/v1/models").json()["items"] == []


def test_bytes_that_are_not_the_declared_ones(client: TestClient, services: Services) -> None:
    files = checkpoint_files()
    data = files["model.safetensors"]
    address = f"{declare(client, files)}/files/model.safetensors"
    other = data[:-1] + bytes([data[-1] ^ 1])
    assert "SHA-256" in problem(client.put(address, content=other), 422, "checksum_mismatch")["detail"]
    problem(client.put(address, content=data[:-1]), 422, "checksum_mismatch")
    problem(client.put(address, content=data + b"x"), 422, "checksum_mismatch")
    problem(client.put(address, content=iter([data[:-1]])), 422, "checksum_mismatch")
    problem(client.put(address, content=iter([data, b"x"])), 422, "checksum_mismatch")
    assert stored(services) == []
    assert client.put(address, content=data).status_code == 200


def test_missing_and_undeclared_files(client: TestClient, services: Services) -> None:
    address = declare(client, checkpoint_files())
    body = problem(client.post(f"{address}/complete"), 409, "upload_incomplete")
    assert [item["pointer"] for item in body["errors"]] == [f"/{name}" for name in checkpoint_files()]
    problem(client.put(f"{address}/files/README.md", content=b"x"), 422, "file_unexpected")
    assert stored(services) == []
    for kind, files, code in (
        ("models", {"config.json": b"{}"}, "file_missing"),
        ("datasets", {"train.csv": b""}, "file_unexpected"),
    ):
        problem(client.post(f"/v1/{kind}", json={"files": declared(files)}), 422, code)


def test_an_upload_that_is_not_complete_goes_without_a_trace(client: TestClient, services: Services) -> None:
    files = checkpoint_files()
    address = declare(client, files)
    client.put(f"{address}/files/config.json", content=files["config.json"])
    answer = client.delete(address)
    assert (answer.status_code, answer.content) == (204, b"")
    assert stored(services) == []
    problem(client.get(address), 404, "not_found")
    problem(client.delete(address), 404, "not_found")


@pytest.mark.parametrize("name", ["../config.json", "a/../b.json", "/a.json", "con fig.json", "", "x" * 200])
def test_names_that_are_no_names(client: TestClient, name: str) -> None:
    body = problem(client.post("/v1/models", json={"files": declared({name: b""})}), 422, "file_name_refused")
    assert body["errors"][0]["pointer"] == "/files/0/name"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"model_type": "bloom"}, "architecture_unsupported"),
        ({"hidden_size": 48}, "weights_mismatch"),
        ({"num_attention_heads": 5}, "config_invalid"),
        ({"quantization_config": {"bits": 4}}, "config_invalid"),
    ],
)
def test_checkpoints_that_do_not_fit_are_refused(client: TestClient, changes: dict[str, Any], code: str) -> None:
    files = checkpoint_files() | {"config.json": json.dumps(ast_config(**changes)).encode()}
    problem(send(client, "models", files), 422, code)
    assert [item["state"] for item in client.get("/v1/models").json()["items"]] == ["open"]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (shard([], []), "dataset_empty"),
        (shard([None], ["up"]), "dataset_schema"),
        (shard([b"noise"], ["up"]), "audio_undecodable"),
    ],
)
def test_datasets_that_cannot_be_used_are_refused(client: TestClient, data: bytes, code: str) -> None:
    problem(send(client, "datasets", {"train.parquet": data}), 422, code)
    assert [item["state"] for item in client.get("/v1/datasets").json()["items"]] == ["open"]


def test_sizes_are_bounded(client: TestClient, services: Services) -> None:
    huge = [{"name": "model.safetensors", "size": services.settings.max_file_bytes + 1, "sha256": "ab" * 32}]
    assert problem(client.post("/v1/models", json={"files": huge}), 413, "request_too_large")["errors"]
    many = [
        {"name": f"train-{n}.parquet", "size": 1, "sha256": "ab" * 32} for n in range(services.settings.max_files + 1)
    ]
    problem(client.post("/v1/datasets", json={"files": many}), 413, "request_too_large")
    long = b'{"a": "' + b"x" * services.settings.max_json_bytes + b'"}'
    address = declare(client, checkpoint_files() | {"config.json": long})
    problem(client.put(f"{address}/files/config.json", content=long), 413, "request_too_large")


def test_models_and_datasets_are_apart(client: TestClient) -> None:
    model_id = declare(client, checkpoint_files()).rsplit("/", 1)[1]
    dataset_id = declare(client, dataset_files(), "datasets").rsplit("/", 1)[1]
    for address in (f"/v1/models/{dataset_id}", f"/v1/datasets/{model_id}", f"/v1/models/mdl_{'a' * 26}"):
        problem(client.get(address), 404, "not_found")
        problem(client.post(f"{address}/complete"), 404, "not_found")
        problem(client.put(f"{address}/files/config.json", content=b"{}"), 404, "not_found")


def test_pages(client: TestClient) -> None:
    made = [declare(client, checkpoint_files()).rsplit("/", 1)[1] for _ in range(5)]
    seen: list[str] = []
    cursor = None
    while True:
        page = client.get("/v1/models", params={"limit": 2} | ({"cursor": cursor} if cursor else {})).json()
        assert len(page["items"]) <= 2
        seen += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert sorted(seen) == sorted(made)
    problem(client.get("/v1/models", params={"cursor": "rubbish"}), 422, "invalid_request")
    assert (
        problem(client.get("/v1/models", params={"limit": 0}), 422, "invalid_request")["errors"][0]["pointer"]
        == "/query/limit"
    )


def test_what_was_sent_before_need_not_be_sent_again(client: TestClient, services: Services) -> None:
    files = checkpoint_files()
    first = send(client, "models", files).json()
    kept = stored(services)
    again = client.post("/v1/models", json={"files": declared(files)}).json()
    assert all(file["uploaded"] for file in again["files"])
    assert client.post(f"/v1/models/{again['id']}/complete").json()["layout"] == first["layout"]
    assert stored(services) == kept


def test_bytes_outlive_the_upload_they_came_with(client: TestClient, services: Services) -> None:
    files = checkpoint_files()
    first = declare(client, files)
    assert client.put(f"{first}/files/model.safetensors", content=files["model.safetensors"]).status_code == 200
    second = declare(client, files)
    assert client.delete(first).status_code == 204
    assert len(stored(services)) == 1
    for name in ("config.json", "preprocessor_config.json"):
        client.put(f"{second}/files/{name}", content=files[name])
    assert client.post(f"{second}/complete").json()["state"] == "ready"


def test_bytes_go_with_the_last_upload_that_has_them(client: TestClient, services: Services) -> None:
    files = checkpoint_files()
    addresses = [declare(client, files)]
    client.put(f"{addresses[0]}/files/config.json", content=files["config.json"])
    addresses.append(declare(client, files))
    for address in addresses:
        assert len(stored(services)) == 1
        assert client.delete(address).status_code == 204
    assert stored(services) == []


def test_bytes_are_known_only_as_what_they_were_checked_for(client: TestClient) -> None:
    """A text is not weights because its SHA-256 is known."""
    files = checkpoint_files()
    text = b"a text"
    client.put(f"{declare(client, files | {'README.md': text})}/files/README.md", content=text)
    again = declare(client, {"README.md": text} | dict.fromkeys(files, text))
    come = {file["name"]: file["uploaded"] for file in client.get(again).json()["files"]}
    assert come == {"README.md": True} | dict.fromkeys(files, False)
    # Nor is one JSON file another.
    settings = files["preprocessor_config.json"]
    client.put(f"{declare(client, files)}/files/preprocessor_config.json", content=settings)
    again = declare(client, files | {"config.json": settings})
    come = {file["name"]: file["uploaded"] for file in client.get(again).json()["files"]}
    assert come == {"preprocessor_config.json": True, "config.json": False, "model.safetensors": False}
    # Nor is a model's file a dataset's.
    assert not client.post("/v1/datasets", json={"files": declared({"train.parquet": text})}).json()["files"][0][
        "uploaded"
    ]


def test_bytes_are_known_to_their_owner_alone(client: TestClient, services: Services) -> None:
    files = checkpoint_files()
    send(client, "models", files)
    with services.database.write() as session:
        other = store.uploads.uploads.create(
            session, "other", "model", None, [DeclaredFile(**file) for file in declared(files)]
        )
        assert [file.key for file in other.files] == [None] * len(files)


BESIDE = {
    ".gitattributes": b"*.bin",
    "onnx/model.onnx": b"graph",
    "flax_model.msgpack": b"x",
    "tf_model.h5": b"x",
    "pytorch_model.bin": b"x",
    "optimizer.pt": b"x",
    "training_args.bin": b"x",
    "modeling_own.py": b"import os",
    "checkpoint-500/model.safetensors": b"x",
    "2_CNN/model.safetensors": b"x",
}


def test_a_whole_folder_is_declared_and_what_is_needed_of_it_kept(client: TestClient, services: Services) -> None:
    files = sentence_files(pooling_mode_cls_token=True, pooling_mode_mean_tokens=False)
    big = [{**file, "size": 2**60} for file in declared(BESIDE)]
    answer = client.post("/v1/models", json={"files": [*big, *declared(files)]})
    assert answer.status_code == 201, answer.text
    begun, address = answer.json(), answer.headers["location"]
    assert [file["name"] for file in begun["files"]] == list(files)
    (warning,) = begun["warnings"]
    assert (warning["code"], warning["pointer"]) == ("files_left_out", "/files")
    assert all(name in warning["detail"] for name in BESIDE)
    with services.database.read() as session:
        assert sum(upload.size for upload in session.scalars(select(Upload))) == sum(map(len, files.values()))
    for name, data in BESIDE.items():
        assert (
            "not needed"
            in problem(client.put(f"{address}/files/{name}", content=data), 422, "file_unexpected")["detail"]
        )
    encoded = {"Upload-Length": "1", "Upload-Metadata": "filename " + base64.b64encode(b"optimizer.pt").decode()}
    refused = client.post(f"{address}/uploads", headers={"Tus-Resumable": "1.0.0", **encoded})
    assert "not needed" in problem(refused, 422, "file_unexpected")["detail"]
    assert stored(services) == []
    for name, data in files.items():
        # A client that was generated writes a slash as %2F.
        place = name if name.startswith("1_") else name.replace("/", "%2F")
        assert client.put(f"{address}/files/{place}", content=data).json()["name"] == name
    ready = client.post(f"{address}/complete").json()
    assert (ready["state"], ready["layout"]["pooling"]) == ("ready", ["cls"])
    assert ready["warnings"][0] == warning
    assert client.get(address).json() == ready
    # What has been sent is not asked for again, wherever it lies.
    again = client.post("/v1/models", json={"files": declared(files)}).json()
    assert [file["uploaded"] for file in again["files"]] == [True] * len(files)
    assert again["warnings"] == []


@pytest.mark.parametrize("place", ["1_Pooling%2Fconfig.json", "1_Pooling/config.json"])
def test_a_name_with_a_folder_in_the_address(client: TestClient, services: Services, place: str) -> None:
    files = sentence_files()
    address = declare(client, files)
    sent = client.put(f"{address}/files/{place}", content=files["1_Pooling/config.json"])
    assert sent.json()["name"] == "1_Pooling/config.json"
    for other in (
        "1_Pooling/../config.json",
        "1_Pooling%2F..%2Fconfig.json",
        "%2E%2E/config.json",
        "1_Pooling%5Cconfig.json",
    ):
        assert client.put(f"{address}/files/{other}", content=b"{}").status_code in (404, 405, 422)
    problem(client.put(f"{address}/files/1_Pooling/config.json/config.json", content=b"{}"), 422, "file_unexpected")
    assert [key.rpartition("/1_Pooling/")[2] for key in stored(services)] == ["config.json"]


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        (
            {"modules.json": b'[{"type": "sentence_transformers.models.CNN"}]'},
            "config_invalid",
            "CNN",
        ),
        ({"modules.json": b'[{"type": "evil.Model", "path": ""}]'}, "code_refused", "evil.Model"),
        ({"1_Pooling/config.json": b'{"pooling_mode": "own"}'}, "config_invalid", "one of cls"),
        ({"1_Pooling/config.json": None}, "file_missing", "1_Pooling/config.json"),
    ],
)
def test_folders_of_sentence_transformers_that_cannot_be_had(
    client: TestClient, changes: dict[str, bytes | None], code: str, said: str
) -> None:
    files = {name: data for name, data in {**sentence_files(), **changes}.items() if data is not None}
    assert said in problem(send(client, "models", files), 422, code)["detail"]
