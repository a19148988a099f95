"""Event streams over HTTP: every event once and in order, also over restarts, and no hindrance to the service's end."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from starlette.testclient import TestClient

from api_schemas.results.events import Warned
from service.services import Services
from store.database.connection import Database
from store.database.tenancy import DEFAULT_TENANT
from store.jobs import jobs, transitions
from store.jobs.transitions import Lease
from store.settings import Settings
from tests.integration.service.conftest import claim, problem
from tests.support.servers.databases import wait_for
from tests.support.servers.processes import process_of, service_process

STREAM = {"Accept": "text/event-stream"}


@pytest.fixture
def data_dir(stocked: Path) -> Path:
    return stocked


def warn(database: Database, lease: Lease, count: int = 1) -> None:
    with database.write() as session:
        transitions.record(session, lease, [Warned(code="test", detail=str(number)) for number in range(count)])


def succeed(database: Database, lease: Lease) -> None:
    with database.write() as session:
        transitions.succeed(session, lease)


def told(database: Database, job_id: str) -> list[int]:
    with database.read() as session:
        return [each.seq for each in jobs.events_after(session, DEFAULT_TENANT, job_id, 0, 10_000)]


def sent(lines: Iterator[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number and content of every event of a stream."""
    found: dict[str, str] = {}
    for line in lines:
        if not line and "data" in found:
            yield int(found["id"]), json.loads(found["data"])
        name, _, value = line.partition(": ")
        found = {**found, name: value} if line else {}


def test_the_stream_of_a_job_that_has_ended_is_all_of_it(client: TestClient, services: Services, job_id: str) -> None:
    lease = claim(services)
    warn(services.database, lease, 300)
    succeed(services.database, lease)
    answer = client.get(f"/v1/jobs/{job_id}/events", headers=STREAM)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-cache"
    events = list(sent(iter(answer.text.split("\n"))))
    assert [seq for seq, _ in events] == told(services.database, job_id) == list(range(1, 304))
    assert [body for _, body in events] == client.get(f"/v1/jobs/{job_id}/events?limit=1000").json()["items"]
    assert events[-1][1]["body"]["state"] == "succeeded"
    assert services.streams.count == 0


@pytest.mark.parametrize("where", ["header", "query"])
def test_a_stream_goes_on_after_the_last_event(client: TestClient, services: Services, job_id: str, where: str) -> None:
    warn(services.database, lease := claim(services), 5)
    succeed(services.database, lease)
    address = f"/v1/jobs/{job_id}/events"

    def after(seq: int) -> httpx.Response:
        if where == "header":
            # The header is newer than the address that an EventSource was made with.
            return client.get(f"{address}?after=1", headers=STREAM | {"Last-Event-ID": str(seq)})
        return client.get(f"{address}?after={seq}", headers=STREAM)

    assert [seq for seq, _ in sent(iter(after(6).text.split("\n")))] == [7, 8]
    # Nothing can follow: 204 tells an EventSource not to come back.
    assert after(8).status_code == 204
    problem(client.get(address, headers=STREAM | {"Last-Event-ID": "x"}), 422, "invalid_request")


def test_what_is_no_stream(client: TestClient, job_id: str) -> None:
    address = f"/v1/jobs/{job_id}/events"
    head = client.head(address, headers=STREAM)
    assert (head.status_code, head.content) == (200, b"")
    problem(client.get(f"/v1/jobs/job_{'a' * 26}/events", headers=STREAM), 404, "not_found")
    assert client.get(address, headers={"Accept": "application/json, */*"}).json()["items"]


def test_an_api_that_restarts_costs_no_event(
    settings: Settings, services: Services, job_id: str, tmp_path: Path
) -> None:
    """The client connects again with the last number it has: the events of both connections are all, each once."""
    lease = claim(services)
    seen: list[int] = []
    for start in range(2):
        with service_process(settings, tmp_path / f"service-{start}.log") as api:
            headers = STREAM | ({"Last-Event-ID": str(seen[-1])} if seen else {})
            with api.stream("GET", f"/v1/jobs/{job_id}/events", headers=headers) as stream:
                events = sent(stream.iter_lines())
                for _ in range(2 - start):
                    seen.append(next(events)[0])
                warn(services.database, lease, 3)
                seen += [next(events)[0] for _ in range(2)]
                if start:
                    succeed(services.database, lease)
                    seen += [seq for seq, _ in events]
        if not start:
            warn(services.database, lease, 2)
    assert seen == told(services.database, job_id)


def test_the_end_of_the_service_is_the_end_of_its_streams(settings: Settings, job_id: str, tmp_path: Path) -> None:
    with service_process(settings, tmp_path / "service.log") as api:
        process = process_of(api)
        with api.stream("GET", f"/v1/jobs/{job_id}/events", headers=STREAM) as stream:
            events = sent(stream.iter_lines())
            assert next(events)[0] == 1
            process.terminate()
            # A whole answer and not a broken one, which would raise.
            assert list(events) == []
        gone, _ = psutil.wait_procs([process], timeout=10)
        assert gone


def test_a_client_that_leaves_makes_room(settings: Settings, job_id: str, tmp_path: Path) -> None:
    one = settings.model_copy(update={"max_event_streams_per_tenant": 1})
    with service_process(one, tmp_path / "service.log") as api:
        address = f"/v1/jobs/{job_id}/events"
        with api.stream("GET", address, headers=STREAM) as stream:
            events = sent(stream.iter_lines())  # Held: without it the answer would be closed.
            assert next(events)[0] == 1
            refused = api.get(address, headers=STREAM)
            problem(refused, 429, "too_many_streams")
            assert int(refused.headers["retry-after"]) > 0

        def answers() -> bool:
            with api.stream("GET", address, headers=STREAM) as stream:
                return stream.status_code == 200

        wait_for(answers, 10, "room for a stream")
