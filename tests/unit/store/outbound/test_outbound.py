"""Calls to addresses of strangers, against servers that listen on this machine and must not be reached."""

import socket
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpcore
import pytest

from api_schemas.errors import ErrorCode, SecateurError
from store.outbound.client import OutboundClient, Unreachable, body
from store.outbound.url_rules import UrlRules
from tests.support.servers.certificates import certificate_for
from tests.support.servers.receiver import Received, Receiver, Reply, receiver

PUBLIC = "93.184.215.14"


class Dial(httpcore.NetworkBackend):
    """Leads every address to one port of this machine, and remembers which were asked for."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.asked: list[tuple[str, int]] = []

    def connect_tcp(self, host: str, port: int, *more: Any, **named: Any) -> httpcore.NetworkStream:
        self.asked.append((host, port))
        return httpcore.SyncBackend().connect_tcp("127.0.0.1", self.port, *more, **named)


class Answers:
    """A resolver that gives one answer after the other, the last for ever."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def __call__(self, host: str, _: int) -> Sequence[str]:
        self.asked.append(host)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def call(outbound: OutboundClient, url: str, seconds: float = 5, most: int = 1000, **more: Any) -> tuple[int, bytes]:
    with outbound.stream(more.pop("method", "GET"), url, seconds=seconds, **more) as response:
        return response.status_code, b"".join(body(response, most))


def refusal(outbound: OutboundClient, url: str, **more: Any) -> str:
    with pytest.raises(SecateurError) as caught:
        call(outbound, url, **more)
    assert caught.value.code is ErrorCode.TARGET_REFUSED
    return caught.value.detail


@pytest.fixture
def inside() -> Iterator[Receiver]:
    """What must not be reached."""
    with receiver() as made:
        yield made


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1", "017700000001", "127.0.0.1."),
        *(
            "0.0.0.0",
            "0",
            "[::1]",
            "[::]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[64:ff9b::7f00:1]",
            "[2002:7f00:1::]",
        ),
        *("[fe80::1%25lo]", "[::1%25lo]", "169.254.169.254", "[fd00:ec2::254]", "localhost", "localhost.", "LOCALHOST"),
        *("a.localhost", "metadata", "①②⑦.⓪.⓪.①", "127。0。0。1", "bücher.example", "user@127.0.0.1", "a:b@127.0.0.1"),
        *("127.0.0.1%00.example.com", "127.0.0.1%2f.example.com", "example.com\\@127.0.0.1", "example.com#@127.0.0.1"),
        *("example.com?@127.0.0.1", "-a.example.com", "example..com", ".", ""),
    ],
)
@pytest.mark.parametrize("scheme", ["https", "http"])
def test_every_way_to_write_this_machine_is_refused_before_a_connection(
    host: str, scheme: str, inside: Receiver
) -> None:
    # Names lead here, as the resolver of a machine with a careless hosts file would have it.
    outbound = OutboundClient(
        UrlRules(ports=(443, inside.port)), resolve=Answers(["127.0.0.1"]), dial=Dial(inside.port)
    )
    assert refusal(outbound, f"{scheme}://{host}:{inside.port}/")
    with pytest.raises(SecateurError):
        outbound.check(f"{scheme}://{host}:{inside.port}/")
    assert inside.connections == 0


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://example.com/", "https://"),
        ("file:///etc/passwd", "https://"),
        ("gopher://example.com/_x", "https://"),
        ("ftp://example.com/", "https://"),
        ("//example.com/", "https://"),
        ("example.com", "https://"),
        ("", "printable"),
        ("https://example.com/\r\nHost: inside", "printable"),
        ("https://example.com:22/", "port 22"),
        ("https://example.com:80/", "port 80"),
        ("https://example.com:0/", "port 0"),
        ("https://example.com:99999/", "port 99999"),
        ("https://me@example.com/", "user name"),
        ("https://me:secret@example.com/", "user name"),
        ("https://@example.com/", "user name"),
        ("https://[::1/", "not a URL"),
        ("https://example.com/" + "a" * 2048, "2048"),
    ],
)
def test_only_https_on_a_port_of_the_list_without_credentials(url: str, said: str) -> None:
    resolve = Answers([PUBLIC])
    assert said in refusal(OutboundClient(UrlRules(), resolve=resolve, dial=Dial(1)), url)
    assert resolve.asked == []


