"""Sweeps over HTTP: all jobs or none, steered and deleted as wholes, answered as a table."""

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select
from starlette.testclient import TestClient

from api_schemas.results.metrics import JobResult, Scores, StepMetrics
from service.services import Services
from store.database.tables import Job, OutboxMessage, Sweep
from store.jobs import transitions
from store.jobs.transitions import Lease
from store.settings import Settings
from tests.integration.service.conftest import problem
from tests.support.jobs.records import step_file, step_metrics

PAPER = {"pruning": {"preset": "paper", "target": {"attention_sparsity": 0.5}}}
REACH = "/grid/pruning.target.attention_sparsity/1"
SHARES = {"pruning.target.attention_sparsity": [0.25, 0.5, 0.75]}


@pytest.fixture
def data_dir(stocked: Path) -> Path:
    return stocked


@pytest.fixture
def sweep_body(job_body: dict[str, Any]) -> dict[str, Any]:
    """Three jobs."""
    return {"model": job_body["model"], "dataset": job_body["dataset"], "grid": SHARES}


def submitted(client: TestClient, body: dict[str, Any]) -> dict[str, Any]:
    answer = client.post("/v1/sweeps", json=body)
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"/v1/sweeps/{answer.json()['id']}"
    found: dict[str, Any] = answer.json()
    return found


def finish(services: Services, accuracy: float, parameters: int) -> str:
    """Claim the next job and let it succeed with one step; returns which it was."""
    with services.database.write() as session:
        job = transitions.claim(session, "a", 3600.0, 3)
        assert job is not None
        lease, dense = Lease(job.id, job.epoch), step_metrics(0)
        cut = step_metrics(1)
        size = dense.size.model_copy(update={"total_parameters": parameters})
        scores = Scores(samples=10, accuracy=accuracy)
        measured: StepMetrics = cut.model_copy(update={"size": size, "validation": scores, "test": scores})
        transitions.commit_step(session, lease, dense, [], downloadable=False)
        transitions.commit_step(session, lease, measured, [step_file(job.id, 1)], downloadable=True)
        result = JobResult(step=1, stopped=None, detail="the last step", test=scores)
        transitions.succeed(session, lease, result=result)
        return job.id


def rows(services: Services, table: type[Any]) -> int:
    with services.database.read() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def test_the_papers_methods_are_one_line(client: TestClient, sweep_body: dict[str, Any]) -> None:
    body = {**sweep_body, "grid": {}, "methods": "paper", "base": PAPER | {"finetune": None}}
    sweep = submitted(client, body)
    assert sweep["jobs"] == {"queued": 12}
    assert sweep["state"] == "queued"
    assert sweep["rows"][0]["label"] == "entire_head/magnitude/global"
    jobs = client.get("/v1/jobs", params={"sweep": sweep["id"], "limit": 100}).json()["items"]
    assert {job["sweep_id"] for job in jobs} == {sweep["id"]}
    asked = {tuple(job["request"]["pruning"][name] for name in ("granularity", "criterion", "scope")) for job in jobs}
    assert len(asked) == 12
    assert all(job["request"]["pruning"]["preset"] == "paper" and job["request"]["finetune"] is None for job in jobs)
    assert {job["name"] for job in jobs} == {row["label"] for row in sweep["rows"]}


def test_what_a_spec_says_wins_over_what_all_have(client: TestClient, sweep_body: dict[str, Any]) -> None:
    specs = [{"name": "flops", "pruning": {"target": {"flops": 0.2}}}, {"seed": 3, "finetune": {"epochs": 2}}]
    base = PAPER | {"finetune": {"epochs": 1, "batch_size": 4}, "labels": {"team": "speech"}}
    sweep = submitted(client, {**sweep_body, "grid": {}, "base": base, "specs": specs, "max_parallel": None})
    first, second = (client.get(f"/v1/jobs/{row['job']}").json()["request"] for row in sweep["rows"])
    target = first["pruning"]["target"]
    assert (target["flops"], target["attention_sparsity"], first["pruning"]["preset"]) == (0.2, None, "paper")
    assert (second["seed"], second["finetune"]["epochs"], second["finetune"]["batch_size"]) == (3, 2, 4)
    assert second["labels"] == {"team": "speech"}
    assert [row["label"] for row in sweep["rows"]] == ["flops", "seed=3, epochs=2"]


