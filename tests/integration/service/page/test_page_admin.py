"""Keys, webhooks, audit log and quotas on the page: who sees which, and that no token or secret is on any."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, update
from starlette.testclient import TestClient

from api_schemas.api.webhooks import DeliveryState, WebhookEvent
from api_schemas.enums import KeyScope
from service.app import create_app
from service.page.admin import audit, keys
from service.services import Services
from store.access import api_keys
from store.database.connection import Database
from store.database.tables import ApiKey, AuditRow, Webhook, WebhookDelivery
from store.settings import Settings
from store.webhooks import enqueue, webhooks
from tests.integration.service.conftest import problem
from tests.integration.service.page.test_page_answers import HOSTILE
from tests.integration.service.page.test_page_jobs import look
from tests.integration.service.page.test_page_sessions import HOME, make_key, sign_in
from tests.support.local import local_client
from tests.support.pages import BROWSER, Page

TENANT = "default"
URL = "https://hooks.example.com/secateur"
SEEN_BY = {
    "/keys": {KeyScope.ADMIN},
    "/webhooks": {KeyScope.JOBS_READ, KeyScope.JOBS_WRITE},
    "/audit": {KeyScope.ADMIN},
    "/limits": set(KeyScope),
}


@pytest.fixture
def settings(data_dir: Path) -> Settings:
    return Settings(
        data_dir=data_dir, broker_url="redis://127.0.0.1:1/0", auth="keys", max_waiting_jobs=4, max_stored_bytes=10**9
    )


@pytest.fixture
def browser(client: TestClient, services: Services) -> TestClient:
    """Signed in with every scope."""
    return signed_in(client, services)


def signed_in(client: TestClient, services: Services, *scopes: KeyScope, tenant: str = TENANT) -> TestClient:
    client.cookies.clear()
    assert sign_in(client, make_key(services, tenant, *scopes), "/limits").status_code == 303
    return client


def own(client: TestClient) -> dict[str, str]:
    """What the page's scripts send with a change."""
    [meta] = Page(client.get("/limits", headers=BROWSER)).all("meta", name="csrf")
    return {"Origin": HOME, "X-CSRF-Token": meta["content"]}


def webhook(database: Database, tenant: str = TENANT, url: str = URL) -> tuple[str, str]:
    """Identifier and secret."""
    with database.write() as session:
        row = webhooks.create(session, tenant, url, tuple(WebhookEvent), 20)
        return row.id, row.secret


def delivery(services: Services, webhook_id: str, **values: Any) -> str:
    with services.database.write() as session:
        made = enqueue.ping(session, webhooks.get(session, TENANT, webhook_id))
        session.flush()
        session.execute(update(WebhookDelivery).where(WebhookDelivery.id == made.id).values(**values))
        return made.id


@pytest.mark.parametrize("scope", KeyScope)
def test_a_key_sees_what_it_may_call_and_is_led_nowhere_else(
    client: TestClient, services: Services, scope: KeyScope
) -> None:
    signed_in(client, services, scope)
    page = look(client, "/limits")
    tabs = [address for address in SEEN_BY if page.all("a", href=address)]
    for address, scopes in SEEN_BY.items():
        shown = Page(client.get(address, headers=BROWSER))
        assert shown.status == (200 if scope in scopes else 403), address
        assert (address in tabs) is (scope in scopes), address
        if scope not in scopes:
            assert "The key lacks the scope" in shown.text
    assert ("Admin" in page.words) is (scope is KeyScope.ADMIN)
    assert ("Settings" in page.words) is (scope is not KeyScope.ADMIN)


def test_nobody_is_led_to_the_form(client: TestClient, services: Services) -> None:
    make_key(services)
    made, _ = webhook(services.database)
    for address in (*SEEN_BY, f"/webhooks/{made}"):
        answer = client.get(address, headers=BROWSER, follow_redirects=False)
        assert (answer.status_code, answer.headers["location"][:8]) == (303, "/signin?"), address
    assert not Page(client.get("/signin", headers=BROWSER)).all("a", href="/limits")