@pytest.mark.parametrize("inner", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1", "fe80::1%lo"])
def test_one_address_inside_is_enough_to_refuse_a_name(inner: str, inside: Receiver) -> None:
    dial = Dial(inside.port)
    outbound = OutboundClient(UrlRules(), resolve=Answers([PUBLIC, inner]), dial=dial)
    assert "hooks.example.com" in refusal(outbound, "https://hooks.example.com/")
    assert (dial.asked, inside.connections) == ([], 0)


def test_a_name_that_is_bound_anew_is_judged_anew_and_looked_up_once_a_call(tmp_path: Path) -> None:
    with tls_server(tmp_path, "hooks.example.com") as (port, trust):
        resolve, dial = Answers([PUBLIC], ["127.0.0.1"]), Dial(port)
        outbound = OutboundClient(UrlRules(), resolve=resolve, dial=dial, trust=trust)
        assert call(outbound, "https://hooks.example.com/") == (204, b"")
        assert resolve.asked == ["hooks.example.com"]
        assert "hooks.example.com" in refusal(outbound, "https://hooks.example.com/")
        assert dial.asked == [(PUBLIC, 443)]


def test_the_certificate_must_be_of_the_host_though_the_address_is_pinned(tmp_path: Path) -> None:
    with tls_server(tmp_path, "other.example.com") as (port, trust):
        outbound = OutboundClient(UrlRules(), resolve=Answers([PUBLIC]), dial=Dial(port), trust=trust)
        with pytest.raises(Unreachable, match="certificate"):
            call(outbound, "https://hooks.example.com/")
        assert call(outbound, "https://other.example.com/") == (204, b"")


def test_the_next_address_is_tried_where_one_does_not_answer(inside: Receiver) -> None:
    class Halting(Dial):
        def connect_tcp(self, host: str, port: int, *more: Any, **named: Any) -> httpcore.NetworkStream:
            if not self.asked:
                self.asked.append((host, port))
                raise httpcore.ConnectError("no route")
            return super().connect_tcp(host, port, *more, **named)

    dial = Halting(inside.port)
    outbound = OutboundClient(UrlRules(), resolve=Answers([PUBLIC, "8.8.8.8"]), dial=dial)
    with pytest.raises(Unreachable):  # it speaks no TLS
        call(outbound, "https://hooks.example.com/")
    assert dial.asked == [(PUBLIC, 443), ("8.8.8.8", 443)]


@pytest.mark.parametrize(
    "location", ["http://127.0.0.1:{port}/", "https://169.254.169.254/", "//127.1/", "file:///etc/passwd"]
)
def test_a_redirect_to_the_inside_is_refused(location: str, inside: Receiver) -> None:
    with receiver(lambda _: Reply(302, {"Location": location.format(port=inside.port)})) as made:
        outbound = OutboundClient(UrlRules(test_target=made.netloc))
        refusal(outbound, made.url, redirects=5)
    assert inside.connections == 0


def test_a_redirect_leads_only_to_hosts_of_the_list() -> None:
    with receiver(lambda _: Reply(302, {"Location": "https://evil.example.org/"})) as made:
        outbound = OutboundClient(UrlRules(test_target=made.netloc), resolve=Answers([PUBLIC]), dial=Dial(made.port))
        assert "not on this server's list" in refusal(outbound, made.url, redirects=5, hosts=("*.example.com",))


def test_redirects_are_not_followed_unless_asked_and_at_most_so_many() -> None:
    def onward(request: Received) -> Reply:
        return Reply(302, {"Location": f"/{int(request.path.strip('/') or 0) + 1}"})

    with receiver(onward) as made:
        outbound = OutboundClient(UrlRules(test_target=made.netloc))
        assert call(outbound, made.url)[0] == 302
        assert len(made.received) == 1
        with pytest.raises(Unreachable, match="more than 5 times"):
            call(outbound, made.url, redirects=5)
        assert len(made.received) == 1 + 6


def test_the_authorization_and_cookies_stay_behind(tmp_path: Path) -> None:
    with tls_server(tmp_path, "cdn.example.com") as (port, trust):
        seen: list[bytes] = SEEN
        seen.clear()
        redirect = Reply(302, {"Location": "https://cdn.example.com/file", "Set-Cookie": "a=b"})
        with receiver(lambda _: redirect) as made:
            outbound = OutboundClient(
                UrlRules(test_target=made.netloc),
                resolve=Answers([PUBLIC]),
                dial=FirstHere(made.port, port),
                trust=trust,
            )
            answer = call(outbound, made.url, redirects=5, headers={"Authorization": "Bearer secret", "X-Kept": "1"})
        assert answer == (204, b"")
        assert made.received[0].headers["authorization"] == "Bearer secret"
        assert b"x-kept: 1" in seen[0].lower()
        assert b"authorization" not in seen[0].lower()
        assert b"cookie" not in seen[0].lower()


def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch, inside: Receiver) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, inside.url)
    with receiver() as made:
        assert call(OutboundClient(UrlRules(test_target=made.netloc)), made.url)[0] == 204
    assert inside.connections == 0