@pytest.mark.parametrize(
    ("change", "pointers"),
    [
        ({"specs": [{"seed": 1}]}, ["/specs"]),
        ({"grid": {}}, [""]),
        ({"grid": {"model.id": ["a"]}}, ["/grid/model.id"]),
        ({"base": {"dataset": {}}}, ["/base/dataset"]),
        ({"grid": {"seed": [*range(9)], "priority": [*range(9)]}}, ["/grid"]),
        ({"grid": {"seed": [*range(6)]}, "methods": "paper"}, ["/grid"]),
        ({"grid": {"pruning": [{}], "pruning.align": [1]}}, ["/grid/pruning.align"]),
        ({"grid": {"pruning..align": [1]}}, ["/grid/pruning..align"]),
        ({"grid": SHARES | {"seed": [0, "x"]}}, ["/grid/seed/1"]),
        ({"grid": SHARES | {"sead": [0]}}, ["/grid/sead/0"]),
        ({"base": {"sead": 1, "finetune": {"epochs": -1}}}, ["/base/finetune/epochs", "/base/sead"]),
        ({"grid": {"pruning.target.attention_sparsity": [0.5, 0.999]}, "base": {"pruning": {"preset": "paper"}}}, [REACH]),
        ({"grid": {"seed": [1, 1]}, "base": PAPER}, ["/grid/seed/1"]),
        ({"grid": {"seed": [1]}}, ["/base/pruning"]),
        ({"grid": {}, "base": PAPER, "specs": [{}, {"seed": -1}, {"seed": 2.5}]}, ["/specs/1/seed", "/specs/2/seed"]),
        ({"grid": {}, "base": PAPER, "specs": [{"seed": 1}, {"seed": 0}, {"name": "again", "seed": 1}]}, ["/specs/2"]),
        ({"grid": {}, "specs": [{}]}, ["/specs/0/pruning"]),
        ({"base": {"exports": ["onnx", "onnx"]}}, ["/base/exports"]),
        ({"base": {"labels": {"A b": "x"}}}, ["/base/labels/A b"]),
        ({"max_parallel": 0}, ["/max_parallel"]),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_place_and_nothing_is_made(
    client: TestClient, services: Services, sweep_body: dict[str, Any], change: dict[str, Any], pointers: list[str]
) -> None:
    answer = client.post("/v1/sweeps", json=sweep_body | change)
    assert answer.status_code == 422, answer.text
    assert [item["pointer"] for item in answer.json()["errors"]] == pointers
    assert rows(services, Sweep) == rows(services, Job) == rows(services, OutboxMessage) == 0


def test_an_unknown_model_is_named_once(client: TestClient, sweep_body: dict[str, Any]) -> None:
    body = sweep_body | {"model": {"type": "upload", "id": f"mdl_{'a' * 26}"}}
    assert problem(client.post("/v1/sweeps", json=body), 404, "not_found")


def test_a_repetition_with_the_same_key_makes_no_second_sweep(
    client: TestClient, services: Services, sweep_body: dict[str, Any]
) -> None:
    key = {"Idempotency-Key": "the-same"}
    first, again = (client.post("/v1/sweeps", json=sweep_body, headers=key) for _ in range(2))
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json() == first.json()
    assert (rows(services, Sweep), rows(services, Job)) == (1, 3)


class TestWithRoomForTwo:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"max_waiting_jobs": 2})

    def test_all_jobs_count_against_the_quota(
        self, client: TestClient, services: Services, sweep_body: dict[str, Any]
    ) -> None:
        problem(client.post("/v1/sweeps", json=sweep_body), 429, "quota_exceeded")
        assert rows(services, Sweep) == rows(services, Job) == 0
        submitted(client, sweep_body | {"grid": {"pruning.target.attention_sparsity": [0.25, 0.5]}})


def test_the_table_and_the_front(client: TestClient, services: Services, sweep_body: dict[str, Any]) -> None:
    sweep = submitted(client, sweep_body)
    address = f"/v1/sweeps/{sweep['id']}"
    tag = client.get(address).headers
    assert client.get(address, headers={"If-None-Match": tag["etag"]}).status_code == 304
    done = [finish(services, accuracy, size) for accuracy, size in ((0.9, 150), (0.8, 150), (0.85, 100))]
    found = client.get(address)
    assert "retry-after" not in found.headers
    table = found.json()
    assert (table["state"], table["jobs"], table["metric"]) == ("ended", {"succeeded": 3}, "accuracy")
    assert [row["job"] for row in table["rows"]] == done
    assert [row["test"]["accuracy"] for row in table["rows"]] == [0.9, 0.8, 0.85]
    assert table["original"]["size"]["total_parameters"] == 200
    assert table["fronts"]["parameters"] == [done[2], done[0]]
    assert table["fronts"]["flops"] == [done[0]]
    assert table["fronts"]["latency"] == []
    assert client.get("/v1/sweeps").json()["items"][0]["jobs"] == {"succeeded": 3}


