"""A Hugging Face hub on loopback that takes what `push_to_hub` sends: repositories become folders of a folder."""

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.support.servers.receiver import serving

COMMIT = "89abcdef0123456789abcdef0123456789abcdef"


@contextmanager
def push_server(root: Path) -> Iterator[tuple[str, list[str]]]:
    """The endpoint's URL, and everything that was asked for and is no part of pushing: a list that stays empty.

    `owner/name` is the folder of that path in `root` once it was committed to. Weights come as large files, by their SHA-256.
    """
    large: dict[str, bytes] = {}
    others: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            # A repository's card, to which a tag is added where there is one.
            if not self.path.endswith("/resolve/main/README.md"):
                others.append(self.path)
            self.answer(404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"})

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_POST(self) -> None:
            body = self.body()
            match unquote(urlsplit(self.path).path).strip("/").split("/"):
                case ["api", "repos", "create"]:
                    said = json.loads(body)
                    name = f"{said['organization']}/{said['name']}"
                    self.answer(200, {"name": name, "id": name, "url": f"{endpoint}/{name}"})
                case ["api", "validate-yaml"]:
                    self.answer(200, {"errors": [], "warnings": []})
                case ["api", "models", _, _, "preupload", "main"]:
                    files = [each["path"] for each in json.loads(body)["files"]]
                    modes = {True: "lfs", False: "regular"}
                    self.answer(200, {"files": [
                        {"path": path, "uploadMode": modes[path.endswith(".safetensors")], "shouldIgnore": False}
                        for path in files
                    ]})  # fmt: skip
                case [_, _, "info", "lfs", "objects", "batch"]:
                    objects = json.loads(body)["objects"]
                    self.answer(200, {"transfer": "basic", "objects": [
                        each | {"actions": {"upload": {"href": f"{endpoint}/large/{each['oid']}"}}} for each in objects
                    ]})  # fmt: skip
                case ["api", "models", owner, name, "commit", "main"]:
                    folder = root / owner / name
                    folder.mkdir(parents=True, exist_ok=True)
                    for line in body.splitlines():
                        self.commit(folder, **json.loads(line))
                    self.answer(200, {"commitUrl": f"{endpoint}/{owner}/{name}/commit/{COMMIT}", "commitOid": COMMIT})
                case _:
                    others.append(self.path)
                    self.answer(404, {"error": "unknown"})

        def do_PUT(self) -> None:
            data = self.body()
            digest = hashlib.sha256(data).hexdigest()
            right = self.path == f"/large/{digest}"
            if right:
                large[digest] = data
            self.answer(200 if right else 400, {})

        def commit(self, folder: Path, key: str, value: dict[str, Any]) -> None:
            if key == "file":
                assert value["encoding"] == "base64"
                (folder / value["path"]).write_bytes(base64.b64decode(value["content"]))
            elif key == "lfsFile":
                (folder / value["path"]).write_bytes(large[value["oid"]])

        def body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        def answer(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            del format, args

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    endpoint = f"http://127.0.0.1:{server.server_port}"
    with serving(server):
        yield endpoint, others
