"""What the operator sees: one line a request, one name for it everywhere, the audit log, and metrics."""

import json
import logging
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy.exc import OperationalError
from starlette.testclient import TestClient

from api_schemas.enums import KeyScope
from service.app import create_app
from service.services import Services
from store.access import api_keys
from store.settings import Settings
from tests.integration.service.conftest import problem
from tests.support.local import local_client


@pytest.fixture
def data_dir(stocked: Path) -> Path:
    return stocked


@pytest.fixture
def settings(data_dir: Path) -> Settings:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return Settings(
        data_dir=data_dir, broker_url="redis://127.0.0.1:1/0", auth="keys", log_format="json", metrics_port=port
    )


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)


@pytest.fixture
def token(services: Services) -> str:
    services.database.migrate()
    with services.database.write() as session:
        return api_keys.create(session, "default", None, tuple(KeyScope))[1]


@pytest.fixture
def caller(client: TestClient, token: str) -> TestClient:
    client.headers["Authorization"] = f"Bearer {token}"
    return client


def lines(written: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in written.splitlines() if line.startswith("{")]
    return [line for line in found if line["event"] == "request"]


def test_a_request_is_one_line_without_its_secrets(
    caller: TestClient, token: str, job_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    caller.get(f"/v1/jobs/{job_id}", params={"q": "private"}, headers={"X-Request-ID": "mine-1"})
    written = capsys.readouterr().err
    [line] = lines(written)
    assert {name: line[name] for name in ("method", "path", "route", "status", "request_id", "tenant", "client")} == {
        **{"method": "GET", "path": f"/v1/jobs/{job_id}", "route": "/v1/jobs/{job_id}", "status": 422},
        **{"request_id": "mine-1", "tenant": "default", "client": "127.0.0.1"},
    }
    assert line["key_id"] == f"key_{token.split('_')[1]}"
    assert line["milliseconds"] >= 0
    assert token.rpartition("_")[2] not in written
    assert "private" not in str(line)


def test_a_request_has_one_name_everywhere(caller: TestClient, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    answer = caller.get("/v1/nothing", headers={"X-Request-ID": "trace.7_a-B"})
    assert answer.headers["x-request-id"] == "trace.7_a-B"
    assert problem(answer, 404, "not_found")["request_id"] == "trace.7_a-B"
    assert lines(capsys.readouterr().err)[0]["route"] == "other"


@pytest.mark.parametrize("given", ["", "a" * 65, "a b", "a\tb", "é", "<script>", "a;b"])
def test_names_that_are_not_sane_are_replaced(caller: TestClient, given: str) -> None:
    answers = [caller.get("/healthz", headers={"X-Request-ID": given.encode()}) for _ in range(2)]  # type: ignore[dict-item]
    named = {answer.headers["x-request-id"] for answer in answers}
    assert len(named) == 2
    assert all(len(name) == 32 and name.isalnum() for name in named)


@pytest.mark.parametrize("method", ["get", "head"])
def test_failures_nobody_foresaw_are_named_and_counted_too(
    caller: TestClient,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    method: str,
) -> None:
    class Broken:
        def usage(self, *_: object) -> None:
            raise RuntimeError

    monkeypatch.setattr("service.routes.health.quotas", Broken())
    capsys.readouterr()
    answer = caller.request(method, "/v1/limits", headers={"X-Request-ID": "bad-1"})
    assert answer.status_code == 500
    [line] = lines(capsys.readouterr().err)
    assert (line["status"], line["request_id"], line["method"]) == (500, "bad-1", method.upper())
    if method == "get":
        assert answer.headers["x-request-id"] == answer.json()["request_id"] == "bad-1"


def entries(caller: TestClient) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = caller.get("/v1/audit").json()["items"]
    return items


def test_who_changed_what_is_written_down(caller: TestClient, token: str, job_body: dict[str, Any]) -> None:
    job = caller.post("/v1/jobs", json=job_body, headers={"X-Request-ID": "r-1"}).json()["id"]
    caller.post(f"/v1/jobs/{job}/cancel")
    problem(caller.post(f"/v1/jobs/{job}/cancel"), 409, "conflict")
    last, first = entries(caller)[:2]
    assert (first["action"], first["object_id"], first["request_id"], first["outcome"]) == (
        *("create_job", job),
        *("r-1", "done"),
    )
    assert first["key_id"] == last["key_id"] == f"key_{token.split('_')[1]}"
    assert (last["action"], last["object_id"]) == ("cancel_job", job)


def test_so_is_what_a_key_was_kept_from(caller: TestClient, services: Services) -> None:
    with services.database.write() as session:
        key, reader = api_keys.create(session, "default", None, (KeyScope.JOBS_READ,))
    given = {"Authorization": f"Bearer {reader}"}
    problem(caller.post("/v1/keys", json={"scopes": ["admin"]}, headers=given), 403, "forbidden")
    problem(caller.get("/v1/keys", headers=given), 403, "forbidden")
    refused = [entry for entry in entries(caller) if entry["outcome"] == "forbidden"]
    assert [(entry["action"], entry["key_id"]) for entry in refused] == [("create_key", key.id)]


def scrape(settings: Settings) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    with urllib.request.urlopen(f"http://127.0.0.1:{settings.metrics_port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def test_metrics_have_a_port_of_their_own(caller: TestClient, settings: Settings, job_id: str) -> None:
    caller.get(f"/v1/jobs/{job_id}")
    caller.get("/v1/jobs/none")
    caller.get("/v1/made-up-by-a-stranger")
    caller.put(f"/v1/models/mdl_{'a' * 26}/files/config.json", content=b"x" * 100)
    assert caller.get("/metrics").status_code == 404
    found = scrape(settings)
    counts = found["secateur_http_request_seconds_count"]

    def count(route: str, status: str, method: str = "GET") -> float:
        return counts[(("method", method), ("route", route), ("status", status))]

    assert count("/v1/jobs/{job_id}", "2xx") == 1
    assert count("/v1/jobs/{job_id}", "4xx") == 1
    assert count("/v1/jobs", "2xx", "POST") == 1
    assert not any("stranger" in str(labels) for labels in counts)
    assert not any("tenant" in str(labels) or "key" in str(labels) for series in found.values() for labels in series)
    assert found["secateur_database_up"] == {(): 1.0}
    assert found["secateur_queue_depth"] == {(): 1.0}
    assert found["secateur_jobs"][(("state", "queued"),)] == 1
    assert found["secateur_oldest_queued_seconds"][()] >= 0
    assert found["secateur_stored_bytes"][()] > 1000


@pytest.mark.usefixtures("client")
def test_metrics_without_the_database_say_so(settings: Settings, services: Services) -> None:
    def away() -> None:
        raise OperationalError("SELECT", {}, OSError("away"))

    services.database.read = away  # type: ignore[method-assign, assignment]
    found = scrape(settings)
    assert found["secateur_database_up"] == {(): 0.0}
    assert "secateur_queue_depth" not in found
    assert "secateur_upload_bytes_total" in found


def test_there_is_no_such_port_unless_it_is_asked_for(data_dir: Path, settings: Settings) -> None:
    with local_client(create_app(Settings(data_dir=data_dir))), pytest.raises(OSError, match="refused"):
        scrape(settings)