def test_a_token_is_in_one_answer_and_on_no_page(browser: TestClient) -> None:
    [form] = look(browser, "/keys").all("form", id="new-key")
    scopes = [box["value"] for box in look(browser, "/keys").all("input", name="scope")]
    assert sorted(scopes) == sorted(KeyScope)
    body = {"name": "nightly", "scopes": ["jobs:read"], "expires_at": None}
    problem(browser.post(form["data-creates"], json=body, headers={"Origin": HOME}), 403, "forbidden")
    made = browser.post(form["data-creates"], json=body, headers=own(browser))
    assert (made.status_code, made.headers["cache-control"]) == (201, "no-store")
    token, key_id = made.json()["token"], made.json()["id"]
    secret = token.rpartition("_")[2]
    page = look(browser, "/keys")
    assert "nightly" in page.text
    [revoke] = page.all("button", id=f"revoke-{key_id}")
    assert revoke["hx-confirm"].startswith("Revoke the key nightly?")
    # Of the key of this session it says what follows.
    assert "your session" in page.text
    [mine] = [button for button in page.all("button") if "ends your session" in button.get("hx-confirm", "")]
    assert mine["id"] != revoke["id"]
    problem(browser.post(revoke["hx-post"], headers={"Origin": HOME}), 403, "forbidden")
    assert browser.post(revoke["hx-post"], headers=own(browser)).status_code == 200
    page = look(browser, "/keys")
    assert not page.all("button", id=f"revoke-{key_id}")
    assert "revoked" in page.text
    for address in SEEN_BY:
        assert secret not in browser.get(address, headers=BROWSER).text, address
    assert "create_key" in look(browser, "/audit").text
    part = browser.get("/keys", headers={"HX-Request": "true", "HX-Target": "keys"})
    assert Page(part).all("section", id="keys")
    assert "<html" not in part.text


def test_a_secret_is_in_one_answer_and_on_no_page(browser: TestClient, services: Services) -> None:
    made, secret = webhook(services.database)
    address = f"/webhooks/{made}"
    assert address in set(look(browser, "/webhooks").addresses())
    page = look(browser, address)
    [rotate] = page.all("button", id="rotate")
    problem(browser.post(rotate["hx-post"], headers={"Origin": HOME}), 403, "forbidden")
    answer = browser.post(rotate["hx-post"], headers=own(browser))
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    changed = answer.json()["secret"]
    assert changed != secret
    assert "Also signed with the previous secret until" in look(browser, address).text
    for each in (*SEEN_BY, address):
        text = browser.get(each, headers=BROWSER).text
        assert changed not in text, each
        assert secret not in text, each


def test_a_webhook_is_tried_paused_resumed_and_deleted(browser: TestClient, services: Services) -> None:
    made, _ = webhook(services.database)
    address = f"/webhooks/{made}"
    assert "Nothing has been sent yet." in look(browser, address).text
    [ping] = look(browser, address).all("button", id="ping")
    assert browser.post(ping["hx-post"], headers=own(browser)).status_code == 202
    # Still under way: there is nothing to send again.
    assert not [button for button in look(browser, address).all("button") if button.get("id", "").startswith("again-")]
    sent = delivery(
        services,
        made,
        state=DeliveryState.FAILED,
        attempts=7,
        last_status=503,
        last_error="the receiver answered 503",
        last_latency=0.25,
    )
    page = look(browser, address)
    assert "the receiver answered 503 after 250 ms" in page.text
    [again] = page.all("button", id=f"again-{sent}")
    assert browser.post(again["hx-post"], headers=own(browser)).status_code == 202
    with services.database.read() as session:
        assert session.scalar(select(func.count()).select_from(WebhookDelivery)) == 3
    [pause] = page.all("button", id="pause")
    assert pause["data-enabled"] == "false"
    assert browser.patch(pause["data-call"], json={"enabled": False}, headers=own(browser)).status_code == 200
    page = look(browser, address)
    assert [button["data-enabled"] for button in page.all("button", id="resume")] == ["true"]
    assert not page.all("button", id="ping")
    assert not page.all("button", id=f"again-{sent}")
    assert "paused" in look(browser, "/webhooks").text
    [delete] = page.all("button", id="delete")
    assert browser.delete(delete["hx-delete"], headers=own(browser)).status_code == 204
    assert Page(browser.get(address, headers=BROWSER)).status == 404
    assert "There are no webhooks yet." in look(browser, "/webhooks").text


def test_a_failing_webhook_says_since_when(browser: TestClient, services: Services) -> None:
    made, _ = webhook(services.database)
    assert "active" in look(browser, "/webhooks").text
    with services.database.write() as session:
        since = session.scalars(select(Webhook.created_at)).one()
        session.execute(update(Webhook).values(failing_since=since))
    for address in ("/webhooks", f"/webhooks/{made}"):
        text = look(browser, address).text
        assert "failing" in text
        assert f"{since:%Y-%m-%d %H:%M} UTC" in text
    with services.database.write() as session:
        session.execute(update(Webhook).values(enabled=False, disabled_reason="The receiver answered 410."))
    assert "Disabled by the server: The receiver answered 410." in look(browser, f"/webhooks/{made}").text


def test_a_long_address_is_shown_whole_and_kept_out_of_the_title(browser: TestClient, services: Services) -> None:
    long = f"{URL}/{'x' * 200}"
    made, _ = webhook(services.database, url=long)
    page = look(browser, f"/webhooks/{made}")
    assert long in page.words
    assert "hooks.example.com" not in page.text.partition("Secateur")[0]