def test_an_answer_is_counted_as_it_comes() -> None:
    with receiver(lambda _: Reply(200, body=b"x" * 5000)) as made:
        outbound = OutboundClient(UrlRules(test_target=made.netloc))
        assert len(call(outbound, made.url, most=5000)[1]) == 5000
        with pytest.raises(Unreachable, match="larger than 4999 bytes"):
            call(outbound, made.url, most=4999)


def test_an_answer_that_was_compressed_is_not_unpacked() -> None:
    with receiver(lambda _: Reply(200, {"Content-Encoding": "gzip"}, b"x")) as made:
        with pytest.raises(Unreachable, match="encoding"):
            call(OutboundClient(UrlRules(test_target=made.netloc)), made.url)
        assert made.received[0].headers["accept-encoding"] == "identity"


def test_a_peer_that_drips_bytes_is_given_up_in_time() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        done = threading.Event()

        def drip() -> None:
            connection, _ = listening.accept()
            with connection:
                while not done.wait(0.05):
                    try:
                        connection.sendall(b"H")
                    except OSError:
                        return

        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        netloc = f"127.0.0.1:{listening.getsockname()[1]}"
        begun = time.monotonic()
        with pytest.raises(Unreachable):
            call(OutboundClient(UrlRules(test_target=netloc)), f"http://{netloc}/", seconds=0.5)
        assert time.monotonic() - begun < 5
        done.set()
        thread.join()


SEEN: list[bytes] = []


class FirstHere(Dial):
    """The test target is itself; every other address is the second port."""

    def __init__(self, first: int, other: int) -> None:
        super().__init__(other)
        self.first = first

    def connect_tcp(self, host: str, port: int, *more: Any, **named: Any) -> httpcore.NetworkStream:
        if port == self.first:
            return httpcore.SyncBackend().connect_tcp(host, port, *more, **named)
        return super().connect_tcp(host, port, *more, **named)


@contextmanager
def tls_server(folder: Path, name: str) -> Iterator[tuple[int, ssl.SSLContext]]:
    """Answers 204 under a certificate for `name`; yields its port, and what trusts the certificate."""
    certificate, key = certificate_for(folder, name)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(certificate, key)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                try:
                    with serving.wrap_socket(connection, server_side=True) as secured:
                        SEEN.append(secured.recv(65536))
                        secured.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
                except OSError:
                    continue  # the client did not like the certificate

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield listening.getsockname()[1], ssl.create_default_context(cafile=str(certificate))
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()
