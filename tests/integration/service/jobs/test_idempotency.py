"""`Idempotency-Key`: what is sent again is answered as the first time, whatever happened in between, and made once."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, update
from starlette.testclient import TestClient

from service.app import create_app
from service.services import Services
from store import retention
from store.access import idempotency
from store.database.clock import now
from store.database.tables import IdempotencyKey, Job, OutboxMessage, Upload
from store.database.tenancy import DEFAULT_TENANT
from store.jobs import jobs
from store.settings import Settings
from tests.integration.service.conftest import problem
from tests.support.local import local_client
from tests.support.servers.databases import fresh_database, postgres_server
from tests.support.uploads import checkpoint_files, dataset_files, declared, send

KEY = {"Idempotency-Key": '"8e03978e-40d5-43e8-bc93-6894a57f9324"'}


@pytest.fixture
def data_dir(stocked: Path) -> Path:
    return stocked


def count(services: Services, table: type[Any]) -> int:
    with services.database.read() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def test_a_repetition_gets_the_first_answer(client: TestClient, services: Services, job_body: dict[str, Any]) -> None:
    first = client.post("/v1/jobs", json=job_body, headers=KEY)
    assert first.status_code == 202
    assert "idempotency-replayed" not in first.headers
    assert client.post(f"{first.headers['location']}/cancel").status_code == 202
    # Without quotes, and with the defaults written out: the same key, and the same request.
    again = client.post(
        "/v1/jobs", json=job_body | {"seed": 0}, headers={"Idempotency-Key": KEY["Idempotency-Key"].strip('"')}
    )
    assert again.headers["idempotency-replayed"] == "true"
    for name in ("location", "retry-after", "content-type"):
        assert again.headers[name] == first.headers[name]
    assert (again.status_code, again.content) == (202, first.content)
    assert count(services, Job) == 1


@pytest.mark.parametrize(("kind", "files"), [("models", checkpoint_files()), ("datasets", dataset_files())])
def test_uploads_have_keys_too(client: TestClient, services: Services, kind: str, files: dict[str, bytes]) -> None:
    before = count(services, Upload)
    first, again = (client.post(f"/v1/{kind}", json={"files": declared(files)}, headers=KEY) for _ in range(2))
    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["location"] == first.headers["location"]
    assert count(services, Upload) == before + 1


def test_a_key_is_of_one_request(client: TestClient, services: Services, job_body: dict[str, Any]) -> None:
    client.post("/v1/jobs", json=job_body, headers=KEY)
    problem(client.post("/v1/jobs", json=job_body | {"seed": 1}, headers=KEY), 422, "idempotency_mismatch")
    other = {"files": declared(dataset_files())}
    problem(client.post("/v1/datasets", json=other, headers=KEY), 422, "idempotency_mismatch")
    assert count(services, Job) == 1


@pytest.mark.parametrize("key", ["", '"', '""', "a b", '"a', 'a"', "ä".encode(), "a" * 256, "a\tb", '"a\\b"'])
def test_a_key_that_is_none(client: TestClient, services: Services, job_body: dict[str, Any], key: str) -> None:
    answer = client.post("/v1/jobs", json=job_body, headers={"Idempotency-Key": key})
    problem(answer, 400, "idempotency_key_invalid")
    assert count(services, Job) == 0


def test_what_was_refused_leaves_the_key_free(client: TestClient, job_body: dict[str, Any]) -> None:
    refused = job_body | {"pruning": {"preset": "paper", "min_heads": 1, "target": {"attention_sparsity": 0.99}}}
    problem(client.post("/v1/jobs", json=refused, headers=KEY), 422, "sparsity_out_of_reach")
    assert client.post("/v1/jobs", json=job_body, headers=KEY).status_code == 202


def test_what_broke_half_way_leaves_nothing(
    client: TestClient, services: Services, job_body: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(idempotency, "keep", lambda *_: (_ for _ in ()).throw(RuntimeError("power cut")))
        problem(client.post("/v1/jobs", json=job_body, headers=KEY), 500, "internal_error")
    assert (count(services, Job), count(services, OutboxMessage), count(services, IdempotencyKey)) == (0, 0, 0)
    assert client.post("/v1/jobs", json=job_body, headers=KEY).status_code == 202


def test_a_key_whose_first_attempt_died_is_taken_over(
    client: TestClient, services: Services, job_body: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    reserve, dead = idempotency.reserve, []
    with monkeypatch.context() as dying:
        # The first attempt gets no further than its reservation, as if the process had been killed.
        dying.setattr(idempotency, "give_back", lambda *_: None)
        dying.setattr(jobs, "create", lambda *_: (_ for _ in ()).throw(RuntimeError("killed")))
        dying.setattr(idempotency, "reserve", lambda *given: dead.append(reserve(*given)) or dead[0])
        problem(client.post("/v1/jobs", json=job_body, headers=KEY), 500, "internal_error")
    held = client.post("/v1/jobs", json=job_body, headers=KEY)
    problem(held, 409, "idempotency_in_progress")
    assert int(held.headers["retry-after"]) > 0
    with services.database.write() as session:
        session.execute(update(IdempotencyKey).values(held_until=now(plus=-1)))
    assert client.post("/v1/jobs", json=job_body, headers=KEY).status_code == 202
    # Where the dead one was only slow, it finds that it may not write any more.
    late = idempotency.Answer(202, {}, "late")

    def write_late() -> None:
        with services.database.write() as session:
            idempotency.keep(session, DEFAULT_TENANT, dead[0], late)

    with pytest.raises(Exception, match="still being processed"):
        write_late()


def test_keys_are_forgotten_with_time(client: TestClient, services: Services, job_body: dict[str, Any]) -> None:
    first = client.post("/v1/jobs", json=job_body, headers=KEY).json()["id"]
    assert retention.expire(services.database, services.settings).keys == 0
    with services.database.write() as session:
        session.execute(update(IdempotencyKey).values(expires_at=now(plus=-1)))
    # Over is over, also before it is swept.
    second = client.post("/v1/jobs", json=job_body, headers=KEY).json()["id"]
    assert first != second
    with services.database.write() as session:
        session.execute(update(IdempotencyKey).values(expires_at=now(plus=-1)))
    assert retention.expire(services.database, services.settings).keys == 1


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with postgres_server() as server, fresh_database(server) as url:
        yield url


@pytest.mark.parametrize("server", ["sqlite", "postgresql"])
def test_many_at_once_make_one_job(tmp_path: Path, request: pytest.FixtureRequest, server: str) -> None:
    url = request.getfixturevalue("postgres") if server == "postgresql" else ""
    settings = Settings(data_dir=tmp_path / "own", database_url=url, broker_url="redis://127.0.0.1:1/0")
    app = create_app(settings)
    with local_client(app, raise_server_exceptions=False) as client:
        model = send(client, "models", checkpoint_files()).json()["id"]
        dataset = send(client, "datasets", dataset_files()).json()["id"]
        body = {
            "model": {"type": "upload", "id": model},
            "dataset": {"type": "upload", "id": dataset},
            "pruning": {"target": {"attention_sparsity": 0.5}},
        }
        together = threading.Barrier(8)

        def submit(_: int) -> Any:
            together.wait()
            return client.post("/v1/jobs", json=body, headers=KEY)

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(submit, range(8)))
        made = {answer.json()["id"] for answer in answers if answer.status_code == 202}
        others = [answer for answer in answers if answer.status_code != 202]
        assert len(made) == 1
        for answer in others:
            problem(answer, 409, "idempotency_in_progress")
        assert client.post("/v1/jobs", json=body, headers=KEY).json()["id"] in made
        assert len(client.get("/v1/jobs").json()["items"]) == 1
