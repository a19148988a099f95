"""Signing in on the page: what a session's cookie opens, what it does not, and when it ends."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from httpx import Response
from sqlalchemy import func, select, update
from starlette.testclient import TestClient

from api_schemas.enums import JobState, KeyScope
from service.app import create_app
from service.services import Services
from store import retention
from store.access import api_keys, sessions
from store.database.tables import ApiKey, BrowserSession, Job
from store.jobs.workers.live_workers import Announcement, announce
from store.settings import Settings
from tests.integration.service.conftest import Stock, problem
from tests.support.local import local_client
from tests.support.pages import BROWSER, Page

HOME = "http://127.0.0.1:8000"
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
def data_dir(stocked: Path) -> Path:
    return stocked


@pytest.fixture
def settings(data_dir: Path) -> Settings:
    return Settings(data_dir=data_dir, broker_url="redis://127.0.0.1:1/0", auth="keys", refused_keys_per_minute=5)


@pytest.fixture
def key(client: TestClient, services: Services) -> str:
    """Of the tenant that the stock belongs to, with every scope. `client` migrates the database."""
    assert client.get("/healthz").status_code == 200
    return make_key(services)


def make_key(services: Services, tenant: str = "default", *scopes: KeyScope) -> str:
    with services.database.write() as session:
        return api_keys.create(session, tenant, None, scopes or tuple(KeyScope))[1]


def sign_in(client: TestClient, token: str, after: str = "/", **headers: str) -> Response:
    given = {"Origin": str(client.base_url), **BROWSER, **headers}
    return client.post("/signin", data={"key": token, "next": after}, headers=given, follow_redirects=False)


def csrf(client: TestClient) -> str:
    [meta] = Page(client.get("/", headers=BROWSER)).all("meta", name="csrf")
    return meta["content"]


@pytest.fixture
def browser(client: TestClient, key: str) -> TestClient:
    """Signed in."""
    assert sign_in(client, key).status_code == 303
    return client


def test_who_is_nobody_is_led_to_the_form_and_back(client: TestClient, key: str) -> None:
    for address, back in (
        ("/", "/signin"),
        ("/?state=queued", "/signin?next=%2F%3Fstate%3Dqueued"),
        ("/new", "/signin?next=%2Fnew"),
    ):
        answer = client.get(address, headers=BROWSER, follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (303, back)
        assert "content-security-policy" in answer.headers
    problem(client.get("/"), 401, "unauthenticated")
    form = Page(client.get("/signin?next=%2F%3Fstate%3Dqueued", headers=BROWSER))
    assert form.all("input", type="hidden", name="next")[0]["value"] == "/?state=queued"
    answer = sign_in(client, key, "/?state=queued")
    assert (answer.status_code, answer.headers["location"]) == (303, "/?state=queued")
    assert client.get("/?state=queued", headers=BROWSER).status_code == 200
    led_on = client.get("/signin?next=%2Fnew", headers=BROWSER, follow_redirects=False)
    assert (led_on.status_code, led_on.headers["location"]) == (303, "/new")


@pytest.mark.parametrize(
    "after",
    [
        "https://evil.example/",
        "//evil.example",
        "/\\evil.example",
        "/v1/jobs",
        "/signout",
        "javascript:alert(1)",
        "/jobs/\n",
    ],
)
def test_signing_in_leads_nowhere_else(client: TestClient, key: str, after: str) -> None:
    assert sign_in(client, key, after).headers["location"] == "/"


def test_the_cookie_is_the_browsers_alone(client: TestClient, key: str, services: Services) -> None:
    cookie = sign_in(client, key).headers["set-cookie"]
    name, _, rest = cookie.partition("=")
    value, _, attributes = rest.partition(";")
    assert name == "secateur-session"
    assert {part.strip().lower() for part in attributes.split(";")} == {"httponly", "path=/", "samesite=strict"}
    with services.database.read() as session:
        [row] = session.scalars(select(BrowserSession))
    assert value not in str(vars(row))
    assert key.rpartition("_")[2] not in cookie


def test_over_tls_it_is_bound_to_tls(app: FastAPI, key: str) -> None:
    with local_client(app, base_url="https://localhost") as client:
        cookie = sign_in(client, key).headers["set-cookie"]
        assert cookie.startswith("__Host-secateur-session=")
        assert "secure" in cookie.lower()
        assert client.get("/", headers=BROWSER).status_code == 200
        # A neighbour under the same domain can set cookies without TLS, and none of those counts.
        planted = client.cookies["__Host-secateur-session"]
        client.cookies.clear()
        given = {**BROWSER, "Cookie": f"secateur-session={planted}"}
        assert client.get("/", headers=given, follow_redirects=False).status_code == 303


def test_a_session_does_what_its_key_does(browser: TestClient, services: Services, job_body: dict[str, Any]) -> None:
    own = {"Origin": HOME, "X-CSRF-Token": csrf(browser)}
    made = browser.post("/v1/jobs", json=job_body, headers=own)
    assert made.status_code == 202, made.text
    job_id = made.json()["id"]
    assert browser.get("/v1/jobs").json()["items"][0]["id"] == job_id
    assert browser.get(f"/jobs/{job_id}", headers=BROWSER).status_code == 200
    browser.post(f"/v1/jobs/{job_id}/cancel", headers=own)
    with browser.stream("GET", f"/v1/jobs/{job_id}/events", headers={"Accept": "text/event-stream"}) as stream:
        assert stream.status_code == 200
        assert "cancelled" in stream.read().decode()
    with services.database.read() as session:
        [key_id] = session.scalars(select(BrowserSession.key_id))
    noted = browser.get("/v1/audit").json()["items"]
    assert [(entry["action"], entry["key_id"]) for entry in noted[:2]] == [
        ("cancel_job", key_id),
        ("create_job", key_id),
    ]


def test_a_key_for_uploads_learns_nothing_of_jobs_from_the_slider(
    client: TestClient, services: Services, key: str, stock: Stock
) -> None:
    def reach(token: str, **query: str) -> tuple[int, object]:
        found = client.get("/new/reach", params=query, headers={"Authorization": f"Bearer {token}"})
        return found.status_code, found.json().get("most")

    uploads_alone = make_key(services, "default", KeyScope.MODELS_WRITE)
    step = {"model_from": "step", "model_step": f"job_{'a' * 26}/1"}
    assert (reach(uploads_alone, **step), reach(key, **step)) == ((200, None), (404, None))
    assert reach(uploads_alone, model=stock.model_id) == reach(key, model=stock.model_id)
    assert reach(key, model=stock.model_id)[1] is not None


CHANGES: dict[str, tuple[dict[str, str], bool]] = {
    "own page": ({"Origin": HOME, "X-CSRF-Token": "right"}, True),
    "own page that does not say its origin": ({"Sec-Fetch-Site": "same-origin", "X-CSRF-Token": "right"}, True),
    "no token": ({"Origin": HOME}, False),
    "wrong token": ({"Origin": HOME, "X-CSRF-Token": "wrong"}, False),
    "strange token": ({"Origin": HOME, "X-CSRF-Token": "\xff"}, False),
    "another origin": ({"Origin": "https://evil.example", "X-CSRF-Token": "right"}, False),
    "another port": ({"Origin": "http://127.0.0.1:9", "X-CSRF-Token": "right"}, False),
    "no origin at all": ({"Origin": "null", "X-CSRF-Token": "right"}, False),
    "nothing that says where from": ({"X-CSRF-Token": "right"}, False),
    "another site": ({"Sec-Fetch-Site": "cross-site", "X-CSRF-Token": "right"}, False),
    "a neighbour": ({"Sec-Fetch-Site": "same-site", "X-CSRF-Token": "right"}, False),
    "nothing": ({}, False),
}


@pytest.mark.parametrize("case", CHANGES)
def test_only_the_own_page_changes_anything(browser: TestClient, job_body: dict[str, Any], case: str) -> None:
    headers, allowed = CHANGES[case]
    token = csrf(browser)
    given = {name: (token if value == "right" else value).encode("latin-1") for name, value in headers.items()}
    calls: list[Callable[[], Response]] = [
        lambda: browser.post("/v1/jobs", json=job_body, headers=given),  # type: ignore[arg-type]
        lambda: browser.post("/v1/jobs:estimate", json=job_body, headers=given),  # type: ignore[arg-type]
        lambda: browser.delete(f"/v1/jobs/job_{'a' * 26}", headers=given),  # type: ignore[arg-type]
        lambda: browser.put(f"/v1/models/mdl_{'a' * 26}/files/config.json", content=b"", headers=given),  # type: ignore[arg-type]
        lambda: browser.patch(f"/v1/uploads/upl_{'a' * 26}", content=b"", headers=given),  # type: ignore[arg-type]
    ]
    for call in calls:
        answer = call()
        if allowed:
            assert answer.status_code != 403, answer.text
        else:
            assert "own page" in problem(answer, 403, "forbidden")["detail"]
    assert bool(browser.get("/v1/jobs").json()["items"]) is allowed


def test_a_key_beside_the_cookie_counts_alone(
    browser: TestClient, services: Services, job_body: dict[str, Any]
) -> None:
    other = {"Authorization": f"Bearer {make_key(services, 'other')}"}
    assert browser.post("/v1/jobs", json=job_body, headers=other).status_code == 404
    assert browser.get("/v1/jobs", headers=other).json()["items"] == []
    problem(browser.get("/v1/jobs", headers={"Authorization": "Bearer sk_wrong"}), 401, "unauthenticated")


def end_key(services: Services, **values: Any) -> None:
    with services.database.write() as session:
        session.execute(update(ApiKey).values(**values))


@pytest.mark.parametrize("how", ["key revoked", "key expired", "session over", "signed out", "key gone"])
def test_a_session_ends(browser: TestClient, services: Services, how: str) -> None:
    assert browser.get("/v1/jobs").status_code == 200
    cookie = browser.cookies["secateur-session"]
    match how:
        case "key revoked":
            end_key(services, revoked_at=LONG_AGO)
        case "key expired":
            end_key(services, expires_at=LONG_AGO)
        case "session over":
            with services.database.write() as session:
                session.execute(update(BrowserSession).values(expires_at=LONG_AGO))
        case "key gone":
            with services.database.write() as session:
                session.delete(session.scalars(select(ApiKey)).one())
        case "signed out":
            form = {"csrf": csrf(browser)}
            answer = browser.post("/signout", data=form, headers={"Origin": HOME}, follow_redirects=False)
            assert (answer.status_code, answer.headers["location"]) == (303, "/signin")
            assert 'secateur-session=""' in answer.headers["set-cookie"]
    given = {"Cookie": f"secateur-session={cookie}"}
    problem(browser.get("/v1/jobs", headers=given), 401, "unauthenticated")
    assert browser.get("/", headers=BROWSER | given, follow_redirects=False).status_code == 303


def test_signing_out_is_asked_for_by_the_own_page_alone(browser: TestClient) -> None:
    token = csrf(browser)
    for form, origin in (({}, HOME), ({"csrf": "x"}, HOME), ({"csrf": token}, "https://evil.example")):
        answer = browser.post("/signout", data=form, headers={"Origin": origin}, follow_redirects=False)
        problem(answer, 403, "forbidden")
    assert browser.get("/v1/jobs").status_code == 200


def test_signing_in_again_ends_the_session_before(browser: TestClient, key: str, services: Services) -> None:
    assert sign_in(browser, key).status_code == 303
    with services.database.read() as session:
        assert session.scalar(select(func.count()).select_from(BrowserSession)) == 1


def test_what_is_no_key_opens_nothing_and_soon_is_not_asked_about(client: TestClient, key: str) -> None:
    for attempt in range(5):
        answer = sign_in(client, f"{key[:-1]}{'a' if key[-1] != 'a' else 'b'}" if attempt else "")
        assert answer.status_code == 401
        assert "set-cookie" not in answer.headers
        assert "That API key isn't valid" in Page(answer).text
        assert key not in answer.text
    assert sign_in(client, key).status_code == 429


def test_another_page_cannot_sign_anybody_in(client: TestClient, key: str) -> None:
    for headers in ({"Origin": "https://evil.example"}, {"Origin": "null"}):
        answer = sign_in(client, key, **headers)
        assert answer.status_code == 403
        assert "set-cookie" not in answer.headers


def test_what_is_another_tenants_is_not_there(
    client: TestClient, services: Services, key: str, job_body: dict[str, Any]
) -> None:
    own = {"Authorization": f"Bearer {key}"}
    job_id = client.post("/v1/jobs", json=job_body, headers=own).json()["id"]
    assert sign_in(client, make_key(services, "other")).status_code == 303
    for address in (f"/jobs/{job_id}", f"/jobs/{job_id}?tab=log", f"/compare?job={job_id}&job={job_id}"):
        assert client.get(address, headers=BROWSER).status_code == 404, address
    model = job_body["model"]["id"]
    for address in ("/", "/new", "/compare", f"/new?model={model}"):
        shown = client.get(address, headers=BROWSER)
        assert shown.status_code == 200
        assert job_id not in shown.text
        assert f'value="{model}"' not in shown.text


def test_a_key_without_the_scope_sees_a_page_that_says_so(client: TestClient, services: Services, key: str) -> None:
    assert key
    assert sign_in(client, make_key(services, "default", KeyScope.ADMIN)).status_code == 303
    page = Page(client.get("/", headers=BROWSER))
    assert page.status == 403
    assert "jobs:read" in page.text


def test_sessions_that_are_over_are_forgotten(browser: TestClient, services: Services) -> None:
    assert retention.expire(services.database, services.settings).sessions == 0
    with services.database.write() as session:
        over = datetime.now(UTC) - timedelta(seconds=1)
        session.execute(update(BrowserSession).values(expires_at=over))
    assert retention.expire(services.database, services.settings).sessions == 1
    assert browser.get("/v1/jobs").status_code == 401


def test_a_token_that_was_made_up(client: TestClient, key: str) -> None:
    assert key
    for made_up in ("a" * 43, "x", "", "\xff", "a" * 5000):
        given = [(b"cookie", f"secateur-session={made_up}".encode("latin-1"))]
        problem(client.get("/v1/jobs", headers=given), 401, "unauthenticated")  # type: ignore[arg-type]


def test_without_keys_there_is_nothing_to_sign_in_to(data_dir: Path) -> None:
    app = create_app(Settings(data_dir=data_dir, broker_url="redis://127.0.0.1:1/0"))
    with local_client(app) as client:
        answer = client.get("/signin", headers=BROWSER, follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        assert sign_in(client, "sk_x").status_code == 404
        assert Page(client.get("/", headers=BROWSER)).all("meta", name="csrf", content="")


def test_the_csrf_token_does_not_tell_the_sessions() -> None:
    assert sessions.csrf_of("a") != sessions.csrf_of("b")
    assert len(sessions.csrf_of("a")) == 64


def test_what_is_anothers_is_on_no_page(
    client: TestClient, services: Services, key: str, job_body: dict[str, Any]
) -> None:
    model, dataset = job_body["model"]["id"], job_body["dataset"]["id"]
    bearer = {"Authorization": f"Bearer {key}"}
    job = client.post("/v1/jobs", json=job_body | {"name": "private"}, headers=bearer).json()["id"]
    with services.database.write() as session:
        announce(session, Announcement("w1", "w1", "host", None, None, None, 1), 60)
        session.execute(update(Job).values(state=JobState.RUNNING, worker="w1"))
    addresses = (f"/models/{model}", f"/datasets/{dataset}", f"/lineage/{job}", f"/new/reach?model={model}")
    lists = ("/models", "/datasets", "/workers", "/new", f"/new?model={model}&dataset={dataset}")
    for address in (*addresses, *lists):
        unsigned = client.get(address, headers=BROWSER, follow_redirects=False)
        assert (unsigned.status_code, unsigned.headers["location"][:8]) == (303, "/signin?"), address
        assert client.get(address, headers=BROWSER | bearer).status_code == 200, address
    sign_in(client, make_key(services, "stranger"))
    for address in addresses:
        assert client.get(address, headers=BROWSER).status_code == 404, address
    for address in lists:
        shown = Page(client.get(address, headers=BROWSER))
        assert shown.status == 200, address
        held = {value for _, attributes in shown.elements for name, value in attributes.items() if name != "hx-get"}
        assert not any(each in " ".join(held) for each in (f"/{model}", f"/{dataset}", job)), address
        assert "private" not in shown.text
    assert "another tenant's job" in Page(client.get("/workers", headers=BROWSER)).text


def test_a_page_shows_what_the_key_could_list(
    client: TestClient, services: Services, key: str, job_body: dict[str, Any]
) -> None:
    address = f"/models/{job_body['model']['id']}"
    client.post("/v1/jobs", json=job_body | {"name": "a job"}, headers={"Authorization": f"Bearer {key}"})
    with services.database.write() as session:
        session.execute(update(Job).values(state=JobState.SUCCEEDED))

    def seen(*scopes: KeyScope) -> tuple[Page, Page]:
        client.cookies.clear()
        sign_in(client, make_key(services, "default", *scopes))
        return tuple(Page(client.get(each, headers=BROWSER)) for each in (address, "/workers"))  # type: ignore[return-value]

    model, workers = seen(KeyScope.MODELS_WRITE)
    assert model.all("button", id="delete")
    assert "a job" not in model.text
    assert "cannot see jobs or workers" in workers.text
    model, workers = seen(KeyScope.JOBS_READ)
    assert not model.all("button", id="delete")
    assert "a job" in model.text
    assert "There are no workers" not in workers.text
    model, workers = seen(KeyScope.ADMIN)
    assert model.status == 403
    assert "There are no workers" in workers.text
    assert "No job of yours" not in workers.text
