"""Pausing and resuming over HTTP, priorities and limits of a request, and the log of every attempt."""

from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.services import Services
from store.database.tables import OutboxMessage
from store.jobs import logs, transitions
from store.jobs.transitions import Lease
from tests.integration.service.conftest import claim, commit, problem

PLENTY = 2**30


@pytest.fixture
def data_dir(stocked: Path) -> Path:
    return stocked


def pause(client: TestClient, job_id: str) -> Any:
    return client.post(f"/v1/jobs/{job_id}/pause")


def resume(client: TestClient, job_id: str) -> Any:
    return client.post(f"/v1/jobs/{job_id}/resume")


def release(services: Services, lease: Lease) -> None:
    with services.database.write() as session:
        transitions.release(session, lease)


def wakes(services: Services) -> int:
    with services.database.read() as session:
        return session.query(OutboxMessage).count()


def keep(services: Services, lease: Lease, start: int, text: str) -> int:
    """Add to the log as a worker does; returns where it goes on."""
    with services.database.write() as session:
        logs.append(session, lease, start, text, PLENTY)
    return start + len(text.encode())


def nothing_to_claim(services: Services) -> bool:
    with services.database.write() as session:
        return transitions.claim(session, "worker", 60, 3) is None


# --- pausing ---


def test_a_queued_job_pauses_at_once_and_no_worker_takes_it(
    client: TestClient, job_id: str, services: Services
) -> None:
    answer = pause(client, job_id)
    assert (answer.status_code, answer.json()["state"], answer.json()["pause_requested"]) == (202, "paused", False)
    assert nothing_to_claim(services)
    assert [item["id"] for item in client.get("/v1/jobs?state=paused").json()["items"]] == [job_id]
    assert "retry-after" in client.get(f"/v1/jobs/{job_id}").headers, "a paused job has not ended"


def test_a_resumed_job_is_queued_and_wakes_a_worker(client: TestClient, job_id: str, services: Services) -> None:
    pause(client, job_id)
    before = wakes(services)
    answer = resume(client, job_id)
    assert (answer.status_code, answer.json()["state"]) == (202, "queued")
    assert wakes(services) == before + 1
    assert claim(services).job_id == job_id


def test_a_running_job_says_that_it_will_pause_until_it_does(
    client: TestClient, job_id: str, services: Services, tmp_path: Path
) -> None:
    lease = claim(services)
    for _ in range(2):
        answer = pause(client, job_id)
        assert (answer.status_code, answer.json()["state"]) == (202, "running")
        assert answer.json()["pause_requested"] is True
    commit(services, lease, 0, {}, tmp_path)
    release(services, lease)
    job = client.get(f"/v1/jobs/{job_id}").json()
    assert (job["state"], job["pause_requested"], len(job["metrics"])) == ("paused", False, 1)
    states = [
        event["body"]["state"]
        for event in client.get(f"/v1/jobs/{job_id}/events").json()["items"]
        if event["body"]["type"] == "state"
    ]
    assert (states[0], states[-1]) == ("queued", "paused")


def test_a_pause_that_is_still_to_come_is_taken_back(client: TestClient, job_id: str, services: Services) -> None:
    lease = claim(services)
    pause(client, job_id)
    answer = resume(client, job_id)
    assert (answer.json()["state"], answer.json()["pause_requested"]) == ("running", False)
    release(services, lease)
    assert client.get(f"/v1/jobs/{job_id}").json()["state"] == "queued"


def test_asking_twice_changes_nothing(client: TestClient, job_id: str) -> None:
    pause(client, job_id)
    events = client.get(f"/v1/jobs/{job_id}/events").json()
    assert (pause(client, job_id).status_code, pause(client, job_id).json()["state"]) == (202, "paused")
    assert client.get(f"/v1/jobs/{job_id}/events").json() == events
    assert [resume(client, job_id).json()["state"] for _ in range(2)] == ["queued", "queued"]


def test_a_paused_job_can_be_cancelled(client: TestClient, job_id: str) -> None:
    pause(client, job_id)
    answer = client.post(f"/v1/jobs/{job_id}/cancel")
    assert (answer.status_code, answer.json()["state"]) == (202, "cancelled")


def test_a_job_that_is_ending_or_has_ended_is_neither_paused_nor_resumed(
    client: TestClient, job_id: str, services: Services
) -> None:
    lease = claim(services)
    client.post(f"/v1/jobs/{job_id}/cancel")
    for ask in (pause, resume):
        assert "cancelling" in problem(ask(client, job_id), 409, "conflict")["detail"]
    with services.database.write() as session:
        transitions.confirm_cancel(session, lease)
    for ask in (pause, resume):
        assert "has already been cancelled" in problem(ask(client, job_id), 409, "conflict")["detail"]
    assert client.get(f"/v1/jobs/{job_id}").json()["state"] == "cancelled"


def test_jobs_that_are_not_there_are_neither_paused_nor_resumed(client: TestClient) -> None:
    for job_id in (f"job_{'a' * 26}", "job_1"):
        problem(pause(client, job_id), 404, "not_found")
        problem(resume(client, job_id), 404, "not_found")


# --- priority and limits ---


def test_the_higher_priority_goes_first(client: TestClient, job_body: dict[str, Any], services: Services) -> None:
    ids = {
        priority: client.post("/v1/jobs", json=job_body | {"priority": priority}).json()["id"]
        for priority in (-10, 0, 10)
    }
    assert [claim(services).job_id for _ in ids] == [ids[10], ids[0], ids[-10]]


