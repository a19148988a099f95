"""A stranger at the door: what a row of the tables sends, and what it is to be answered with."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from tests.support.uploads import checkpoint_files, declared


@dataclass(frozen=True)
class Target:
    """A running service with something in it that a request can name."""

    client: httpx.Client
    model_id: str
    dataset_id: str
    job_id: str

    def declare(self, files: Mapping[str, bytes], kind: str = "models") -> httpx.Response:
        return self.client.post(f"/v1/{kind}", json={"files": declared(files)})

    def send(self, files: Mapping[str, bytes], kind: str, label: str | None = None) -> httpx.Response:
        """Declare, send and complete, with the column of the labels named where there is one; the first answer that is an
        error, else that of `complete`."""
        answer = self.declare(files, kind)
        address = answer.headers.get("location", "")
        for name, data in files.items():
            if answer.is_error:
                return answer
            answer = self.client.put(f"{address}/files/{name}", content=data)
        body = None if label is None else {"columns": {"label": label}}
        return answer if answer.is_error else self.client.post(f"{address}/complete", json=body)

    def job(self, **changes: Any) -> dict[str, Any]:
        """A request for a job that would be accepted, but for these fields."""
        return {
            "model": {"type": "upload", "id": self.model_id},
            "dataset": {"type": "upload", "id": self.dataset_id},
            "pruning": {"target": {"attention_sparsity": 0.5}},
        } | changes


@dataclass(frozen=True)
class Row:
    """One attempt: `send` makes and sends it; the answer that counts is what it returns."""

    what: str
    send: Callable[[Target], httpx.Response]
    status: int
    code: str


def checkpoint(what: str, code: str, make: Callable[[], Mapping[str, bytes]], status: int = 422) -> Row:
    """A good checkpoint in which these files stand in the place of its own."""
    return Row(what, lambda target: target.send({**checkpoint_files(), **make()}, "models"), status, code)


def dataset(what: str, code: str, make: Callable[[], bytes], name: str = "train.parquet") -> Row:
    """A dataset of one shard."""
    return Row(what, lambda target: target.send({name: make()}, "datasets"), 422, code)


def labels(what: str, code: str, make: Callable[[], bytes]) -> Row:
    """A dataset of one shard whose labels somebody wants."""
    return Row(what, lambda target: target.send({"train.parquet": make()}, "datasets", "label"), 422, code)


def left_out(what: str, name: str, data: bytes) -> Row:
    """A file that may be declared, and whose bytes are not taken."""

    def send(target: Target) -> httpx.Response:
        address = target.declare({**checkpoint_files(), name: data}).headers["location"]
        return target.client.put(f"{address}/files/{name}", content=data)

    return Row(what, send, 422, "file_unexpected")


def names(what: str, code: str, *given: str, kind: str = "models", without: str = "") -> Row:
    """An upload with these names beside those that are needed, but for one; nothing is sent."""

    def send(target: Target) -> httpx.Response:
        files = checkpoint_files() if kind == "models" else {}
        needed = declared({name: data for name, data in files.items() if name != without})
        files = [*needed, *({"name": name, "size": 2, "sha256": "ab" * 32} for name in given)]
        return target.client.post(f"/v1/{kind}", json={"files": files})

    return Row(what, send, 422, code)


def job(what: str, code: str, status: int = 422, **changes: Any) -> Row:
    return Row(what, lambda target: target.client.post("/v1/jobs", json=target.job(**changes)), status, code)
