"""A Hugging Face hub on loopback: as much of its protocol as fetching a dataset at a revision takes."""

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

REVISION = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def hub_server(repositories: Mapping[str, Mapping[str, bytes]], status: int | None = None) -> Iterator[str]:
    """Datasets by `owner/name`, each {file name: bytes}, all at REVISION; yields the endpoint's URL.

    With `status`, every answer is that status instead.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            if status is not None:
                return self.answer(status)
            parts = unquote(urlsplit(self.path).path).strip("/").split("/")
            match parts:
                case ["api", "datasets", owner, name, "revision", revision]:
                    return self.describe(f"{owner}/{name}", revision)
                case ["api", "datasets", owner, name, "tree", revision]:
                    return self.list_files(f"{owner}/{name}", revision)
                case ["datasets", owner, name, "resolve", revision, *path]:
                    return self.send_content(f"{owner}/{name}", revision, "/".join(path))
            self.answer(404)

        def describe(self, repo: str, revision: str) -> None:
            if (files := self.find(repo, revision)) is None:
                return
            siblings = [
                {"rfilename": name, "size": len(data), "blobId": hashlib.sha1(data).hexdigest()}
                for name, data in files.items()
            ]
            body = {"_id": "1", "id": repo, "sha": REVISION, "private": False, "tags": [], "downloads": 0, "likes": 0}
            self.answer(200, json.dumps(body | {"siblings": siblings}).encode(), {"Content-Type": "application/json"})

        def list_files(self, repo: str, revision: str) -> None:
            if (files := self.find(repo, revision)) is None:
                return
            entries = [
                {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                for name, data in files.items()
            ]
            self.answer(200, json.dumps(entries).encode(), {"Content-Type": "application/json"})

        def send_content(self, repo: str, revision: str, name: str) -> None:
            if (files := self.find(repo, revision)) is None:
                return
            if name not in files:
                return self.answer(404, headers={"X-Error-Code": "EntryNotFound"})
            etag = f'"{hashlib.sha1(files[name]).hexdigest()}"'
            self.answer(200, files[name], {"ETag": etag, "X-Repo-Commit": REVISION, "Accept-Ranges": "bytes"})

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
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
