"""Lists of jobs: labels, filters, places in the queue, and pages that hold while jobs come and go."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from starlette.testclient import TestClient

from service.services import Services
from store.database.tables import Job
from store.jobs import transitions
from tests.integration.service.conftest import Stock, claim, problem
from tests.support.uploads import checkpoint_files, send


@pytest.fixture
def data_dir(stocked: Path) -> Path:
    return stocked


def submit(client: TestClient, body: dict[str, Any], **changes: Any) -> str:
    answer = client.post("/v1/jobs", json=body | changes)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def listed(client: TestClient, **query: Any) -> list[str]:
    answer = client.get("/v1/jobs", params=query)
    assert answer.status_code == 200, answer.text
    return [job["id"] for job in answer.json()["items"]]


def test_labels_select(client: TestClient, job_body: dict[str, Any]) -> None:
    speech = submit(client, job_body, labels={"team": "speech", "ticket/no": "12=a"})
    vision = submit(client, job_body, labels={"team": "vision"})
    plain = submit(client, job_body)
    assert client.get(f"/v1/jobs/{speech}").json()["request"]["labels"] == {"team": "speech", "ticket/no": "12=a"}
    assert listed(client) == [plain, vision, speech]
    assert listed(client, label="team=speech") == [speech]
    assert listed(client, label="team") == [vision, speech]
    assert listed(client, label="ticket/no=12=a") == [speech]
    assert listed(client, label=["team=speech", "ticket/no"]) == [speech]
    assert listed(client, label=["team=speech", "team=vision"]) == []
    assert listed(client, label="team=") == []


@pytest.mark.parametrize(
    "labels",
    [
        {"Team": "a"},
        {"": "a"},
        {"a" * 64: "a"},
        {"a": "b\n"},
        {"a": "b" * 129},
        {"a": 1},
        {str(n): "" for n in range(17)},
    ],
)
def test_labels_are_bounded(client: TestClient, job_body: dict[str, Any], labels: dict[str, Any]) -> None:
    body = problem(client.post("/v1/jobs", json=job_body | {"labels": labels}), 422, "invalid_request")
    assert body["errors"][0]["pointer"].startswith("/labels")


@pytest.mark.parametrize(
    "query",
    [
        "label=A",
        "label==a",
        "label=a%0A",
        "state=gone",
        "created_after=2026-01-01T00:00:00",
        "created_before=0.5",
        "model=x",
        "model=mdl_1",
    ],
)
def test_filters_that_are_none(client: TestClient, query: str) -> None:
    problem(client.get(f"/v1/jobs?{query}"), 422, "invalid_request")


def test_states_models_and_moments(
    client: TestClient, services: Services, job_body: dict[str, Any], stock: Stock
) -> None:
    first, second, third = (submit(client, job_body) for _ in range(3))
    client.post(f"/v1/jobs/{first}/cancel")
    client.post(f"/v1/jobs/{second}/pause")
    assert listed(client, state=["cancelled", "paused"]) == [second, first]
    assert listed(client, state="queued") == [third]
    other = send(client, "models", checkpoint_files()).json()["id"]
    assert listed(client, model=other) == []
    assert len(listed(client, model=stock.model_id)) == 3
    with services.database.write() as session:
        moment = session.get_one(Job, second).created_at
        for age, job_id in enumerate((second, first), start=1):
            earlier = moment - timedelta(hours=age)
            session.execute(update(Job).where(Job.id == job_id).values(created_at=earlier))
    between = (moment - timedelta(hours=1)).isoformat()
    assert listed(client, created_after=between) == [third, second]
    assert listed(client, created_before=between) == [first]
    assert listed(client, created_after=between, state="paused", model=stock.model_id) == [second]


def test_places_in_the_queue(client: TestClient, services: Services, job_body: dict[str, Any]) -> None:
    old, urgent, new = submit(client, job_body), submit(client, job_body, priority=5), submit(client, job_body)
    places = {job["id"]: job["queue_position"] for job in client.get("/v1/jobs").json()["items"]}
    assert places == {urgent: 1, old: 2, new: 3}
    assert [client.get(f"/v1/jobs/{job}").json()["queue_position"] for job in (urgent, old, new)] == [1, 2, 3]
    assert claim(services).job_id == urgent
    client.post(f"/v1/jobs/{old}/pause")
    places = {job["id"]: job["queue_position"] for job in client.get("/v1/jobs").json()["items"]}
    assert places == {urgent: None, old: None, new: 1}
    assert client.post("/v1/jobs", json=job_body).json()["queue_position"] == 2


def test_a_list_can_be_polled(client: TestClient, services: Services, job_body: dict[str, Any]) -> None:
    submit(client, job_body)
    first = client.get("/v1/jobs")
    assert "retry-after" in first.headers
    tag = {"If-None-Match": first.headers["etag"]}
    assert client.get("/v1/jobs", headers=tag).status_code == 304
    with services.database.write() as session:
        job = transitions.claim(session, "a", 60, 3)
    assert job is not None
    assert client.get("/v1/jobs", headers=tag).status_code == 200
    empty = client.get("/v1/jobs?state=failed")
    assert "retry-after" not in empty.headers
    events = client.get(f"/v1/jobs/{job.id}/events")
    assert "retry-after" in events.headers
    again = client.get(f"/v1/jobs/{job.id}/events", headers={"If-None-Match": events.headers["etag"]})
    assert again.status_code == 304
