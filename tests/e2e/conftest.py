"""The whole embedded stack, started the way a user starts it, once for all end-to-end tests."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

READY_SECONDS = 120


@pytest.fixture(scope="session")
def service(tmp_path_factory):
    """`secateur up` on a free port with a fresh data folder; the base URL. Everything ends with the session."""
    folder = tmp_path_factory.mktemp("up")
    environment = {**os.environ, "SECATEUR_ENGINE_THREADS": "1", "SECATEUR_CANCEL_GRACE_SECONDS": "5"}
    log = (folder / "output.log").open("w")
    command = [str(Path(sys.executable).with_name("secateur")), "up", "--data-dir", str(folder / "data"), "--port", "0"]
    process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield _url(process, folder)
    finally:
        process.terminate()
        process.wait(timeout=60)
        log.close()


def _url(process, folder):
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise AssertionError(f"`secateur up` ended:\n{(folder / 'output.log').read_text()}")
        try:
            url = json.loads((folder / "data" / "up.json").read_text())["url"]
            if httpx.get(f"{url}/readyz").status_code == 200:
                return url
        except (OSError, ValueError, httpx.TransportError):
            pass
        time.sleep(0.2)
    raise AssertionError(f"not ready after {READY_SECONDS} s:\n{(folder / 'output.log').read_text()}")


@pytest.fixture
def client(service):
    with httpx.Client(base_url=f"{service}/v1", timeout=60) as client:
        yield client
