"""Webhooks over HTTP, from setting one up to looking at what was delivered."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from standardwebhooks.webhooks import Webhook as Verifier
from starlette.testclient import TestClient

from service.services import Services
from store.database.tables import Webhook
from store.outbound.client import OutboundClient
from store.outbound.url_rules import UrlRules
from store.settings import Settings
from tests.integration.service.conftest import problem
from tests.support.servers.receiver import Receiver, receiver
from worker.webhooks import Sender

EVENTS = ["job.succeeded", "job.failed", "job.cancelled", "job.paused", "job.step_finished"]


@pytest.fixture
def receiving() -> Iterator[Receiver]:
    with receiver() as made:
        yield made


@pytest.fixture
def data_dir(stocked: Path) -> Path:
    return stocked


@pytest.fixture
def settings(data_dir: Path, receiving: Receiver) -> Settings:
    return Settings(
        data_dir=data_dir,
        broker_url="redis://127.0.0.1:1/0",
        outbound_test_target=receiving.netloc,
        max_webhooks=3,
    )


def create(client: TestClient, receiving: Receiver, **more: Any) -> dict[str, Any]:
    answer = client.post("/v1/webhooks", json={"url": f"{receiving.url}/hook"} | more)
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == f"/v1/webhooks/{answer.json()['id']}"
    made: dict[str, Any] = answer.json()
    return made


def send(services: Services) -> int:
    settings = services.settings
    sender = Sender(services.database, settings, OutboundClient(UrlRules.of(settings)))
    sender.send_due()
    return sender.wait()


def test_a_job_is_cancelled_and_its_owner_told(
    client: TestClient, services: Services, receiving: Receiver, job_id: str
) -> None:
    made = create(client, receiving)
    assert (made["events"], made["enabled"]) == (EVENTS, True)
    assert client.post(f"/v1/jobs/{job_id}/cancel").status_code == 202
    log = f"/v1/webhooks/{made['id']}/deliveries"
    waiting = client.get(log, params={"state": "pending"}).json()["items"]
    assert [(each["type"], each["attempts"], each["last_status"]) for each in waiting] == [("job.cancelled", 0, None)]
    assert waiting[0]["next_attempt_at"] is not None
    assert send(services) == 1
    request = receiving.received[0]
    message = Verifier(made["secret"]).verify(request.body, dict(request.headers))
    assert (message["type"], message["data"]["id"]) == ("job.cancelled", job_id)
    assert client.get(message["data"]["url"]).json()["state"] == "cancelled"
    assert client.get(log, params={"state": "pending"}).json()["items"] == []
    done = client.get(log).json()["items"][0]
    assert (done["state"], done["attempts"], done["last_status"], done["next_attempt_at"]) == (
        "delivered",
        1,
        204,
        None,
    )
    assert done["body"].encode() == request.body


def test_ping_and_redelivery(client: TestClient, services: Services, receiving: Receiver) -> None:
    made = create(client, receiving, events=["job.failed"])
    here = f"/v1/webhooks/{made['id']}"
    ping = client.post(f"{here}/ping")
    assert (ping.status_code, ping.json()["type"], ping.json()["state"]) == (202, "webhook.ping", "pending")
    again = f"{here}/deliveries/{ping.json()['id']}/redeliver"
    problem(client.post(again), 409, "conflict")
    assert send(services) == 1
    second = client.post(again)
    assert second.status_code == 202
    assert second.json()["id"] != ping.json()["id"]
    assert send(services) == 1
    first, other = receiving.received
    assert first.headers["webhook-id"] == other.headers["webhook-id"] == ping.json()["message_id"]
    assert first.body == other.body
    assert len(client.get(f"{here}/deliveries").json()["items"]) == 2


def test_the_secret_is_shown_when_it_is_made_and_never_again(client: TestClient, receiving: Receiver) -> None:
    made = create(client, receiving)
    here = f"/v1/webhooks/{made['id']}"
    rotated = client.post(f"{here}/rotate").json()
    assert made["secret"].startswith("whsec_")
    assert rotated["secret"] != made["secret"]
    assert rotated["previous_secret_until"] is not None
    for answer in (client.get(here), client.get("/v1/webhooks"), client.patch(here, json={})):
        assert "whsec_" not in answer.text


def test_change_disable_enable_remove(client: TestClient, services: Services, receiving: Receiver) -> None:
    made = create(client, receiving)
    here = f"/v1/webhooks/{made['id']}"
    changed = client.patch(here, json={"url": f"{receiving.url}/other", "events": ["job.failed"]}).json()
    assert (changed["url"], changed["events"], changed["enabled"]) == (f"{receiving.url}/other", ["job.failed"], True)
    client.post(f"{here}/ping")
    assert client.patch(here, json={"enabled": False}).json()["enabled"] is False
    failed = client.get(f"{here}/deliveries").json()["items"][0]
    assert failed["state"] == "failed"
    assert send(services) == 0
    problem(client.post(f"{here}/ping"), 409, "conflict")
    problem(client.post(f"{here}/deliveries/{failed['id']}/redeliver"), 409, "conflict")
    with services.database.write() as session:
        session.execute(update(Webhook).values(disabled_reason="the receiver answered 410 Gone"))
    assert client.get(here).json()["disabled_reason"] == "the receiver answered 410 Gone"
    assert client.patch(here, json={"enabled": True}).json()["disabled_reason"] is None
    assert client.post(f"{here}/deliveries/{failed['id']}/redeliver").status_code == 202
    assert send(services) == 1
    assert client.delete(here).status_code == 204
    for method, path in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/ping"), ("GET", "/deliveries")):
        problem(client.request(method, here + path, json={} if method == "PATCH" else None), 404, "not_found")


@pytest.mark.parametrize(
    "url",
    [
        *("https://127.0.0.1/", "https://127.1/", "https://2130706433/", "https://0x7f000001/", "https://[::1]/"),
        *(
            "https://[::ffff:127.0.0.1]/",
            "https://169.254.169.254/latest/",
            "https://localhost/",
            "https://localhost./",
        ),
        *("http://example.com/", "file:///etc/passwd", "gopher://example.com/", "https://example.com:22/"),
        *("https://me:you@example.com/", "https://bücher.example/", "ftp://example.com/", "https:example.com"),
    ],
)
def test_an_address_that_is_not_called_is_refused_when_it_is_named(
    client: TestClient, receiving: Receiver, url: str
) -> None:
    refused = problem(client.post("/v1/webhooks", json={"url": url}), 422, "target_refused")
    assert refused["errors"][0]["pointer"] == "/url"
    here = f"/v1/webhooks/{create(client, receiving)['id']}"
    problem(client.patch(here, json={"url": url}), 422, "target_refused")
    assert client.get(here).json()["url"] == f"{receiving.url}/hook"


def test_what_is_wrong_is_pointed_at(client: TestClient, receiving: Receiver) -> None:
    for body, pointer in (
        ({}, "/url"),
        ({"url": ""}, "/url"),
        ({"url": receiving.url, "events": []}, "/events"),
        ({"url": receiving.url, "events": ["job.exploded"]}, "/events/0"),
        ({"url": receiving.url, "events": ["job.failed", "job.failed"]}, "/events"),
        ({"url": receiving.url, "secret": "mine"}, "/secret"),
    ):
        answer = problem(client.post("/v1/webhooks", json=body), 422, "invalid_request")
        assert [item["pointer"] for item in answer["errors"]] == [pointer]


def test_only_so_many(client: TestClient, receiving: Receiver) -> None:
    for _ in range(3):
        create(client, receiving)
    problem(client.post("/v1/webhooks", json={"url": receiving.url}), 409, "conflict")
    first = client.get("/v1/webhooks", params={"limit": 2}).json()
    rest = client.get("/v1/webhooks", params={"limit": 2, "cursor": first["next_cursor"]}).json()
    assert (len(first["items"]), len(rest["items"]), rest["next_cursor"]) == (2, 1, None)


def test_a_webhook_of_another_tenant_is_not_there(client: TestClient, services: Services, receiving: Receiver) -> None:
    here = f"/v1/webhooks/{create(client, receiving)['id']}"
    delivery = client.post(f"{here}/ping").json()["id"]
    with services.database.write() as session:
        session.execute(update(Webhook).values(tenant="other"))
    assert client.get("/v1/webhooks").json()["items"] == []
    for method, path in (
        ("GET", ""),
        ("DELETE", ""),
        ("POST", "/rotate"),
        ("POST", f"/deliveries/{delivery}/redeliver"),
    ):
        problem(client.request(method, here + path), 404, "not_found")


def test_the_document_says_what_a_receiver_gets(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    call = document["webhooks"]["news"]["post"]
    assert call["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith("/WebhookMessage")
    headers = {parameter["name"] for parameter in call["parameters"]}
    assert headers == {"webhook-id", "webhook-timestamp", "webhook-signature"}
    assert "204" in call["responses"]
