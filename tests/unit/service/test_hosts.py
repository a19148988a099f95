"""Whom a service answers: without keys its own machine, called by its own name, from its own pages."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from service.middleware.hosts import KnownHosts
from store.settings import Settings

HERE = ("127.0.0.1", 8000)


def status(tmp_path: Path, *headers: tuple[str, str], settings: dict[str, Any] | None = None, **scope: Any) -> int:
    """Of the answer; 200 where the request was let through."""
    said: list[int] = []

    async def inner(_: Any, __: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})

    async def send(message: Any) -> None:
        said.extend([message["status"]] if "status" in message else [])

    async def ask() -> None:
        request = {"type": "http", "method": "POST", "path": "/v1/jobs", "server": HERE, "client": HERE} | scope
        request["headers"] = [(name.encode(), value.encode()) for name, value in headers]
        await KnownHosts(inner, Settings(data_dir=tmp_path, **settings or {}))(request, None, send)  # type: ignore[arg-type]

    asyncio.run(ask())
    return said[0]


OWN = ("host", "127.0.0.1:8000")
KEYS: dict[str, Any] = {"auth": "keys", "allowed_hosts": ("Prune.Example.org",)}


@pytest.mark.parametrize(
    "name",
    ["127.0.0.1", "127.0.0.1:8000", "127.9.9.9", "localhost:1", "LOCALHOST", "localhost.", "[::1]:8000", "[::1]"],
)
def test_this_machine_has_these_names(tmp_path: Path, name: str) -> None:
    assert status(tmp_path, ("host", name)) == 200


@pytest.mark.parametrize(
    "name",
    [
        *(
            "evil.example",
            "evil.example:8000",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "0.0.0.0",
            "10.0.0.1",
        ),
        *("127.0.0.1@evil.example", "", "[::1", "::1", "localhost/", "prune.example.org", "0x7f.1"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_other_names_are_refused(tmp_path: Path, name: str, method: str) -> None:
    assert status(tmp_path, ("host", name), method=method) == 421


def test_exactly_one_name_is_needed(tmp_path: Path) -> None:
    assert status(tmp_path) == 421
    assert status(tmp_path, OWN, ("host", "evil.example")) == 421


@pytest.mark.parametrize("end", ["server", "client"])
@pytest.mark.parametrize(
    "address", ["192.168.1.7", "10.0.0.1", "8.8.8.8", "fe80::1%eth0", "::ffff:10.0.0.1", "0.0.0.0"]
)
def test_without_keys_no_end_of_the_connection_lies_elsewhere(tmp_path: Path, end: str, address: str) -> None:
    assert status(tmp_path, OWN, **{end: (address, 8000)}) == 403
    assert status(tmp_path, OWN, settings={"auth": "keys"}, **{end: (address, 8000)}) == 200


@pytest.mark.parametrize("end", [("::1", 8000), ("::ffff:127.0.0.1", 8000), ("/run/secateur.sock", None), None])
def test_what_lies_on_this_machine_is_let_in(tmp_path: Path, end: Any) -> None:
    assert status(tmp_path, OWN, server=end) == 200


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ("http://127.0.0.1:8000", 200),
        ("https://evil.example", 403),
        ("http://127.0.0.1:3000", 403),
        ("http://localhost:8000", 403),
        ("null", 403),
        ("", 403),
    ],
)
def test_without_keys_only_the_services_own_page_may_call(tmp_path: Path, origin: str, expected: int) -> None:
    assert status(tmp_path, OWN, ("origin", origin)) == expected
    assert status(tmp_path, OWN, ("origin", origin), settings={"auth": "keys"}) == 200


def test_with_keys_the_operators_names_are_answered_and_this_machines(tmp_path: Path) -> None:
    for name, expected in (
        *(("prune.example.org", 200), ("PRUNE.example.org:443", 200), ("localhost", 200)),
        *(("a.prune.example.org", 421), ("example.org", 421)),
    ):
        assert status(tmp_path, ("host", name), settings=KEYS) == expected
    assert status(tmp_path, ("host", "anything"), settings=KEYS | {"allowed_hosts": ("*",)}) == 200


def test_any_name_needs_keys(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="only with auth=keys"):
        Settings(data_dir=tmp_path, allowed_hosts=("*",))
