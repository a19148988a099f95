"""A key that is revoked or expires, and a session that ends, under requests that last: streams, downloads, uploads."""

import asyncio
import hashlib
import threading
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import event, update
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Message

from api_schemas.enums import KeyScope
from service.access import long_requests
from service.access.caller import Caller
from service.access.long_requests import LongRequests
from service.services import Services
from store.access import api_keys, sessions
from store.database.tables import ApiKey
from store.settings import Settings
from tests.integration.service.conftest import claim, commit

PATIENCE = 30
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
WEIGHTS = bytes(range(256)) * 4 * 5000  # Five of the chunks in which artifacts are read.
STREAM = [(b"accept", b"text/event-stream")]


class Conversation:
    """One request to an ASGI application, by hand: what is sent to it and taken from it, and when."""

    def __init__(self, app: ASGIApp, method: str, path: str, *headers: tuple[bytes, bytes]) -> None:
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [(b"host", b"127.0.0.1:8000"), *headers],
            "client": ("127.0.0.1", 50000),
            "server": ("127.0.0.1", 8000),
        }
        self.coming: asyncio.Queue[Message] = asyncio.Queue()
        self.taken: asyncio.Queue[Message] = asyncio.Queue(maxsize=1)
        self.task = asyncio.create_task(self._run(app, scope))

    async def _run(self, app: ASGIApp, scope: dict[str, Any]) -> None:
        await app(scope, self.coming.get, self.taken.put)
        await self.taken.put({"type": "returned"})

    def say(self, body: bytes = b"", *, more: bool = False) -> None:
        self.coming.put_nowait({"type": "http.request", "body": body, "more_body": more})

    async def hear(self) -> Message:
        return await asyncio.wait_for(self.taken.get(), PATIENCE)

    async def rest(self) -> list[Message]:
        """All that follows, to the end of the application."""
        found = []
        while (message := await self.hear())["type"] != "returned":
            found.append(message)
        return found


@pytest.fixture
def data_dir(stocked: Path) -> Path:
    return stocked


@pytest.fixture
def settings(data_dir: Path) -> Settings:
    return Settings(data_dir=data_dir, broker_url="redis://127.0.0.1:1/0", auth="keys")


@pytest.fixture
def token(services: Services) -> str:
    with services.database.write() as session:
        return api_keys.create(session, "default", None, tuple(KeyScope))[1]


@pytest.fixture
def client(client: TestClient, token: str) -> TestClient:
    client.headers["Authorization"] = f"Bearer {token}"
    return client


def bearer(token: str) -> tuple[bytes, bytes]:
    return b"authorization", f"Bearer {token}".encode()


def key_id(token: str) -> str:
    return f"key_{token.split('_')[1]}"


def revoked(services: Services, token: str) -> None:
    with services.database.write() as session:
        assert api_keys.revoke(session, "default", key_id(token))


def expired(services: Services, token: str) -> None:
    with services.database.write() as session:
        session.execute(update(ApiKey).where(ApiKey.id == key_id(token)).values(expires_at=LONG_AGO))


@pytest.mark.parametrize("ended", [revoked, expired])
def test_a_stream_ends_with_its_key_and_with_no_other(
    app: FastAPI,
    services: Services,
    client: TestClient,
    job_id: str,
    token: str,
    ended: Callable[[Services, str], None],
) -> None:
    assert client.get(f"/v1/jobs/{job_id}").status_code == 200
    with services.database.write() as session:
        other = api_keys.create(session, "default", None, tuple(KeyScope))[1]

    async def run() -> None:
        path = f"/v1/jobs/{job_id}/events"
        mine, others = (Conversation(app, "GET", path, bearer(each), *STREAM) for each in (token, other))
        for each in (mine, others):
            each.say()
            assert (await each.hear())["status"] == 200
            assert b"retry" in (await each.hear())["body"]
            assert b"queued" in (await each.hear())["body"]
        await services.long_requests.check()
        assert not mine.task.done()
        ended(services, token)
        await services.long_requests.check()
        assert await mine.rest() == [{"type": "http.response.body", "body": b"", "more_body": False}]
        assert not others.task.done()
        others.coming.put_nowait({"type": "http.disconnect"})
        await others.rest()

    asyncio.run(run())
    assert services.streams.count == 0


def test_a_stream_ends_with_its_session(
    app: FastAPI, services: Services, client: TestClient, job_id: str, token: str
) -> None:
    assert client.get(f"/v1/jobs/{job_id}").status_code == 200
    with services.database.write() as session:
        key = api_keys.get(session, "default", key_id(token))
        cookie = sessions.begin(session, key, 3600)

    async def run() -> None:
        header = (b"cookie", f"secateur-session={cookie}".encode())
        stream = Conversation(app, "GET", f"/v1/jobs/{job_id}/events", header, *STREAM)
        stream.say()
        assert (await stream.hear())["status"] == 200
        await stream.hear()
        with services.database.write() as session:
            sessions.end(session, cookie)
        await services.long_requests.check()
        assert not (await stream.rest())[-1]["more_body"]

    asyncio.run(run())


