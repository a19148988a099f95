"""What the service leans on is taken away: broker, database, artifact store. It answers soon, and loses nothing."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import obstore
import pytest
from obstore.exceptions import GenericError
from starlette.testclient import TestClient

from service.app import create_app
from service.services import Services
from store.database.connection import Database
from store.database.tables import OutboxMessage
from store.queue import broker
from store.settings import Settings
from tests.integration.service.conftest import claim, commit, problem
from tests.support.local import local_client
from tests.support.servers.databases import (
    StoppablePostgres,
    silent_server,
    stoppable_postgres,
    valkey_server,
    wait_for,
)
from tests.support.servers.processes import service_process
from tests.support.servers.storage import fill, small_disk
from tests.support.uploads import ast_config, checkpoint_files, dataset_files, declared, send

POOL = 40
"""Threads that answer requests at the same time."""


@pytest.fixture
def data_dir(stocked: Path) -> Path:
    return stocked


# --- a broker that takes connections and never answers ---


@pytest.fixture
def deaf(data_dir: Path) -> Iterator[Settings]:
    """Settings whose broker is such a one."""
    with silent_server() as port:
        yield Settings(data_dir=data_dir, broker_url=f"redis://127.0.0.1:{port}/0")


@pytest.fixture
def served(deaf: Settings, tmp_path: Path) -> Iterator[httpx.Client]:
    with service_process(deaf, tmp_path / "service.log") as client:
        yield client


def waiting(database: Database) -> int:
    with database.read() as session:
        return session.query(OutboxMessage).count()


def test_a_broker_that_never_answers_does_not_hold_up_a_job(
    served: httpx.Client, deaf: Settings, job_body: dict[str, Any]
) -> None:
    took = []
    for _ in range(3):
        began = time.monotonic()
        assert served.post("/v1/jobs", json=job_body).status_code == 202
        took.append(time.monotonic() - began)
    assert min(took) < 1, took
    database = Database(deaf.database_url)
    assert waiting(database) == 3
    with valkey_server() as url:
        heard = deaf.model_copy(update={"broker_url": url})
        assert broker.publish_outbox(database, heard) == 3
        assert (waiting(database), broker.waiting_wakes(heard)) == (0, 3)
    database.close()


def test_requests_that_wait_for_such_a_broker_do_not_use_the_service_up(
    served: httpx.Client, job_body: dict[str, Any]
) -> None:
    """More of them than the service has threads: none may be left waiting in one."""
    began = time.monotonic()
    jobs = [served.post("/v1/jobs", json=job_body) for _ in range(POOL + 5)]
    assert {job.status_code for job in jobs} == {202}
    asked = time.monotonic()
    assert len(served.get("/v1/jobs?limit=100").json()["items"]) == POOL + 5
    assert time.monotonic() - asked < 2
    assert time.monotonic() - began < 20


def test_readiness_names_such_a_broker_within_seconds(served: httpx.Client) -> None:
    began = time.monotonic()
    answer = served.get("/readyz")
    assert time.monotonic() - began < 15
    assert (answer.status_code, answer.json()["checks"]["broker"]) == (503, "unreachable")


# --- a database that is away ---


@pytest.fixture
def postgres() -> Iterator[StoppablePostgres]:
    with stoppable_postgres() as server:
        yield server


def test_a_database_that_was_away_is_used_again_once_it_is_back(postgres: StoppablePostgres, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, database_url=postgres.url, broker_url="redis://127.0.0.1:1/0")
    with local_client(create_app(settings), raise_server_exceptions=False) as client:
        body = {
            "model": {"type": "upload", "id": send(client, "models", checkpoint_files()).json()["id"]},
            "dataset": {"type": "upload", "id": send(client, "datasets", dataset_files()).json()["id"]},
            "pruning": {"target": {"attention_sparsity": 0.5}},
        }
        first = client.post("/v1/jobs", json=body)
        assert first.status_code == 202
        postgres.stop()
        try:
            answers = [
                client.post("/v1/jobs", json=body),
                client.get(first.headers["location"]),
                client.post(f"{first.headers['location']}/pause"),
            ]
        finally:
            postgres.start()
        for answer in answers:
            problem(answer, 503, "unavailable")
            assert int(answer.headers["retry-after"]) > 0
        assert client.post("/v1/jobs", json=body).status_code == 202
        assert len(client.get("/v1/jobs").json()["items"]) == 2
        assert client.get(first.headers["location"]).json()["pause_requested"] is False


def test_no_request_waits_for_a_database_that_stands_still(postgres: StoppablePostgres, tmp_path: Path) -> None:
    """It takes connections and answers nothing. More requests than the pool has connections, and than there are threads."""
    settings = Settings(
        data_dir=tmp_path, database_url=postgres.url, database_seconds=1, broker_url="redis://127.0.0.1:1/0"
    )
    with local_client(create_app(settings), raise_server_exceptions=False) as client:
        assert client.get("/v1/jobs").status_code == 200
        with postgres.frozen(), ThreadPoolExecutor(POOL) as pool:
            began = time.monotonic()
            answers = list(pool.map(client.get, ["/v1/jobs"] * POOL))
            took = time.monotonic() - began
        for answer in answers:
            problem(answer, 503, "unavailable")
        assert took < 20, took
        wait_for(lambda: client.get("/v1/jobs").status_code == 200, what="the database, again")


# --- an artifact store that is full, or refuses ---


def expect_nothing_recorded(client: TestClient, address: str, name: str) -> None:
    upload = client.get(address).json()
    assert [file["uploaded"] for file in upload["files"] if file["name"] == name] == [False]
    problem(client.post(f"{address}/complete"), 409, "upload_incomplete")


@pytest.mark.parametrize(
    ("text", "status", "code"),
    [
        ("No space left on device (os error 28)", 507, "storage_full"),
        ("Generic S3 error: error sending request to http://secret.internal", 503, "storage_unavailable"),
    ],
)
def test_an_upload_that_the_store_does_not_take_is_answered_so_and_sent_again_later(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, text: str, status: int, code: str
) -> None:
    files = checkpoint_files(ast_config(num_hidden_layers=3))  # Others than the stock has, which would be known.
    address = client.post("/v1/models", json={"files": declared(files)}).headers["location"]
    name = "model.safetensors"

    async def refused(*_: Any, **__: Any) -> None:
        raise GenericError(text)

    with monkeypatch.context() as patch:
        patch.setattr(obstore, "put_async", refused)
        answer = client.put(f"{address}/files/{name}", content=files[name])
    body = problem(answer, status, code)
    assert "secret" not in str(body)
    assert int(answer.headers["retry-after"]) > 0
    expect_nothing_recorded(client, address, name)
    for name, data in files.items():
        assert client.put(f"{address}/files/{name}", content=data).status_code == 200
    assert client.post(f"{address}/complete").status_code == 200


def test_an_upload_to_a_disk_that_is_full(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        settings = Settings(
            data_dir=tmp_path, artifacts_url=(disk / "artifacts").as_uri(), broker_url="redis://127.0.0.1:1/0"
        )
        with local_client(create_app(settings), raise_server_exceptions=False) as client:
            files = checkpoint_files()
            address = client.post("/v1/models", json={"files": declared(files)}).headers["location"]
            ballast = fill(disk)
            name = "model.safetensors"
            problem(client.put(f"{address}/files/{name}", content=files[name]), 507, "storage_full")
            expect_nothing_recorded(client, address, name)
            assert not [path for path in (disk / "artifacts").rglob("*") if path.is_file()]
            ballast.unlink()
            assert client.put(f"{address}/files/{name}", content=files[name]).status_code == 200


def test_a_download_from_a_store_that_refuses(
    client: TestClient, services: Services, job_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = claim(services)
    commit(services, lease, 0, {}, tmp_path)
    commit(services, lease, 1, {"pruning.json": b"{}"}, tmp_path)
    address = f"/v1/jobs/{job_id}/checkpoints/1/files/pruning.json"
    assert client.get(address).status_code == 200

    def refused(*_: Any, **__: Any) -> None:
        raise GenericError("Generic S3 error: error sending request")

    monkeypatch.setattr(obstore, "get", refused)
    problem(client.get(address), 503, "storage_unavailable")
