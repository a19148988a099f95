"""Jobs over HTTP: what is accepted and what is refused, polling, events, cancelling."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from starlette.testclient import TestClient

from api_schemas.api.resources import JobError
from api_schemas.enums import StopReason
from api_schemas.errors import ErrorCode
from api_schemas.results.events import Finished
from api_schemas.results.metrics import JobResult, Scores
from service.openapi.examples.requests import JOB_EXAMPLES
from service.services import Services
from store.database.tables import OutboxMessage
from store.jobs import transitions
from tests.integration.service.conftest import claim, commit, problem
from tests.support.uploads import ast_config, checkpoint_files, dataset_files, declared, send, shard, tone

STOPPED = JobResult(
    step=0,
    stopped=StopReason.MAX_DROP,
    detail="Step 1 fell too far.",
    test=Scores(samples=9, cross_entropy=0.25, accuracy=0.875),
)


@pytest.fixture
def data_dir(stocked: Path) -> Path:
    return stocked


def pruning(body: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return body | {"pruning": body["pruning"] | changes}


def test_a_job_is_accepted_queued_and_found(client: TestClient, job_body: dict[str, Any]) -> None:
    answer = client.post("/v1/jobs", json=job_body | {"name": "first"})
    assert answer.status_code == 202
    job = answer.json()
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
    assert int(answer.headers["retry-after"]) > 0
    assert (job["state"], job["name"], job["attempts"], job["metrics"]) == ("queued", "first", 0, [])
    assert job["result"] is None
    assert job["request"]["pruning"]["criterion"] == "fisher_gate"
    assert client.get(answer.headers["location"]).json() == job
    assert [item["id"] for item in client.get("/v1/jobs").json()["items"]] == [job["id"]]
    assert client.get("/v1/jobs?state=running").json()["items"] == []
    assert len(client.get("/v1/jobs?state=queued").json()["items"]) == 1


def test_a_dead_broker_leaves_the_message_for_maintenance(job_id: str, services: Services) -> None:
    with services.database.read() as session:
        assert session.query(OutboxMessage).count() == 1
    assert claim(services).job_id == job_id


@pytest.mark.parametrize("name", JOB_EXAMPLES)
def test_documented_examples_are_accepted(client: TestClient, job_body: dict[str, Any], name: str) -> None:
    example = JOB_EXAMPLES[name]["value"]
    body = example | {"model": job_body["model"], "dataset": job_body["dataset"]}
    assert client.post("/v1/jobs", json=body).status_code == 202


def test_a_hub_dataset_is_the_workers_to_fetch(client: TestClient, job_body: dict[str, Any]) -> None:
    hub = {"type": "hf", "id": "someone/words", "revision": "0" * 40}
    assert client.post("/v1/jobs", json=job_body | {"dataset": hub}).status_code == 202


@pytest.mark.parametrize("target", [0, 1, -0.5, 1.5, "half", "nan"])
def test_a_sparsity_that_is_none(client: TestClient, job_body: dict[str, Any], target: Any) -> None:
    answer = client.post("/v1/jobs", json=pruning(job_body, target={"attention_sparsity": target}))
    body = problem(answer, 422, "invalid_request")
    assert body["errors"][0]["pointer"] == "/pruning/target/attention_sparsity"


@pytest.mark.parametrize("target", [{"attention_sparsity": None}, {}, {"flops": 0.2, "parameters": 0.2}])
def test_a_target_is_exactly_one_share(client: TestClient, job_body: dict[str, Any], target: dict[str, Any]) -> None:
    body = problem(client.post("/v1/jobs", json=pruning(job_body, target=target)), 422, "invalid_request")
    assert body["errors"][0]["pointer"] == "/pruning/target"


def test_a_sparsity_out_of_reach_says_the_maximum(client: TestClient, job_body: dict[str, Any]) -> None:
    answer = client.post("/v1/jobs", json=pruning(job_body, preset="paper", target={"attention_sparsity": 0.8}))
    body = problem(answer, 422, "sparsity_out_of_reach")
    assert "at most 0.74" in body["detail"]
    assert body["errors"][0]["pointer"] == "/pruning/target/attention_sparsity"
    finer = pruning(job_body, preset="paper", target={"attention_sparsity": 0.8}, granularity="per_head")
    assert client.post("/v1/jobs", json=finer).status_code == 202
    assert len(client.get("/v1/jobs").json()["items"]) == 1


def test_labels_the_checkpoint_does_not_know(client: TestClient, job_body: dict[str, Any]) -> None:
    other = send(client, "datasets", dataset_files(["up", "sideways"])).json()["id"]
    answer = client.post("/v1/jobs", json=job_body | {"dataset": {"type": "upload", "id": other}})
    body = problem(answer, 422, "labels_mismatch")
    assert "1 labels of the dataset are unknown to the checkpoint: ['sideways']" in body["detail"]
    assert [item["pointer"] for item in body["errors"]] == ["/dataset/columns/label", "/model"]
    assert "'sideways', 'up'" in body["errors"][0]["detail"]
    assert "'down', 'left', 'right', 'up'" in body["errors"][1]["detail"]


def test_a_subset_of_the_labels_is_fine(client: TestClient, job_body: dict[str, Any]) -> None:
    other = send(client, "datasets", dataset_files(["up", "down"])).json()["id"]
    assert client.post("/v1/jobs", json=job_body | {"dataset": {"type": "upload", "id": other}}).status_code == 202


def test_several_labels_a_clip_need_a_checkpoint_for_them(client: TestClient, job_body: dict[str, Any]) -> None:
    data = shard([tone()] * 4, [["up", "left"], ["up"]] * 2, label_type=pa.list_(pa.string()))
    several = {"type": "upload", "id": send(client, "datasets", {"train.parquet": data}).json()["id"]}
    answer = client.post("/v1/jobs", json=job_body | {"dataset": several})
    assert "problem_type" in problem(answer, 422, "labels_mismatch")["detail"]
    files = checkpoint_files(ast_config(problem_type="multi_label_classification"))
    model = {"type": "upload", "id": send(client, "models", files).json()["id"]}
    for dataset in (several, job_body["dataset"]):
        assert client.post("/v1/jobs", json=job_body | {"model": model, "dataset": dataset}).status_code == 202


def test_splits_and_columns_that_are_not_there(client: TestClient, job_body: dict[str, Any]) -> None:
    def with_dataset(**changes: Any) -> dict[str, Any]:
        return job_body | {"dataset": job_body["dataset"] | changes}

    for changes, pointer in (
        ({"splits": {"train": "training"}}, "/dataset/splits/train"),
        ({"splits": {"test": "final"}}, "/dataset/splits/test"),
        ({"columns": {"group": "speaker"}}, "/dataset/columns/group"),
    ):
        body = problem(client.post("/v1/jobs", json=with_dataset(**changes)), 422, "dataset_schema")
        assert body["errors"][0]["pointer"] == pointer
    only = send(client, "datasets", {"train.parquet": shard([tone()] * 4, ["up", "down"] * 2)}).json()["id"]
    assert client.post("/v1/jobs", json=with_dataset(id=only)).status_code == 202


def test_no_two_roles_are_one_split(client: TestClient, job_body: dict[str, Any]) -> None:
    hub = {"type": "hf", "id": "someone/data", "revision": "0" * 40}
    for dataset in (job_body["dataset"], hub):
        for splits, pointer in (
            ({"validation": "train"}, "/dataset/splits/validation"),
            ({"test": "validation"}, "/dataset/splits/test"),
            ({"train": "test"}, "/dataset/splits/test"),
        ):
            answer = client.post("/v1/jobs", json=job_body | {"dataset": dataset | {"splits": splits}})
            assert problem(answer, 422, "invalid_request")["errors"][0]["pointer"] == pointer


def test_what_the_preset_says_fills_what_is_left_out(client: TestClient, job_body: dict[str, Any]) -> None:
    paper = {"split": "validation", "samples": None, "refit_samples": None, "labels": "data", "draws": 1}
    best = {"split": "train", "samples": 512, "refit_samples": 2048, "labels": "model", "draws": 4}
    for given, calibration in (
        ({}, best),
        ({"calibration": {"draws": 2}}, best | {"draws": 2}),
        ({"calibration": {"samples": 64}}, best | {"samples": 64, "refit_samples": None}),
        ({"preset": "paper"}, paper),
        ({"preset": "paper", "calibration": {"samples": 64}}, paper | {"samples": 64}),
        (
            {"preset": "paper", "calibration": {"split": "train", "samples": 9}},
            paper | {"split": "train", "samples": 9},
        ),
    ):
        job = client.post("/v1/jobs", json=pruning(job_body, **given)).json()
        assert job["request"]["pruning"]["calibration"] == calibration


def test_inputs_that_are_not_ready_or_not_there(client: TestClient, job_body: dict[str, Any]) -> None:
    open_model = client.post("/v1/models", json={"files": declared(checkpoint_files())}).json()["id"]
    answer = client.post("/v1/jobs", json=job_body | {"model": {"type": "upload", "id": open_model}})
    assert problem(answer, 409, "upload_incomplete")["errors"][0]["pointer"] == "/model/id"
    absent = {"type": "upload", "id": f"dst_{'a' * 26}"}
    answer = client.post("/v1/jobs", json=job_body | {"dataset": absent})
    assert problem(answer, 404, "not_found")["errors"][0]["pointer"] == "/dataset/id"
    assert client.get("/v1/jobs").json()["items"] == []


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"surprise": 1}, "/surprise"),
        ({"model": {"type": "upload"}}, "/model/id"),
        ({"dataset": {"type": "upload", "id": "dst_x"}}, "/dataset/id"),
        ({"dataset": {"type": "ftp"}}, "/dataset"),
        ({"finetune": {"lora": {"rank": 0}}}, "/finetune/lora/rank"),
        ({"finetune": {"weight_decay": float("inf")}}, "/finetune/weight_decay"),
        ({"evaluate": {"latency_batch_sizes": [1, 0]}}, "/evaluate/latency_batch_sizes/1"),
        ({"exports": ["onnx", "tflite"]}, "/exports/1"),
        ({"exports": ["onnx", "onnx"]}, "/exports"),
        ({"seed": -1}, "/seed"),
    ],
)
def test_fields_that_are_wrong_are_pointed_at(
    client: TestClient, job_body: dict[str, Any], changes: dict[str, Any], pointer: str
) -> None:
    body = json.dumps(job_body | changes)  # Python's JSON can say Infinity, and so can a client's.
    answer = client.post("/v1/jobs", content=body, headers={"content-type": "application/json"})
    assert [item["pointer"] for item in problem(answer, 422, "invalid_request")["errors"]] == [pointer]


def test_polling_with_etags(client: TestClient, job_id: str, services: Services, tmp_path: Path) -> None:
    address = f"/v1/jobs/{job_id}"
    first = client.get(address)
    tag = first.headers["etag"]
    unchanged = client.get(address, headers={"if-none-match": tag})
    assert (unchanged.status_code, unchanged.content, unchanged.headers["etag"]) == (304, b"", tag)
    assert "retry-after" in unchanged.headers

    lease = claim(services)
    commit(services, lease, 0, {}, tmp_path)
    changed = client.get(address, headers={"if-none-match": tag})
    assert changed.status_code == 200
    assert (changed.json()["state"], changed.json()["attempts"]) == ("running", 1)
    assert [metrics["step"] for metrics in changed.json()["metrics"]] == [0]

    with services.database.write() as session:
        transitions.succeed(session, lease, (Finished(steps=5, result=STOPPED),), result=STOPPED)
    ended = client.get(address)
    assert ended.json()["state"] == "succeeded"
    assert ended.json()["result"] == STOPPED.model_dump(mode="json")
    assert client.get(f"{address}/events").json()["items"][-2]["body"]["result"] == ended.json()["result"]
    assert "retry-after" not in ended.headers


def test_events_in_order_and_in_pages(client: TestClient, job_id: str, services: Services) -> None:
    lease = claim(services)
    with services.database.write() as session:
        transitions.fail(session, lease, _error())
    address = f"/v1/jobs/{job_id}/events"
    everything = client.get(address).json()
    assert [item["seq"] for item in everything["items"]] == [1, 2, 3]
    assert [item["body"]["state"] for item in everything["items"]] == ["queued", "running", "failed"]
    assert everything["next_cursor"] is None
    first = client.get(address, params={"limit": 2}).json()
    assert (len(first["items"]), first["next_cursor"]) == (2, "2")
    rest = client.get(address, params={"limit": 2, "after": first["next_cursor"]}).json()
    assert ([item["seq"] for item in rest["items"]], rest["next_cursor"]) == ([3], None)
    assert client.get(f"/v1/jobs/{job_id}").json()["error"]["code"] == "engine_error"


def test_cancelling(client: TestClient, job_id: str) -> None:
    answer = client.post(f"/v1/jobs/{job_id}/cancel")
    assert (answer.status_code, answer.json()["state"]) == (202, "cancelled")
    problem(client.post(f"/v1/jobs/{job_id}/cancel"), 409, "conflict")


def test_cancelling_while_running_waits_for_the_worker(client: TestClient, job_id: str, services: Services) -> None:
    lease = claim(services)
    for _ in range(2):
        assert client.post(f"/v1/jobs/{job_id}/cancel").json()["state"] == "cancelling"
    with services.database.write() as session:
        transitions.confirm_cancel(session, lease)
    problem(client.post(f"/v1/jobs/{job_id}/cancel"), 409, "conflict")


def test_jobs_that_are_not_there(client: TestClient) -> None:
    for job_id in (f"job_{'a' * 26}", "job_1", "x", "job_%00", f"mdl_{'a' * 26}"):
        for address in ("", "/events", "/checkpoints", "/checkpoints/1", "/report"):
            problem(client.get(f"/v1/jobs/{job_id}{address}"), 404, "not_found")
        problem(client.post(f"/v1/jobs/{job_id}/cancel"), 404, "not_found")


def _error() -> JobError:
    return JobError(code=ErrorCode.ENGINE_ERROR, detail="it broke")
