"""What has expired says so, 410, wherever it is asked for; its bytes go with the next look for orphans."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from starlette.testclient import TestClient

from service.services import Services
from store import retention
from store.database.clock import now
from store.database.tables import Job, Upload
from store.files import orphans
from store.jobs import transitions
from store.settings import Settings
from tests.integration.service.conftest import Stock, claim, commit, problem

SHORT = Settings(upload_retention_seconds=3600, result_retention_seconds=3600)


@pytest.fixture
def data_dir(stocked: Path) -> Path:
    return stocked


def test_an_expired_upload_cannot_be_used_or_changed_and_its_bytes_are_removed(
    client: TestClient, services: Services, stock: Stock, job_body: dict[str, Any]
) -> None:
    with services.database.write() as session:
        session.execute(update(Upload).values(created_at=now(plus=-7200)))
    assert retention.expire(services.database, SHORT).uploads == 2
    model = f"/v1/models/{stock.model_id}"
    assert client.get(model).json()["state"] == "expired"
    assert problem(client.post("/v1/jobs", json=job_body), 410, "expired")["errors"][0]["pointer"] == "/model/id"
    problem(client.post(f"{model}/complete"), 410, "expired")
    problem(client.post(f"/v1/datasets/{stock.dataset_id}/complete"), 410, "expired")
    problem(client.put(f"{model}/files/config.json", content=b"{}"), 410, "expired")
    assert list(services.artifacts.list("uploads"))
    assert orphans.collect(services.database, services.artifacts, grace_seconds=-60) > 0
    assert not list(services.artifacts.list("uploads"))


def test_expired_checkpoints_are_gone_and_metrics_stay(
    client: TestClient, services: Services, job_id: str, tmp_path: Path
) -> None:
    lease = claim(services)
    commit(services, lease, 0, {"pruning.json": b"{}"}, tmp_path)
    commit(services, lease, 1, {"model.safetensors": b"weights", "report.html": b"<html>"}, tmp_path)
    with services.database.write() as session:
        transitions.succeed(session, lease)
    with services.database.write() as session:
        session.execute(update(Job).values(finished_at=now(plus=-7200)))
    assert client.get(f"/v1/jobs/{job_id}/checkpoints/1/files/model.safetensors").content == b"weights"
    assert retention.expire(services.database, SHORT).jobs == 1
    for path in (
        "checkpoints",
        "checkpoints/1",
        "checkpoints/1/files/model.safetensors",
        "checkpoints/1/archive",
        "report",
    ):
        problem(client.get(f"/v1/jobs/{job_id}/{path}"), 410, "expired")
    job = client.get(f"/v1/jobs/{job_id}").json()
    assert [metrics["step"] for metrics in job["metrics"]] == [0, 1]
    assert orphans.collect(services.database, services.artifacts, grace_seconds=-60) == 3
