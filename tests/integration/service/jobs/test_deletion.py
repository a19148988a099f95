"""What is deleted says so, 410, wherever it is asked for; what is needed cannot be deleted; and when things go by themselves."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select
from starlette.testclient import TestClient

from service.app import create_app
from service.services import Services
from store.database.tables import JobEventRow, JobLabel, JobLogRow, JobStep
from store.files import orphans
from store.jobs import transitions
from store.settings import Settings
from tests.integration.service.conftest import Stock, claim, commit, problem
from tests.support.local import local_client


@pytest.fixture
def data_dir(stocked: Path) -> Path:
    return stocked


@pytest.fixture
def finished(client: TestClient, services: Services, job_body: dict[str, Any], tmp_path: Path) -> str:
    job_id = str(client.post("/v1/jobs", json=job_body | {"labels": {"team": "speech"}}).json()["id"])
    lease = claim(services)
    commit(services, lease, 0, {"pruning.json": b"{}"}, tmp_path)
    commit(services, lease, 1, {"model.safetensors": b"weights", "report.html": b"<html>"}, tmp_path)
    with services.database.write() as session:
        transitions.succeed(session, lease)
    return job_id


def test_a_deleted_job_is_gone_wherever_it_is_asked_for(client: TestClient, services: Services, finished: str) -> None:
    job = f"/v1/jobs/{finished}"
    answer = client.delete(job)
    assert (answer.status_code, answer.content) == (204, b"")
    for path in (
        "", "/events", "/logs", "/report", "/checkpoints", "/checkpoints/1", "/checkpoints/1/archive",
        "/checkpoints/1/files/model.safetensors",
    ):  # fmt: skip
        problem(client.get(f"{job}{path}"), 410, "deleted")
    problem(client.get(f"{job}/events", headers={"Accept": "text/event-stream"}), 410, "deleted")
    for call in ("cancel", "pause", "resume"):
        problem(client.post(f"{job}/{call}"), 410, "deleted")
    problem(client.delete(job), 410, "deleted")
    assert client.get("/v1/jobs").json()["items"] == []
    with services.database.read() as session:
        for table in (JobStep, JobEventRow, JobLogRow, JobLabel):
            assert session.scalar(select(func.count()).select_from(table)) == 0
    assert orphans.collect(services.database, services.artifacts, grace_seconds=-60) == 3


def test_a_job_is_deleted_after_its_end(client: TestClient, services: Services, job_id: str) -> None:
    assert "queued" in problem(client.delete(f"/v1/jobs/{job_id}"), 409, "conflict")["detail"]
    claim(services)
    assert "running" in problem(client.delete(f"/v1/jobs/{job_id}"), 409, "conflict")["detail"]
    client.post(f"/v1/jobs/{job_id}/cancel")
    problem(client.delete(f"/v1/jobs/{job_id}"), 409, "conflict")
    problem(client.delete(f"/v1/jobs/job_{'a' * 26}"), 404, "not_found")


def test_ready_uploads_are_deleted_once_no_living_job_needs_them(
    client: TestClient, services: Services, stock: Stock, job_body: dict[str, Any]
) -> None:
    job = client.post("/v1/jobs", json=job_body).json()["id"]
    model, dataset = f"/v1/models/{stock.model_id}", f"/v1/datasets/{stock.dataset_id}"
    for address in (model, dataset):
        problem(client.delete(address), 409, "conflict")
    client.post(f"/v1/jobs/{job}/cancel")
    for address in (model, dataset):
        assert client.delete(address).status_code == 204
        problem(client.get(address), 410, "deleted")
        problem(client.delete(address), 410, "deleted")
        problem(client.post(f"{address}/complete"), 410, "deleted")
    problem(client.put(f"{model}/files/config.json", content=b"{}"), 410, "deleted")
    body = problem(client.post("/v1/jobs", json=job_body), 410, "deleted")
    assert body["errors"][0]["pointer"] == "/model/id"
    assert client.get("/v1/models").json()["items"] == client.get("/v1/datasets").json()["items"] == []
    assert client.get(f"/v1/jobs/{job}").json()["state"] == "cancelled"
    orphans.collect(services.database, services.artifacts, grace_seconds=-60)
    assert not list(services.artifacts.list("uploads"))


def test_when_things_go_by_themselves(data_dir: Path, stock: Stock, job_body: dict[str, Any], tmp_path: Path) -> None:
    settings = Settings(
        data_dir=data_dir,
        broker_url="redis://127.0.0.1:1/0",
        upload_retention_seconds=3600,
        result_retention_seconds=60,
    )
    app = create_app(settings)
    services = app.state.services

    def moment(text: str) -> datetime:
        return datetime.fromisoformat(text)

    with local_client(app) as client:
        model = client.get(f"/v1/models/{stock.model_id}").json()
        assert moment(model["expires_at"]) - moment(model["created_at"]) == timedelta(hours=1)
        declared = {"files": [{"name": "train.parquet", "size": 9, "sha256": "ab" * 32}]}
        unfinished = client.post("/v1/datasets", json=declared).json()
        assert moment(unfinished["expires_at"]) - moment(unfinished["created_at"]) == timedelta(days=7)
        job = client.post("/v1/jobs", json=job_body).json()
        assert job["expires_at"] is None
        lease = claim(services)
        commit(services, lease, 0, {"pruning.json": b"{}"}, tmp_path)
        commit(services, lease, 1, {"model.safetensors": b"weights"}, tmp_path)
        assert client.get(f"/v1/jobs/{job['id']}/checkpoints/1").json()["expires_at"] is None
        with services.database.write() as session:
            transitions.succeed(session, lease)
        ended = client.get(f"/v1/jobs/{job['id']}").json()
        assert moment(ended["expires_at"]) - moment(ended["finished_at"]) == timedelta(minutes=1)
        (step,) = client.get(f"/v1/jobs/{job['id']}/checkpoints").json()["items"]
        assert step["expires_at"] == ended["expires_at"]


def test_what_goes_by_itself_says_when(client: TestClient, stock: Stock, finished: str) -> None:
    assert client.get(f"/v1/models/{stock.model_id}").json()["expires_at"] is None
    job = client.get(f"/v1/jobs/{finished}").json()
    ended, goes = (datetime.fromisoformat(job[moment]) for moment in ("finished_at", "expires_at"))
    assert goes - ended == timedelta(days=365)