@pytest.mark.parametrize("priority", [-11, 11, 0.5, "high", None])
def test_a_priority_that_is_none(client: TestClient, job_body: dict[str, Any], priority: Any) -> None:
    answer = client.post("/v1/jobs", json=job_body | {"priority": priority})
    assert problem(answer, 422, "invalid_request")["errors"][0]["pointer"] == "/priority"


@pytest.mark.parametrize(("given", "shown"), [("6h", 21_600), (90, 90), (None, None)])
def test_a_time_limit_is_answered_in_seconds(
    client: TestClient, job_body: dict[str, Any], given: Any, shown: int | None
) -> None:
    answer = client.post("/v1/jobs", json=job_body | {"limits": {"max_runtime": given}})
    assert answer.status_code == 202
    job = client.get(answer.headers["location"]).json()
    assert (job["request"]["limits"]["max_runtime"], job["ran_seconds"]) == (shown, 0)


@pytest.mark.parametrize("given", [0, -1, "", "6 h", "1.5h", True, "9999d"])
def test_a_time_limit_that_is_none(client: TestClient, job_body: dict[str, Any], given: Any) -> None:
    answer = client.post("/v1/jobs", json=job_body | {"limits": {"max_runtime": given}})
    assert problem(answer, 422, "invalid_request")["errors"][0]["pointer"] == "/limits/max_runtime"


# --- logs ---


def read_log(client: TestClient, job_id: str, **query: int) -> Any:
    answer = client.get(f"/v1/jobs/{job_id}/logs", params=query)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    return answer


def test_a_job_that_nobody_has_begun_has_an_empty_log(client: TestClient, job_id: str) -> None:
    answer = read_log(client, job_id)
    assert (answer.text, answer.headers["log-attempts"], answer.headers["log-next-offset"]) == ("", "", "0")
    problem(client.get(f"/v1/jobs/{job_id}/logs?attempt=1"), 404, "not_found")


def test_a_log_is_followed_by_asking_on_from_the_last_offset(
    client: TestClient, job_id: str, services: Services
) -> None:
    lease = claim(services)
    end = keep(services, lease, 0, "first line ü\n")
    first = read_log(client, job_id)
    assert first.text == "first line ü\n"
    assert (first.headers["log-attempt"], first.headers["log-offset"]) == ("1", "0")
    offset = int(first.headers["log-next-offset"])
    assert offset == end == 14
    waiting = read_log(client, job_id, offset=offset)
    assert (waiting.text, waiting.headers["log-next-offset"]) == ("", str(offset))
    keep(services, lease, end, "second line\n")
    more = read_log(client, job_id, offset=offset)
    assert (more.text, more.headers["log-offset"], more.headers["log-next-offset"]) == ("second line\n", "14", "26")
    assert read_log(client, job_id).text == "first line ü\nsecond line\n"


def test_a_long_log_comes_in_pieces_that_join(client: TestClient, job_id: str, services: Services) -> None:
    lease = claim(services)
    written, end = "", 0
    for number in range(12):
        text = f"piece {number} " + "ü" * 100_000 + "\n"
        end = keep(services, lease, end, text)
        written += text
    text, offset, answers = "", 0, 0
    while piece := read_log(client, job_id, offset=offset).text:
        assert len(piece.encode()) <= 2**20
        text, offset, answers = text + piece, offset + len(piece.encode()), answers + 1
    assert text == written
    assert answers > 2


def test_each_attempt_has_its_own_log_and_the_newest_is_the_default(
    client: TestClient, job_id: str, services: Services
) -> None:
    first = claim(services)
    keep(services, first, 0, "of the first\n")
    release(services, first)
    second = claim(services)
    keep(services, second, 0, "of the second\n")
    answer = read_log(client, job_id)
    assert (answer.text, answer.headers["log-attempt"]) == ("of the second\n", "2")
    assert answer.headers["log-attempts"] == "1,2"
    earlier = read_log(client, job_id, attempt=1)
    assert (earlier.text, earlier.headers["log-attempt"]) == ("of the first\n", "1")
    body = problem(client.get(f"/v1/jobs/{job_id}/logs?attempt=3"), 404, "not_found")
    assert "[1, 2]" in body["detail"]


def test_a_log_whose_beginning_is_gone_says_where_it_begins(
    client: TestClient, job_id: str, services: Services
) -> None:
    lease = claim(services)
    keep(services, lease, 5000, "the newest part\n")
    answer = read_log(client, job_id)
    assert (answer.text, answer.headers["log-offset"]) == ("the newest part\n", "5000")


def test_a_log_is_there_after_the_end_and_is_never_a_page(client: TestClient, job_id: str, services: Services) -> None:
    """What an engine writes may hold what a stranger put into a file."""
    lease = claim(services)
    keep(services, lease, 0, "<script>alert(1)</script>\n")
    with services.database.write() as session:
        transitions.succeed(session, lease)
    answer = read_log(client, job_id)
    assert answer.text == "<script>alert(1)</script>\n"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_logs_that_are_not_there(client: TestClient, job_id: str) -> None:
    problem(client.get(f"/v1/jobs/job_{'a' * 26}/logs"), 404, "not_found")
    for query in ("attempt=0", "attempt=x", "attempt=99999999999", "offset=-1", f"offset={2**64}"):
        problem(client.get(f"/v1/jobs/{job_id}/logs?{query}"), 422, "invalid_request")
