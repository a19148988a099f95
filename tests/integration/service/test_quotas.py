"""Quotas over HTTP: refused with what to do, nothing kept of what was refused, and shown at /v1/limits."""

from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from store.settings import Settings
from tests.integration.service.conftest import problem
from tests.support.uploads import checkpoint_files, declared


@pytest.fixture
def data_dir(stocked: Path) -> Path:
    return stocked


@pytest.fixture
def settings(data_dir: Path) -> Settings:
    return Settings(
        data_dir=data_dir, broker_url="redis://127.0.0.1:1/0", max_waiting_jobs=2, max_stored_bytes=1_000_000
    )


def quotas(client: TestClient) -> dict[str, dict[str, int | None]]:
    found: dict[str, dict[str, int | None]] = client.get("/v1/limits").json()["quotas"]
    return found


def test_jobs_that_wait(client: TestClient, job_body: dict[str, Any]) -> None:
    first = client.post("/v1/jobs", json=job_body).json()["id"]
    assert client.post("/v1/jobs", json=job_body).status_code == 202
    answer = client.post("/v1/jobs", json=job_body)
    assert "2 jobs are waiting; the maximum is 2" in problem(answer, 429, "quota_exceeded")["detail"]
    assert int(answer.headers["retry-after"]) > 0
    assert quotas(client)["waiting_jobs"] == {"limit": 2, "used": 2}
    assert len(client.get("/v1/jobs").json()["items"]) == 2
    client.post(f"/v1/jobs/{first}/cancel")
    assert client.post("/v1/jobs", json=job_body).status_code == 202


def test_bytes(client: TestClient) -> None:
    used = quotas(client)["stored_bytes"]["used"]
    assert used is not None
    assert 0 < used < 1_000_000
    files = checkpoint_files()
    size = sum(map(len, files.values()))
    room = (1_000_000 - used) // size
    ids = [client.post("/v1/models", json={"files": declared(files)}).json()["id"] for _ in range(room)]
    assert quotas(client)["stored_bytes"]["used"] == used + room * size
    problem(client.post("/v1/models", json={"files": declared(files)}), 429, "quota_exceeded")
    assert len(client.get("/v1/models", params={"limit": 100}).json()["items"]) == room + 1
    assert client.delete(f"/v1/models/{ids[0]}").status_code == 204
    assert client.post("/v1/models", json={"files": declared(files)}).status_code == 201


def test_without_bounds_only_what_is_used_is_shown(client: TestClient) -> None:
    found = quotas(client)
    assert found["running_jobs"] == {"limit": None, "used": 0}
    assert found["requests_per_minute"] == {"limit": None, "used": None}
