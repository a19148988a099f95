"""Artifact stores that are away for a while, and disks that are full."""

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from api_schemas.errors import ErrorCode, SecateurError
from store.files.artifacts import Artifacts, Stored
from tests.support.servers.receiver import serving


class Flaky(Artifacts):
    """Refuses with `code` whatever `puts` or `fetches` says so of: they are asked with the key at each call."""

    def __init__(self, url: str, code: ErrorCode = ErrorCode.STORAGE_FULL) -> None:
        super().__init__(url)
        self.code = code
        self.refuses_put: Callable[[str], bool] = lambda _: False
        self.refuses_fetch: Callable[[str], bool] = lambda _: False
        self.refused: list[str] = []

    def put_file(self, key: str, path: Path) -> Stored:
        if self.refuses_put(key):
            self.refused.append(key)
            raise SecateurError(self.code, "The store of this test refuses.")
        return super().put_file(key, path)

    def fetch(self, key: str, path: Path, sha256: str) -> None:
        if self.refuses_fetch(key):
            self.refused.append(key)
            raise SecateurError(self.code, "The store of this test refuses.")
        super().fetch(key, path, sha256)


@contextmanager
def small_disk(folder: Path, size: str = "1m") -> Iterator[Path]:
    """A disk of a megabyte at `folder`; the test is skipped where nothing may be mounted."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount")
    if done.returncode != 0:
        pytest.skip(f"nothing may be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """A file that takes all the room there is."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while file.write(b"x" * 4096):
                pass
        except OSError:
            return ballast
    raise AssertionError("the disk has no end")


def refusing_bucket(monkeypatch: pytest.MonkeyPatch) -> AbstractContextManager[str]:
    """The URL of a bucket whose server answers 403 to everything."""
    return _bucket(_Refusing, monkeypatch)


def stuck_bucket(monkeypatch: pytest.MonkeyPatch) -> AbstractContextManager[str]:
    """The URL of a bucket whose server begins every upload in parts, takes the parts, and does not say so."""
    return _bucket(_Stuck, monkeypatch)


@contextmanager
def _bucket(handler: type[BaseHTTPRequestHandler], monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    with serving(server):
        yield bucket_at(server.server_port, monkeypatch)


def bucket_at(port: int, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a bucket at a port of this machine."""
    settings = {"ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b", "REGION": "us-east-1", "ALLOW_HTTP": "true"}
    for name, value in (settings | {"ENDPOINT_URL": f"http://127.0.0.1:{port}"}).items():
        monkeypatch.setenv(f"AWS_{name}", value)
    return "s3://bucket/prefix"


class _Refusing(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b"<Error><Code>AccessDenied</Code><Message>for bucket</Message></Error>"
        self.send_response(403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Says nothing."""


class _Stuck(_Refusing):
    def do_POST(self) -> None:
        body = b"<InitiateMultipartUploadResult><UploadId>one</UploadId></InitiateMultipartUploadResult>"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        time.sleep(30)
