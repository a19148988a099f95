"""The whole embedded stack, started the way a user starts it, once for all tests that ask for it; and a user's calls.

Fixtures: `from tests.support.servers.up import client, service` in a conftest.py.
"""

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from secateur import Secateur
from tests.support.outputs import checked

READY_SECONDS = 120
JOB_SECONDS = 240


@contextmanager
def stack_up(folder, **settings):
    """`secateur up` on a free port, with everything below a folder; the base URL."""
    # What is measured while tests run says nothing, and takes their time.
    own = {"SECATEUR_ENGINE_THREADS": "1", "SECATEUR_CANCEL_GRACE_SECONDS": "5", "SECATEUR_MEASURE_DEVICE": "false"}
    environment = {**os.environ, **own, **settings}
    log = (folder / "output.log").open("w")
    command = [str(Path(sys.executable).with_name("secateur")), "up", "--data-dir", str(folder / "data"), "--port", "0"]
    ready = (folder / "ready.json").open("w")
    process = subprocess.Popen([*command, "--json"], env=environment, stdout=ready, stderr=log)
    try:
        yield _url(process, folder)
    finally:
        process.terminate()
        process.wait(timeout=60)
        log.close()
        ready.close()


@pytest.fixture(scope="session")
def service(tmp_path_factory):
    """A stack with a fresh data folder; the base URL. Everything ends with the session."""
    with stack_up(tmp_path_factory.mktemp("up")) as url:
        yield url


def _url(process, folder):
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise AssertionError(f"`secateur up` ended:\n{(folder / 'output.log').read_text()}")
        try:
            url = checked(json.loads((folder / "ready.json").read_text()), ["up"])["url"]
            if httpx.get(f"{url}/readyz", verify=False).status_code == 200:
                return url
        except (OSError, ValueError, httpx.TransportError):
            pass
        time.sleep(0.2)
    raise AssertionError(f"not ready after {READY_SECONDS} s:\n{(folder / 'output.log').read_text()}")


@pytest.fixture
def client(service):
    with httpx.Client(base_url=f"{service}/v1", timeout=60) as client:
        yield client


def upload(client: httpx.Client, kind: str, folder: Path) -> str:
    """Send what lies in a folder; the id. `kind`: models or datasets."""
    with Secateur(str(client.base_url)) as sender:
        send = sender.upload_model if kind == "models" else sender.upload_dataset
        return send(folder).id


def wait(client, job, until=("succeeded", "failed", "cancelled")):
    """The job once it is in one of these states, and everything that was seen before."""
    deadline = time.monotonic() + JOB_SECONDS
    seen = []
    while time.monotonic() < deadline:
        found = client.get(f"/jobs/{job}").json()
        seen.append(found)
        if found["state"] in until:
            return found, seen
        time.sleep(0.3)
    raise AssertionError(f"still {seen[-1]['state']} after {JOB_SECONDS} s: {seen[-1]}")
