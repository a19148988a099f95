"""Starts `secateur up` for the demo and stops it again, whatever happens in between."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from demo import DemoError

START_SECONDS = 120.0
STOP_SECONDS = 90.0


@contextmanager
def running_service(settings: dict[str, str], kept: Path) -> Iterator[str]:
    """The URL of a service of our own: a free port, a fresh data folder, which is moved to `kept` in the end.

    That replaces an earlier one, unless a service runs there. After a failure the folder stays where it is, and the error names
    it: its logs say what happened.
    """
    data_dir = Path(tempfile.mkdtemp(prefix="secateur-demo-"))
    # On a leash: killing the demo, however, ends the service too.
    command = [sys.executable, "-m", "secateur.local_server.parent_watch", str(os.getpid())]
    command += [sys.executable, "-m", "secateur", "up", "--port", "0", "--data-dir", str(data_dir)]
    # A session of its own: Ctrl-C reaches this process, which then stops the service in order.
    with (data_dir / "up.log").open("wb") as log:
        process = subprocess.Popen(
            command, env={**os.environ, **settings}, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield _wait_for_url(process, data_dir)
    except BaseException as error:
        _stop(process)
        if isinstance(error, Exception):
            raise DemoError(f"{error}\nLogs: {data_dir / 'logs'}") from error
        shutil.rmtree(data_dir, ignore_errors=True)
        raise
    _stop(process)
    if (kept / "up.json").exists():
        shutil.rmtree(data_dir, ignore_errors=True)
        return
    shutil.rmtree(kept, ignore_errors=True)
    shutil.move(data_dir, kept)


def _wait_for_url(process: subprocess.Popen[bytes], data_dir: Path) -> str:
    deadline = time.monotonic() + START_SECONDS
    announcement = data_dir / "up.json"
    while not announcement.exists():
        if process.poll() is not None:
            raise DemoError(
                f"`secateur up` exited with status {process.returncode}:\n{(data_dir / 'up.log').read_text()}"
            )
        if time.monotonic() > deadline:
            raise DemoError(f"`secateur up` was not ready within {START_SECONDS:.0f} s")
        time.sleep(0.2)
    return str(json.loads(announcement.read_text())["url"])


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()  # Its programs end with it (secateur/local_server/parent_watch.py).
        process.wait()
