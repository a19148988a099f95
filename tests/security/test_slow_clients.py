"""Clients that hold a connection open by being slow, against a real server; and those that are merely not fast."""

import contextlib
import hashlib
import json
import socket
import time
from collections.abc import Iterator

import httpx
import pytest

from store.settings import Settings
from tests.support.servers.processes import service_process

HEAD_SECONDS, WINDOW_SECONDS, RATE = 1.0, 1.0, 1000
CLIENTS = 40


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("slow")
    settings = Settings(
        data_dir=folder,
        broker_url="redis://127.0.0.1:1/0",
        receive_head_seconds=HEAD_SECONDS,
        transfer_window_seconds=WINDOW_SECONDS,
        transfer_bytes_per_second=RATE,
    )
    with service_process(settings, folder / "service.log") as client:
        yield client


def connect(service: httpx.Client) -> socket.socket:
    return socket.create_connection((service.base_url.host, service.base_url.port), timeout=20)


def drip(connection: socket.socket, data: bytes, pause: float) -> bytes:
    """Send a byte at a time until the other side has enough of it; returns what it says."""
    connection.settimeout(pause)
    said = b""
    for byte in data:
        try:
            connection.sendall(bytes([byte]))
        except OSError:
            break
        try:
            said += (piece := connection.recv(65536))
            if not piece:
                break
        except TimeoutError:
            continue
        except OSError:
            break
    return said


def refusal(said: bytes) -> tuple[bytes, str]:
    head, _, body = said.partition(b"\r\n\r\n")
    return head.split(b"\r\n", 1)[0], json.loads(body)["code"]


def test_a_head_that_drips_is_cut_off(service: httpx.Client) -> None:
    began = time.monotonic()
    said = drip(connect(service), b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"X: y\r\n" * 1000, 0.1)
    assert refusal(said) == (b"HTTP/1.1 408 Request Timeout", "too_slow")
    assert HEAD_SECONDS <= time.monotonic() - began < 4 * HEAD_SECONDS


def test_a_connection_on_which_nothing_comes_is_closed(service: httpx.Client) -> None:
    connection = connect(service)
    assert connection.recv(100) == b""


def test_a_body_that_drips_is_cut_off_and_nothing_of_it_is_kept(service: httpx.Client) -> None:
    head = (
        b"POST /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n\r\n"
    )
    connection = connect(service)
    connection.sendall(head)
    assert refusal(drip(connection, b" " * 5000, 0.05)) == (b"HTTP/1.1 408 Request Timeout", "too_slow")
    assert service.get("/v1/models").json()["items"] == []


def test_an_answer_that_nobody_takes_is_given_up(service: httpx.Client) -> None:
    connection = connect(service)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        ask_without_reading(connection, 20 * WINDOW_SECONDS)


def ask_without_reading(connection: socket.socket, seconds: float) -> None:
    """More answers than all buffers between the two hold."""
    connection.settimeout(0.5)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(TimeoutError):
            connection.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 50)


def test_many_slow_clients_keep_nobody_else_out(service: httpx.Client) -> None:
    slow = [connect(service) for _ in range(CLIENTS)]
    for connection in slow:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-")
    began = time.monotonic()
    assert service.get("/healthz").status_code == 200
    assert time.monotonic() - began < HEAD_SECONDS
    for connection in slow:
        assert refusal(connection.recv(65536))[1] == "too_slow"


def test_a_client_within_the_rate_is_served_however_long_it_takes(service: httpx.Client) -> None:
    content = b'{"a": 1}' + b" " * 5000
    others = [
        {"name": name, "size": 2, "sha256": "ab" * 32} for name in ("model.safetensors", "preprocessor_config.json")
    ]
    file = {"name": "config.json", "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    upload = service.post("/v1/models", json={"files": [file, *others]}).json()["id"]

    def steadily() -> Iterator[bytes]:
        for start in range(0, len(content), 500):
            yield content[start : start + 500]
            time.sleep(0.25)

    began = time.monotonic()
    answer = service.put(f"/v1/models/{upload}/files/config.json", content=steadily())
    assert answer.status_code == 200, answer.text
    assert time.monotonic() - began > 2 * WINDOW_SECONDS
