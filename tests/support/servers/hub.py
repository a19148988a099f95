"""A Hugging Face hub on loopback: as much of its protocol as fetching a model or dataset at a revision takes."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.support.servers.receiver import serving

REVISION = "0123456789abcdef0123456789abcdef01234567"


LFS_BYTES = 1000
"""Files of so many bytes and more are listed with a SHA-256, as large files are; the others with git's hash alone."""


@dataclass
class Misbehaviour:
    """What the hub does wrong, where a test wants it to."""

    status: int | None = None
    """Every answer is this one."""
    break_after: int | None = None
    """A file's answer ends after so many bytes, the connection with it."""
    ignores_ranges: bool = False
    spoil: bool = False
    """Files come with one bit changed."""
    renamed: tuple[str, str] | None = None
    """What is asked for under the first name is found under the second."""
    token: str | None = None
    """Without it nothing is found."""
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    """What was asked for: path and Range."""


@contextmanager
def hub_server(
    repositories: Mapping[str, Mapping[str, bytes]],
    status: int | None = None,
    *,
    misbehaviour: Misbehaviour | None = None,
    elsewhere: str | None = None,
) -> Iterator[str]:
    """Repositories by `owner/name`, each {file name: bytes}, all at REVISION; yields the endpoint's URL.

    With `status`, every answer is that status instead; with `elsewhere`, files redirect there.
    """
    wrong = misbehaviour or Misbehaviour(status)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            wrong.asked.append((self.path, self.headers.get("Range")))
            if wrong.status is not None:
                return self.answer(wrong.status)
            if wrong.token is not None and self.headers.get("Authorization") != f"Bearer {wrong.token}":
                return self.answer(401, headers={"X-Error-Code": "RepoNotFound"})
            if wrong.renamed is not None and f"/{wrong.renamed[0]}/" in self.path:
                return self.answer(307, headers={"Location": self.path.replace(*wrong.renamed)})
            parts = unquote(urlsplit(self.path).path).strip("/").split("/")
            match parts:
                case ["api", "datasets" | "models", owner, name, "revision", revision]:
                    return self.describe(f"{owner}/{name}", revision)
                case ["datasets", owner, name, "resolve", revision, *path]:
                    return self.send_content(f"{owner}/{name}", revision, "/".join(path))
                case [owner, name, "resolve", revision, *path]:
                    return self.send_content(f"{owner}/{name}", revision, "/".join(path))
            self.answer(404)

        def describe(self, repo: str, revision: str) -> None:
            if (files := self.find(repo, revision)) is None:
                return
            siblings = [entry(name, data) for name, data in files.items()]
            body = {"_id": "1", "id": repo, "sha": REVISION, "private": False, "tags": [], "downloads": 0, "likes": 0}
            self.answer(200, json.dumps(body | {"siblings": siblings}).encode(), {"Content-Type": "application/json"})

        def send_content(self, repo: str, revision: str, name: str) -> None:
            if (files := self.find(repo, revision)) is None:
                return
            if name not in files:
                return self.answer(404, headers={"X-Error-Code": "EntryNotFound"})
            if elsewhere is not None:
                return self.answer(302, headers={"Location": f"{elsewhere}/{name}"})
            data = files[name]
            headers = {
                "ETag": f'"{hashlib.sha1(data).hexdigest()}"',
                "X-Repo-Commit": REVISION,
                "Accept-Ranges": "bytes",
            }
            if wrong.spoil:
                data = bytes([data[0] ^ 1]) + data[1:]
            asked = self.headers.get("Range")
            start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and not wrong.ignores_ranges else 0
            if start:
                headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            self.answer(206 if start else 200, data[start:], headers)

        def find(self, repo: str, revision: str) -> Mapping[str, bytes] | None:
            if repo not in repositories:
                self.answer(404, headers={"X-Error-Code": "RepoNotFound"})
            elif revision != REVISION:
                self.answer(404, headers={"X-Error-Code": "RevisionNotFound"})
            else:
                return repositories[repo]
            return None

        def answer(self, code: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
            self.send_response(code)
            for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            cut = wrong.break_after if "Accept-Ranges" in (headers or {}) else None
            if cut is not None and cut < len(body):
                self.wfile.write(body[:cut])
                self.close_connection = True
                return
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    with serving(server):
        yield f"http://127.0.0.1:{server.server_port}"


def entry(name: str, data: bytes) -> dict[str, Any]:
    """How the hub lists a file."""
    blob = hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()
    listed: dict[str, Any] = {"rfilename": name, "size": len(data), "blobId": blob}
    if len(data) >= LFS_BYTES:
        listed["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
    return listed
