"""Files that rows name and the artifact store has lost: 410 with a code of its own, before the first byte, whoever asks.

A store that refuses is another matter: 503, try again.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.services import Services
from store.jobs import transitions
from tests.integration.service.conftest import Stock, claim, commit, problem
from tests.support.uploads import checkpoint_files, declared, send

WEIGHTS = b"weights" * 1000
FILE, ARCHIVE = "checkpoints/1/files/model.safetensors", "checkpoints/1/archive"


@pytest.fixture
def data_dir(stocked: Path) -> Path:
    return stocked


@pytest.fixture
def step(services: Services, job_id: str, tmp_path: Path) -> str:
    """Address of a job with a finished step."""
    lease = claim(services)
    commit(services, lease, 0, {"pruning.json": b"{}"}, tmp_path)
    files = {"config.json": b"{}", "model.safetensors": WEIGHTS, "report.html": b"<html>"}
    commit(services, lease, 1, files, tmp_path)
    with services.database.write() as session:
        transitions.succeed(session, lease)
    return f"/v1/jobs/{job_id}"


def key_of(services: Services, name: str, prefix: str = "jobs") -> str:
    return next(found.key for found in services.artifacts.list(prefix) if found.key.endswith(f"/{name}"))


def remove(services: Services, key: str) -> None:
    services.artifacts.delete(key)


def cut_off(services: Services, key: str) -> None:
    services.artifacts.put_bytes(key, WEIGHTS[:1000])


@pytest.mark.parametrize("lose", [remove, cut_off])
@pytest.mark.parametrize("path", [FILE, ARCHIVE])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_lost_file_is_said_before_the_first_byte(
    client: TestClient, services: Services, step: str, lose: Callable[[Services, str], None], path: str, method: str
) -> None:
    whole = client.request(method, f"{step}/{path}")
    assert whole.status_code == 200
    lose(services, key_of(services, "model.safetensors"))
    answer = client.request(method, f"{step}/{path}")
    if method == "HEAD":
        assert answer.status_code == 410
    else:
        assert "model.safetensors" in problem(answer, 410, "artifact_lost")["detail"]
    # Who has it already is told so, and everything else of the job is still there.
    known = client.get(f"{step}/{path}", headers={"If-None-Match": whole.headers["etag"]})
    assert known.status_code == 304
    assert client.get(f"{step}/checkpoints/1/files/config.json").content == b"{}"
    assert client.get(f"{step}/checkpoints").status_code == 200
    assert client.get(f"{step}/report").content == b"<html>"


@pytest.mark.parametrize("lose", [remove, cut_off])
def test_so_is_a_part_of_one(
    client: TestClient, services: Services, step: str, lose: Callable[[Services, str], None]
) -> None:
    lose(services, key_of(services, "model.safetensors"))
    for span in ("bytes=10-20", "bytes=5000-", "bytes=-1"):
        problem(client.get(f"{step}/{FILE}", headers={"Range": span}), 410, "artifact_lost")


def test_a_lost_report_is_said_to_people_too(client: TestClient, services: Services, step: str) -> None:
    services.artifacts.delete(key_of(services, "report.html"))
    problem(client.get(f"{step}/report"), 410, "artifact_lost")
    # The page shows what rows say.
    assert client.get(f"{step.removeprefix('/v1')}?tab=files", headers={"Accept": "text/html"}).status_code == 200


def test_an_archive_is_whole_or_nothing(client: TestClient, services: Services, step: str) -> None:
    for name in ("config.json", "report.html"):
        services.artifacts.delete(key_of(services, name))
    detail = problem(client.get(f"{step}/{ARCHIVE}"), 410, "artifact_lost")["detail"]
    assert "config.json, report.html" in detail


def test_a_store_that_refuses_may_answer_later(client: TestClient, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("Access Denied")

    monkeypatch.setattr("store.files.artifacts.obstore.get", refuse)
    monkeypatch.setattr("store.files.artifacts.obstore.head", refuse)
    for path in (FILE, ARCHIVE, "report"):
        answer = client.get(f"{step}/{path}")
        problem(answer, 503, "storage_unavailable")
        assert answer.headers["Retry-After"]


@pytest.mark.parametrize("kind", ["model", "dataset"])
def test_a_job_is_not_taken_on_inputs_that_are_lost(
    client: TestClient, services: Services, stock: Stock, job_body: dict[str, Any], kind: str
) -> None:
    upload_id = {"model": stock.model_id, "dataset": stock.dataset_id}[kind]
    name = {"model": "model.safetensors", "dataset": "train.parquet"}[kind]
    services.artifacts.delete(key_of(services, name, f"uploads/{upload_id}"))
    for path in ("/v1/jobs", "/v1/jobs:estimate"):
        error = problem(client.post(path, json=job_body), 410, "artifact_lost")
        assert name in error["detail"]
        assert error["errors"][0]["pointer"] == f"/{kind}/id"


def test_a_job_is_taken_while_the_store_is_away(
    client: TestClient, job_body: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker waits for it."""

    def away(*_: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("store.files.artifacts.obstore.head", away)
    assert client.post("/v1/jobs", json=job_body).status_code == 202


def test_what_was_lost_has_to_be_sent_again(client: TestClient, services: Services, stock: Stock) -> None:
    """Bytes that the tenant has sent before need not come again, unless the store has lost them."""
    files = checkpoint_files()
    services.artifacts.delete(key_of(services, "model.safetensors", f"uploads/{stock.model_id}"))
    made = client.post("/v1/models", json={"files": declared(files)}).json()
    assert {file["name"]: file["uploaded"] for file in made["files"]} == {
        "config.json": True, "preprocessor_config.json": True, "model.safetensors": False,
    }  # fmt: skip
    ready = send(client, "models", files)
    assert (ready.status_code, ready.json()["state"]) == (200, "ready")