def test_cancel_pause_and_delete_work_on_the_whole(
    client: TestClient, services: Services, sweep_body: dict[str, Any]
) -> None:
    address = f"/v1/sweeps/{submitted(client, sweep_body)['id']}"
    done = finish(services, 0.9, 100)
    assert client.post(f"{address}/pause").json()["jobs"] == {"paused": 2, "succeeded": 1}
    assert client.get(address).json()["state"] == "paused"
    resumed = client.post(f"{address}/resume").json()
    assert (resumed["jobs"], resumed["state"]) == ({"queued": 2, "succeeded": 1}, "running")
    problem(client.delete(address), 409, "conflict")
    assert client.get(f"/v1/jobs/{done}").status_code == 200
    with services.database.write() as session:
        running = transitions.claim(session, "a", 3600.0, 3)
        assert running is not None
        lease = Lease(running.id, running.epoch)
    assert client.post(f"{address}/cancel").json()["jobs"] == {"cancelled": 1, "cancelling": 1, "succeeded": 1}
    assert client.post(f"{address}/cancel").status_code == 202
    with services.database.write() as session:
        transitions.confirm_cancel(session, lease)
    for verb in ("cancel", "pause", "resume"):
        problem(client.post(f"{address}/{verb}"), 409, "conflict")
    assert client.delete(address).status_code == 204
    problem(client.get(address), 410, "deleted")
    problem(client.get(f"/v1/jobs/{done}"), 410, "deleted")
    assert client.get("/v1/sweeps").json()["items"] == []
    actions = [entry["action"] for entry in client.get("/v1/audit").json()["items"]]
    assert actions[:5] == ["delete_sweep", "cancel_sweep", "cancel_sweep", "resume_sweep", "pause_sweep"]


def test_a_job_that_was_deleted_leaves_its_row_empty(
    client: TestClient, services: Services, sweep_body: dict[str, Any]
) -> None:
    address = f"/v1/sweeps/{submitted(client, sweep_body)['id']}"
    done = finish(services, 0.9, 100)
    assert client.delete(f"/v1/jobs/{done}").status_code == 204
    table = client.get(address).json()
    assert [row["deleted"] for row in table["rows"]] == [True, False, False]
    assert table["rows"][0]["validation"] is None
    assert table["fronts"]["parameters"] == []


def _nested(levels: int) -> Any:
    return {"a": _nested(levels - 1)} if levels else 1


@pytest.mark.parametrize(
    "change",
    [
        {"base": _nested(300)},
        {"specs": [_nested(300)]},
        {"grid": {"seed": [_nested(300)]}},
        {"base": {"\ud800": 1}},
        {"specs": [{"\ud800": 1, "name": "\ud800"}]},
        {"grid": {"\ud800": ["\ud800", "\0"]}},
        {"specs": [{"name": "\0", "pruning": {"target": {"flops": 0.2}}}]},
        {"grid": {"name": ["\0", "a"]}, "base": PAPER},
        {"specs": [{"pruning": []}, {"pruning": "x"}, {"labels": [1]}]},
        {"base": {"pruning": []}, "grid": {"pruning.align": [1]}},
        {"grid": {".": [1]}},
        {"grid": {"": [1]}},
        {"grid": {"seed": []}},
        {"specs": [1]},
        {"base": {"name": [], "priority": "high", "limits": {"device": "tpu"}}, "grid": SHARES},
    ],
    ids=range(15),
)
def test_hostile_sweeps_are_refused(client: TestClient, sweep_body: dict[str, Any], change: dict[str, Any]) -> None:
    body = {"model": sweep_body["model"], "dataset": sweep_body["dataset"], **change}
    answer = client.post("/v1/sweeps", content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert answer.status_code == 422, answer.text
    assert answer.json()["code"] == "invalid_request"
