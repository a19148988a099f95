"""What a user does, through the API, while the service is being broken: upload, submit, wait, compare."""

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from api_schemas.enums import TERMINAL_STATES

PATIENCE_SECONDS = 60.0
PLAIN: Mapping[str, Any] = {"verify": False}
"""For calls to this machine, which are not encrypted: to read all certificates takes twenty times as long as a call."""
# DESIGN: weights, configs and code files come out the same; what tells times does not.
IDENTICAL_SUFFIXES = (".safetensors", ".py", "config.json", "pruning.json")
SPEC: Mapping[str, Any] = {
    "pruning": {
        "target": {"attention_sparsity": 0.5},
        "granularity": "per_head",
        "schedule": {"steps": 3},
        "calibration": {"samples": 64},
    },
    "finetune": {"epochs": 2, "batch_size": 16},
    "evaluate": {"latency_batch_sizes": [1], "latency_runs": 5, "sensitivity_samples": None},
}
"""A job of three steps with two epochs each; about twenty seconds for the tiny model of the tests."""

Fingerprint = Mapping[int, Mapping[str, str]]
"""sha256 of every file that must not differ, by step and name."""


@dataclass(frozen=True)
class Client:
    """Calls are repeated for a while, as clients do; a submission is not, since the answer may have been yes.

    `options` go to httpx with every call: certificates, the header with a key.
    """

    url: str
    options: Mapping[str, Any] = field(default_factory=lambda: PLAIN)

    def call(self, method: str, path: str, **more: Any) -> httpx.Response:
        """The first answer that is not 5xx. Raises TimeoutError."""
        give_up = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                answer = httpx.request(method, f"{self.url}/v1{path}", timeout=30, **self.options, **more)
            except httpx.HTTPError:
                answer = None
            if answer is not None and answer.status_code < 500:
                return answer.raise_for_status()
            if time.monotonic() > give_up:
                raise TimeoutError(f"{method} {path} was not answered: {answer and answer.text}")
            time.sleep(0.2)

    def upload(self, kind: str, folder: Path) -> str:
        """The id of a complete upload of the files of `folder`."""
        files = {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}
        declared = [
            {"name": name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for name, data in files.items()
        ]
        upload_id = str(self.call("POST", f"/{kind}", json={"files": declared}).json()["id"])
        for name, data in files.items():
            self.call("PUT", f"/{kind}/{upload_id}/files/{name}", content=data)
        found = self.call("POST", f"/{kind}/{upload_id}/complete").json()
        deadline = time.monotonic() + 5 * PATIENCE_SECONDS
        while found["state"] == "checking":
            if time.monotonic() > deadline:
                raise TimeoutError(f"{upload_id} is still being checked")
            time.sleep(0.2)
            found = self.call("GET", f"/{kind}/{upload_id}").json()
        if found["state"] != "ready":
            raise ValueError(f"{upload_id} was refused: {found}")
        return upload_id

    def submit(self, model: str, dataset: str, spec: Mapping[str, Any]) -> str:
        """The id of an accepted job. Raises httpx.HTTPError where it was not accepted, or may not have been."""
        inputs = {"model": {"type": "upload", "id": model}, "dataset": {"type": "upload", "id": dataset}}
        answer = httpx.post(f"{self.url}/v1/jobs", json={**spec, **inputs}, timeout=30, **self.options)
        return str(answer.raise_for_status().json()["id"])

    def job(self, job_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.call("GET", f"/jobs/{job_id}").json()
        return found

    def wait(self, job_id: str, seconds: float) -> dict[str, Any]:
        """The job once it has ended. Raises TimeoutError."""
        give_up = time.monotonic() + seconds
        while (job := self.job(job_id))["state"] not in TERMINAL_STATES:
            if time.monotonic() > give_up:
                raise TimeoutError(f"{job_id} is still {job['state']} after {seconds:.0f} s: {job['progress']}")
            time.sleep(0.3)
        return job

    def events(self, job_id: str) -> list[dict[str, Any]]:
        """All events of a job, in order."""
        found: list[dict[str, Any]] = []
        cursor: str | None = "0"
        while cursor is not None:
            page = self.call("GET", f"/jobs/{job_id}/events?after={cursor}&limit=1000").json()
            found += page["items"]
            cursor = page["next_cursor"]
        return found

    def fingerprint(self, job_id: str) -> Fingerprint:
        """Of every step that can be downloaded, from the bytes that are downloaded."""
        steps = self.call("GET", f"/jobs/{job_id}/checkpoints").json()["items"]
        return {
            step["step"]: {f["name"]: self._sha256(f) for f in step["files"] if _compared(f["name"])} for step in steps
        }

    def _sha256(self, file: Mapping[str, Any]) -> str:
        answer = self.call("GET", str(file["url"]).removeprefix("/v1"))
        digest = hashlib.sha256(answer.content).hexdigest()
        if digest != file["sha256"]:
            raise AssertionError(f"{file['name']} is not what it is said to be")
        return digest


def _compared(name: str) -> bool:
    return name.endswith(IDENTICAL_SUFFIXES)