def test_who_only_reads_gets_no_buttons(client: TestClient, services: Services) -> None:
    made, _ = webhook(services.database)
    sent = delivery(services, made, state=DeliveryState.DELIVERED)
    signed_in(client, services, KeyScope.JOBS_READ)
    page = look(client, f"/webhooks/{made}")
    assert f"body-{sent}" in {attributes.get("id") for _, attributes in page.elements}
    for shown in (page, look(client, "/webhooks")):
        assert not [button for button in shown.all("button") if {"hx-post", "hx-delete", "data-call"} & button.keys()]
        assert not shown.all("form", id="new-webhook")
    problem(client.post(f"/v1/webhooks/{made}/ping", headers=own(client)), 403, "forbidden")


def test_what_is_another_tenants_is_not_there(browser: TestClient, services: Services) -> None:
    made, _ = webhook(services.database, "other", "https://other.example/hook")
    with services.database.write() as session:
        theirs, _ = api_keys.create(session, "other", "their key", (KeyScope.ADMIN,), None)
        their_key = theirs.id
    assert Page(browser.get(f"/webhooks/{made}", headers=BROWSER)).status == 404
    for address in SEEN_BY:
        text = browser.get(address, headers=BROWSER).text
        assert not any(each in text for each in (made, "other.example", "their key", their_key)), address
    own_page = own(browser)
    problem(browser.post(f"/v1/keys/{their_key}/revoke", headers=own_page), 404, "not_found")
    # Nor is what they changed in the log.
    signed_in(browser, services, tenant="other")
    browser.post(f"/v1/webhooks/{made}/ping", headers=own(browser))
    assert made in browser.get("/audit", headers=BROWSER).text
    signed_in(browser, services)
    assert made not in browser.get("/audit", headers=BROWSER).text


def test_strangers_words_are_words(browser: TestClient, services: Services) -> None:
    made, _ = webhook(services.database)
    delivery(services, made, state=DeliveryState.FAILED, attempts=1, last_error=HOSTILE, body=HOSTILE)
    browser.post(f"/v1/webhooks/{made}/ping", headers=own(browser))
    with services.database.write() as session:
        session.execute(update(ApiKey).values(name=HOSTILE))
        session.execute(update(Webhook).values(url=HOSTILE, enabled=False, disabled_reason=HOSTILE))
        session.execute(update(AuditRow).values(object_id=HOSTILE, request_id=HOSTILE))
    for address in (*SEEN_BY, f"/webhooks/{made}"):
        answer = browser.get(address, headers=BROWSER)
        page = Page(answer)
        assert answer.status_code == 200, address
        assert [element for element, _ in page.elements].count("h1") == 1, address
        for bad in ("\u202e", "<script>alert", "<img"):
            assert bad not in answer.text, (address, bad)


def test_long_lists_are_read_in_pages(browser: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "PAGE", 1)
    monkeypatch.setattr(audit, "PAGE", 1)
    for name in ("first", "second"):
        body = {"name": name, "scopes": ["jobs:read"]}
        assert browser.post("/v1/keys", json=body, headers=own(browser)).status_code == 201
    for address, first, second in (("/keys", "second", "first"), ("/audit", "create_key", "create_key")):
        page = look(browser, address)
        assert first in page.text, address
        [older] = [link for link in page.addresses() if link.startswith(f"{address}?cursor=")][-1:]
        page = look(browser, older)
        assert second in page.text, address
        # Both ways on are there: the tab and `Newest` lead back.
        assert list(page.addresses()).count(address) == 2 + (address == "/keys")
    assert Page(browser.get("/audit?cursor=made-up", headers=BROWSER)).status == 422


def test_quotas_are_used_of_allowed(browser: TestClient) -> None:
    body = {"files": [{"name": "train.parquet", "size": 25 * 10**7, "sha256": "ab" * 32}]}
    assert browser.post("/v1/datasets", json=body, headers=own(browser)).status_code == 201
    page = look(browser, "/limits")
    assert "250 MB used of 1.00 GB (25%)" in page.text
    assert "0 used of 4 (0%)" in page.text
    [bar] = page.all("progress", aria_label="Storage used")
    assert (bar["max"], bar["value"]) == (str(10**9), str(25 * 10**7))
    assert "no limit" in page.text


def test_without_keys_everything_is_there_and_says_so(data_dir: Path) -> None:
    app = create_app(Settings(data_dir=data_dir, broker_url="redis://127.0.0.1:1/0"))
    with local_client(app) as client:
        for address in SEEN_BY:
            assert set(SEEN_BY) <= set(look(client, address).addresses())
        assert "This service runs without keys" in look(client, "/keys").text
        made = client.post("/v1/keys", json={"name": "for later", "scopes": ["jobs:read"]}).json()
        assert "for later" in look(client, "/keys").text
        assert made["token"] not in client.get("/keys", headers=BROWSER).text
