"""One stack for all of these tests: images, Compose with the CPU worker and TLS, a key, and a job that nothing disturbed."""

import os
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest

from benchmarks.faults.client import SPEC, Client, Fingerprint
from tests.containers import engine
from tests.support.checkpoints.tiny import tiny_data, tiny_model

JOB_SECONDS = 600.0
TAG, NEXT = "test", "test-next"
T = TypeVar("T")
JOB: dict[str, Any] = {
    **SPEC,
    "pruning": {**SPEC["pruning"], "schedule": {"steps": 2}},
    "finetune": {"epochs": 3, "batch_size": 16},
}
"""Two steps: a step after another is all that a kill can fall between."""


@dataclass
class Stack:
    """The containers, a client behind the proxy, and what every job has to come to."""

    compose: engine.Compose
    client: Client
    inputs: tuple[str, str]
    reference: Fingerprint
    reference_job: str

    def submit(self) -> str:
        """The job of the reference, once more."""
        return self.client.submit(*self.inputs, JOB)

    def training(self, job_id: str, losses: int = 1) -> int:
        """Wait until so many losses of its recovery have been told; how many there are then, or -1 where it has ended."""
        return wait_for(lambda: self._losses(job_id, losses), f"loss {losses} of {job_id}")

    def _losses(self, job_id: str, least: int) -> int | None:
        if self.client.job(job_id)["state"] == "succeeded":
            return -1
        found = sum(event["body"]["type"] == "loss" for event in self.client.events(job_id))
        return found if found >= least else None

    def judge(self, job_id: str) -> None:
        """It has succeeded, with every step once and the bytes of the job that nothing disturbed."""
        job = self.client.wait(job_id, JOB_SECONDS)
        assert job["state"] == "succeeded", job
        steps = [
            event["body"]["metrics"]["step"] for event in self.client.events(job_id) if event["body"]["type"] == "step"
        ]
        assert steps == list(range(1 + len(self.reference)))
        assert self.client.fingerprint(job_id) == self.reference


def wait_for(ask: Callable[[], T | None], what: str, seconds: float = JOB_SECONDS) -> T:
    """The first answer that is not None."""
    give_up = time.monotonic() + seconds
    while (answer := ask()) is None:
        assert time.monotonic() < give_up, f"waited for {what}"
        time.sleep(0.2)
    return answer


@pytest.fixture(scope="session")
def program() -> str:
    """The engine's. Everything is skipped where there is none."""
    try:
        name, which = engine.find()
    except LookupError as missing:
        pytest.skip(f"no container engine: {missing}")
    print(f"\ncontainer engine: {which}")
    return name


@pytest.fixture(scope="session")
def images(program: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Both are built; their tag."""
    engine.build(program, TAG, tmp_path_factory.mktemp("build"))
    return TAG


@pytest.fixture(scope="session")
def stack(program: str, images: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Up and healthy; in the end everything is down, and its volumes are gone."""
    folder = tmp_path_factory.mktemp("compose")
    compose = engine.Compose(program, folder / "secateur", images)
    try:
        compose.up()
        client = Client(f"https://localhost:{compose.https_port}", options(compose, folder))
        inputs = client.upload("models", tiny_model()), client.upload("datasets", tiny_data())
        made = Stack(compose, client, inputs, {}, "")
        made.reference_job = made.submit()
        assert client.wait(made.reference_job, JOB_SECONDS)["state"] == "succeeded"
        made.reference = client.fingerprint(made.reference_job)
        yield made
    finally:
        if os.environ.get("KEEP_CONTAINERS") != "1":
            compose("down", "--volumes", "--timeout", "5")
            assert compose("ps", "--all", "--quiet") == ""
            engine.said(program, "image", "rm", *(f"{image}:{NEXT}" for image in engine.IMAGES))


def options(compose: engine.Compose, folder: Path) -> dict[str, Any]:
    """What a caller needs: the proxy's own authority, and the first key, which the operator makes in the container."""
    authority = folder / "root.crt"
    authority.write_text(compose("exec", "-T", "proxy", "cat", "/data/caddy/pki/authorities/local/root.crt"))
    token = compose("exec", "-T", "api", "secateur", "keys", "create", "--bootstrap").split()[-1]
    return {"verify": ssl.create_default_context(cafile=authority), "headers": {"Authorization": f"Bearer {token}"}}
