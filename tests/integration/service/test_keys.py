"""Keys over HTTP, and what a service with keys says to whom."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from api_schemas.enums import KeyScope
from service.app import create_app
from service.services import Services
from store.access import api_keys
from store.settings import Settings
from tests.integration.service.conftest import problem
from tests.support.local import local_client


@pytest.fixture
def settings(data_dir: Path) -> Settings:
    return Settings(data_dir=data_dir, broker_url="redis://127.0.0.1:1/0", auth="keys")


@pytest.fixture
def admin(client: TestClient, services: Services) -> TestClient:
    with services.database.write() as session:
        _, token = api_keys.bootstrap(session, "acme", "first")
    client.headers["Authorization"] = f"Bearer {token}"
    return client


def make(admin: TestClient, **body: object) -> dict[str, str]:
    answer = admin.post("/v1/keys", json={"scopes": ["jobs:read"], **body})
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == f"/v1/keys/{answer.json()['id']}"
    assert answer.headers["cache-control"] == "no-store"
    made: dict[str, str] = answer.json()
    return made


def test_a_key_is_made_shown_once_used_and_revoked(admin: TestClient) -> None:
    made = make(admin, name="reader")
    given = {"Authorization": f"Bearer {made['token']}"}
    assert admin.get("/v1/jobs", headers=given).status_code == 200
    problem(admin.get("/v1/keys", headers=given), 403, "forbidden")
    shown = admin.get(f"/v1/keys/{made['id']}").json()
    assert (shown["name"], shown["scopes"], shown["prefix"]) == ("reader", ["jobs:read"], made["token"][:29])
    assert shown["last_used_at"] is not None
    assert made["token"][30:] not in admin.get("/v1/keys").text
    assert admin.post(f"/v1/keys/{made['id']}/revoke").json()["revoked_at"] is not None
    answer = problem(admin.get("/v1/jobs", headers=given), 401, "unauthenticated")
    assert made["id"] in answer["detail"]
    assert admin.post(f"/v1/keys/{made['id']}/revoke").status_code == 200


def test_keys_are_listed_newest_first_in_pages(admin: TestClient) -> None:
    made = [make(admin)["id"] for _ in range(3)]
    first = admin.get("/v1/keys", params={"limit": 2}).json()
    second = admin.get("/v1/keys", params={"limit": 2, "cursor": first["next_cursor"]}).json()
    listed = [item["id"] for item in (*first["items"], *second["items"])]
    assert listed[:3] == [*reversed(made)]
    assert len(listed) == 4
    assert second["next_cursor"] is None


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"scopes": []},
        {"scopes": ["root"]},
        {"scopes": ["jobs:read"], "tenant": "other"},
        {"scopes": ["jobs:read"], "expires_at": "2020-01-01T00:00:00Z"},
        {"scopes": ["jobs:read"], "expires_at": "2999-01-01T00:00:00"},
        {"scopes": ["jobs:read"], "name": "a\x00b"},
    ],
)
def test_requests_that_make_no_key(admin: TestClient, body: dict[str, object]) -> None:
    problem(admin.post("/v1/keys", json=body), 422, "invalid_request")
    assert len(admin.get("/v1/keys").json()["items"]) == 1


def test_a_key_may_be_for_a_time(admin: TestClient) -> None:
    until = datetime.now(UTC) + timedelta(days=1)
    made = make(admin, expires_at=until.isoformat())
    assert datetime.fromisoformat(made["expires_at"]) - until < timedelta(milliseconds=2)


def test_who_has_no_key_is_told_so_before_anything_is_read(client: TestClient) -> None:
    for answer in (
        client.post("/v1/jobs", content=b"{", headers={"content-type": "application/json"}),
        client.post("/v1/jobs", content=b" " * 2_000_000),
        client.get("/v1/nothing"),
        client.delete("/v1/jobs"),
        client.get("/v1"),
    ):
        problem(answer, 401, "unauthenticated")
    for path in ("/healthz", "/docs", "/openapi.json"):
        assert client.get(path).status_code == 200


@pytest.mark.parametrize(
    "given", ["", "Bearer", "Basic abc", "Bearer a b", "bearer  ", "Bearer sk_", "\xff", "Bearer \x00"]
)
def test_what_is_no_key(client: TestClient, given: str) -> None:
    answer = client.get("/v1/jobs", headers={"Authorization": given.encode("latin-1")})  # type: ignore[dict-item]
    problem(answer, 401, "unauthenticated")
    assert answer.headers["www-authenticate"] == 'Bearer realm="secateur"'


def test_two_keys_are_none(admin: TestClient) -> None:
    token = admin.headers["authorization"]
    given = [("Authorization", token), ("Authorization", token)]
    problem(admin.request("GET", "/v1/jobs", headers=given), 401, "unauthenticated")  # type: ignore[arg-type]
    assert admin.get("/v1/jobs", headers={"Authorization": token.replace("Bearer", "bEARER")}).status_code == 200


def test_a_database_that_is_away_is_503_and_not_a_wrong_key(tmp_path: Path) -> None:
    url = "postgresql+psycopg://nobody@127.0.0.1:1/none?connect_timeout=1"
    client = local_client(create_app(Settings(data_dir=tmp_path, database_url=url, auth="keys")))
    token = f"Bearer sk_{'a' * 26}_{'b' * 52}"
    answer = client.get("/v1/jobs", headers={"Authorization": token})
    problem(answer, 503, "unavailable")
    assert "retry-after" in answer.headers


def test_keys_are_not_guessed_at_full_speed(data_dir: Path) -> None:
    app = create_app(
        Settings(data_dir=data_dir, broker_url="redis://127.0.0.1:1/0", auth="keys", refused_keys_per_minute=3)
    )
    services: Services = app.state.services
    wrong = {"Authorization": f"Bearer sk_{'a' * 26}_{'b' * 52}"}
    with local_client(app) as client, local_client(app, client=("127.0.0.2", 50000)) as neighbour:
        with services.database.write() as session:
            right, late = (
                {"Authorization": f"Bearer {api_keys.create(session, 'a', None, tuple(KeyScope))[1]}"} for _ in "ab"
            )
        assert client.get("/v1/limits", headers=right).status_code == 200
        for _ in range(3):
            problem(client.get("/v1/limits", headers=wrong), 401, "unauthenticated")
        answer = client.get("/v1/limits", headers=wrong)
        problem(answer, 429, "rate_limited")
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        problem(client.get("/v1/limits", headers=late), 429, "rate_limited")
        # Who sends no key has guessed nothing.
        problem(client.get("/v1/limits"), 401, "unauthenticated")
        assert client.get("/v1/limits", headers=right).status_code == 200
        assert neighbour.get("/v1/limits", headers=late).status_code == 200


@pytest.fixture
def limited(data_dir: Path) -> FastAPI:
    return create_app(
        Settings(data_dir=data_dir, broker_url="redis://127.0.0.1:1/0", auth="keys", requests_per_minute=3)
    )


def test_one_tenants_haste_is_not_anothers(limited: FastAPI) -> None:
    services: Services = limited.state.services
    with local_client(limited) as client:
        with services.database.write() as session:
            mine, other = (api_keys.create(session, tenant, None, tuple(KeyScope))[1] for tenant in ("a", "b"))
        answers = [client.get("/v1/limits", headers={"Authorization": f"Bearer {mine}"}) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        assert answers[2].json()["quotas"]["requests_per_minute"] == {"limit": 3, "used": 3}
        problem(answers[3], 429, "rate_limited")
        assert 1 <= int(answers[3].headers["retry-after"]) <= 60
        assert client.get("/v1/limits", headers={"Authorization": f"Bearer {other}"}).status_code == 200
        assert client.get("/healthz").status_code == 200