@pytest.mark.parametrize("what", ["files/model.safetensors", "archive"])
def test_a_download_breaks_off(
    app: FastAPI, services: Services, client: TestClient, job_id: str, token: str, what: str, tmp_path: Path
) -> None:
    assert client.get(f"/v1/jobs/{job_id}").status_code == 200
    lease = claim(services)
    commit(services, lease, 0, {"pruning.json": b"{}"}, tmp_path)
    commit(services, lease, 1, {"model.safetensors": WEIGHTS}, tmp_path)

    async def run() -> int:
        download = Conversation(app, "GET", f"/v1/jobs/{job_id}/checkpoints/1/{what}", bearer(token))
        download.say()
        assert (await download.hear())["status"] == 200
        got = len((await download.hear())["body"])
        revoked(services, token)
        await services.long_requests.check()
        rest = await download.rest()
        # Of a known length: no end is told, so that nobody takes a half for the whole.
        assert all(message["more_body"] for message in rest)
        # What had been handed over already.
        assert len(rest) <= 2
        return got + sum(len(message["body"]) for message in rest)

    assert 0 < asyncio.run(run()) < len(WEIGHTS)


def test_an_upload_is_refused(app: FastAPI, services: Services, client: TestClient, token: str) -> None:
    content = b'{"a": 1}' + b" " * 1000
    others = [
        {"name": name, "size": 2, "sha256": "ab" * 32} for name in ("model.safetensors", "preprocessor_config.json")
    ]
    declared = {"name": "config.json", "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    upload = client.post("/v1/models", json={"files": [declared, *others]}).json()["id"]

    async def run() -> list[Message]:
        put = Conversation(app, "PUT", f"/v1/models/{upload}/files/config.json", bearer(token))
        put.say(content[:100], more=True)
        await came(lambda: put.coming.empty())
        revoked(services, token)
        await services.long_requests.check()
        put.say(content[100:])
        return await put.rest()

    start, body = asyncio.run(run())
    assert (start["status"], b"unauthenticated" in body["body"]) == (401, True)


async def came(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.001)


def test_an_answer_in_one_piece_is_given(services: Services, client: TestClient, token: str) -> None:
    """What it tells of has happened while the key was valid."""
    assert client.get("/v1/jobs").status_code == 200

    async def work(
        _: Any, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        await receive()
        revoked(services, token)
        await services.long_requests.check()
        await send({"type": "http.response.start", "status": 201, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"{}", "more_body": False})

    async def run() -> list[Message]:
        caller = Caller("default", frozenset(KeyScope), key_id(token))

        async def asked(scope: Any, receive: Any, send: Any) -> None:
            await services.long_requests.run(caller, work, scope, receive, send)

        request = Conversation(asked, "POST", "/")
        request.say()
        return await request.rest()

    start, body = asyncio.run(run())
    assert (start["status"], body["body"]) == (201, b"{}")


def test_many_requests_cost_one_question_and_it_comes_by_itself(
    services: Services, client: TestClient, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert client.get("/v1/jobs").status_code == 200
    assert long_requests.CHECK_SECONDS <= 15, "docs/howto/keys.md promises it"
    monkeypatch.setattr(long_requests, "CHECK_SECONDS", 0.01)
    watched = LongRequests(services.database)
    # The watcher asks in threads of its own meanwhile: only what the question below asks for is counted.
    queries: list[tuple[int, str]] = []

    async def endless(_: Any, receive: Callable[[], Awaitable[Message]], __: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    async def run() -> None:
        caller = Caller("default", frozenset(KeyScope), key_id(token))

        async def asked(scope: Any, receive: Any, send: Any) -> None:
            await watched.run(caller, endless, scope, receive, send)

        requests = [Conversation(asked, "GET", "/") for _ in range(200)]
        for request in requests:
            request.say()
        await came(lambda: all(request.coming.empty() for request in requests))
        event.listen(
            services.database.engine,
            "before_cursor_execute",
            lambda *given: queries.append((threading.get_ident(), given[2])),
        )
        assert len(watched._open) == 200
        assert watched._ended(watched._open) == []
        mine = [query for thread, query in queries if thread == threading.get_ident()]
        assert sum("api_keys" in query for query in mine) == 1
        revoked(services, token)
        assert await asyncio.gather(*(request.rest() for request in requests)) == [[]] * 200

    asyncio.run(run())


def test_a_database_that_does_not_answer_ends_nothing(
    services: Services, client: TestClient, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert client.get("/v1/jobs").status_code == 200
    monkeypatch.setattr(long_requests, "CHECK_SECONDS", 0.01)
    watched = LongRequests(services.database)
    asked_for = watched._ended
    failures = 0

    def failing(asked: Any) -> Any:
        nonlocal failures
        failures += 1
        if failures < 3:
            raise OSError("no route to host")
        return asked_for(asked)

    monkeypatch.setattr(watched, "_ended", failing)

    async def endless(_: Any, receive: Callable[[], Awaitable[Message]], __: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    async def run() -> None:
        caller = Caller("default", frozenset(KeyScope), key_id(token))

        async def asked(scope: Any, receive: Any, send: Any) -> None:
            await watched.run(caller, endless, scope, receive, send)

        request = Conversation(asked, "GET", "/")
        request.say()
        await came(lambda: failures >= 3)
        assert not request.task.done()
        revoked(services, token)
        assert await request.rest() == []

    asyncio.run(run())
