"""The service in this process, over SQLite and a local folder; no broker answers, which must disturb nobody."""

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from service.app import create_app
from service.services import Services
from store.jobs import transitions
from store.jobs.transitions import Lease, StepFile
from store.settings import Settings
from tests.support.checks import datasets_are_checked as datasets_are_checked
from tests.support.checks import inspected_here as inspected_here
from tests.support.jobs.records import step_metrics
from tests.support.local import local_client
from tests.support.uploads import checkpoint_files, dataset_files, send


@dataclass(frozen=True)
class Stock:
    """A data folder of a service that holds one ready model and one ready dataset."""

    folder: Path
    model_id: str
    dataset_id: str


@pytest.fixture(scope="session")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Stock:
    """Made once; tests that need it work on copies (`data_dir`)."""
    folder = tmp_path_factory.mktemp("stock")
    with local_client(create_app(_settings(folder))) as client:
        model = send(client, "models", checkpoint_files()).json()["id"]
        dataset = send(client, "datasets", dataset_files()).json()["id"]
    return Stock(folder, model, dataset)


def _settings(folder: Path) -> Settings:
    return Settings(data_dir=folder, broker_url="redis://127.0.0.1:1/0")


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder of a service that holds nothing: migrations take longer than most tests."""
    folder = tmp_path_factory.mktemp("empty")
    with local_client(create_app(_settings(folder))):
        return folder


@pytest.fixture
def data_dir(tmp_path: Path, empty: Path) -> Path:
    """Of a service that holds nothing. Modules whose tests need the stock override it with `stocked`."""
    return shutil.copytree(empty, tmp_path / "data")


@pytest.fixture
def stocked(tmp_path: Path, stock: Stock) -> Path:
    return shutil.copytree(stock.folder, tmp_path / "data")


@pytest.fixture
def settings(data_dir: Path) -> Settings:
    return _settings(data_dir)


@pytest.fixture
def app(settings: Settings) -> FastAPI:
    return create_app(settings)


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    with local_client(app, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def services(app: FastAPI) -> Services:
    services: Services = app.state.services
    return services


@pytest.fixture
def job_body(stock: Stock) -> dict[str, Any]:
    return {
        "model": {"type": "upload", "id": stock.model_id},
        "dataset": {"type": "upload", "id": stock.dataset_id},
        "pruning": {"target": {"attention_sparsity": 0.5}},
    }


@pytest.fixture
def job_id(client: TestClient, job_body: dict[str, Any]) -> str:
    return str(client.post("/v1/jobs", json=job_body).json()["id"])


def problem(answer: Any, status: int, code: str) -> dict[str, Any]:
    """The body of an error, which every error must have."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    body: dict[str, Any] = answer.json()
    assert (body["status"], body["code"]) == (status, code), body
    assert body["title"]
    assert body["detail"]
    return body


def claim(services: Services) -> Lease:
    """Take the only job, as a worker would."""
    with services.database.write() as session:
        job = transitions.claim(session, "worker", 60, 3)
        assert job is not None
        return Lease(job.id, job.epoch)


def commit(services: Services, lease: Lease, step: int, files: dict[str, bytes], tmp_path: Path) -> None:
    """Commit a step with these files, as a worker would."""
    stored = []
    for name, data in files.items():
        path = tmp_path / "staged"
        path.write_bytes(data)
        key = f"jobs/{lease.job_id}/epoch-{lease.epoch}/step-{step}/{name}"
        services.artifacts.put_file(key, path)
        stored.append(StepFile(name, len(data), hashlib.sha256(data).hexdigest(), key))
    with services.database.write() as session:
        transitions.commit_step(session, lease, step_metrics(step), stored, downloadable=step > 0)
