"""What has expired says so, 410, wherever it is asked for; its bytes go with the next look for orphans."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from starlette.testclient import TestClient

from service.services import Services
from store import retention
from store.database.clock import now
from store.database.tables import Job, JobLogRow, Upload
from store.files import orphans
from store.jobs import logs, transitions
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


KEPT = Settings(event_retention_seconds=3600, log_retention_seconds=3600)


def test_events_and_logs_that_are_gone_say_so_and_the_job_stays(
    client: TestClient, services: Services, job_id: str, tmp_path: Path
) -> None:
    lease = claim(services)
    commit(services, lease, 0, {"pruning.json": b"{}"}, tmp_path)
    with services.database.write() as session:
        logs.append(session, lease, 0, "what the engine wrote", 2**20)
        transitions.succeed(session, lease)
    job = f"/v1/jobs/{job_id}"
    assert client.get(f"{job}/logs").text == "what the engine wrote"
    newest = client.get(f"{job}/events").json()["items"][-1]["seq"]
    long_ago = now(plus=-100 * 86_400)
    with services.database.write() as session:
        session.execute(update(Job).values(finished_at=long_ago))
        session.execute(update(JobLogRow).values(created_at=long_ago))
    expired = retention.expire(services.database, KEPT)
    assert (expired.events, expired.logs) == (1, 1)
    for after in (0, newest):
        problem(client.get(f"{job}/events", params={"after": after}), 410, "expired")
    problem(client.get(f"{job}/logs"), 410, "expired")
    # Whoever follows or waits for it is told that it has ended, as of every job that has.
    assert client.get(f"{job}/events", headers={"Accept": "text/event-stream"}).status_code == 204
    answer = client.get(job).json()
    assert (answer["state"], [metrics["step"] for metrics in answer["metrics"]]) == ("succeeded", [0])
    for tab in ("events", "log"):
        page = client.get(f"/jobs/{job_id}?tab={tab}", headers={"Accept": "text/html"})
        assert (page.status_code, "expired and w" in page.text) == (200, True)


def test_a_job_whose_time_is_over_answers_as_a_deleted_one_and_later_not_at_all(
    client: TestClient, services: Services, job_id: str
) -> None:
    client.post(f"/v1/jobs/{job_id}/cancel")
    kept = Settings(job_retention_seconds=3600, tombstone_seconds=3600)
    for column, expected in (("finished_at", (410, "deleted")), ("deleted_at", (404, "not_found"))):
        with services.database.write() as session:
            session.execute(update(Job).values({column: now(plus=-7200)}))
        retention.expire(services.database, kept)
        for path in ("", "/events", "/checkpoints"):
            problem(client.get(f"/v1/jobs/{job_id}{path}"), *expected)
