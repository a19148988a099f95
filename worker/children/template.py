"""This process's side of a template process: starts it, requests children from it, restarts it if it dies."""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO

from store.cage import Cage, hide_memory
from worker.children.fork_server import MAX_REQUEST

log = logging.getLogger(__name__)

START_SECONDS = 120.0
"""The longest that a request waits for the libraries to be imported."""
AGAIN_SECONDS = 60.0
"""A template that ended without having served is not started again before."""


class TemplateLostError(Exception):
    """The template process ended, or does not answer. Nothing of what it was asked for runs."""


class ForkedProcess:
    """A child of the template process, with as much of subprocess.Popen as worker/children/child.py uses."""

    def __init__(self, pid: int, status: socket.socket, stdin: IO[bytes], stdout: IO[bytes], stderr: IO[bytes]) -> None:
        self.pid = pid
        self.stdin, self.stdout, self.stderr = stdin, stdout, stderr
        self.returncode: int | None = None
        self._status = status
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        """The exit status (negative: the signal that ended it), or None while it runs."""
        try:
            return self.wait(0.0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        """The exit status. Raises subprocess.TimeoutExpired."""
        with self._lock:
            if self.returncode is None:
                # A timeout of 0 would make the socket non-blocking, whose error is another one.
                self._status.settimeout(None if timeout is None else max(timeout, 1e-3))
                try:
                    said = self._status.recv(1024)
                except TimeoutError:
                    raise subprocess.TimeoutExpired("a forked child", timeout or 0.0) from None
                self.returncode = json.loads(said)["status"] if said else self._lost()
            return self.returncode

    def release(self) -> None:
        """It has ended and will not be signalled any more: its process id may be given to another."""
        self._status.close()

    def _lost(self) -> int:
        """The template died and can no longer report how this child ends, so the child is killed."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        return -signal.SIGKILL


class Template:
    """A template process of a module (worker/children/fork_server.py). Safe to share between threads."""

    def __init__(self, module: str, environment: Mapping[str, str]) -> None:
        """`environment`: of the template itself; each child gets its own."""
        self._module, self._environment = module, dict(environment)
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._served = True
        self._ended_at = float("-inf")

    def start(self) -> None:
        """Begin to import, where that has not begun; returns at once."""
        with self._lock, suppress(TemplateLostError):
            self._running()

    def fork(self, arguments: Sequence[str], cage: Cage, folder: Path, environment: Mapping[str, str]) -> ForkedProcess:
        """A child in `cage`, whose report is its first line of output. Raises TemplateLostError."""
        message = json.dumps(
            {"arguments": [*arguments], "folder": str(folder), "environment": {**environment}, "cage": asdict(cage)}
        ).encode()
        if len(message) > MAX_REQUEST:
            raise TemplateLostError("the request is too long")
        with self._lock, ExitStack() as theirs, ExitStack() as ours:
            control = self._running()
            (stdin, writer), (reader, stdout), (log_reader, stderr) = os.pipe(), os.pipe(), os.pipe()
            status, told = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            kept = ((writer, "wb"), (reader, "rb"), (log_reader, "rb"))
            files = [ours.enter_context(os.fdopen(file, mode)) for file, mode in kept]
            ours.enter_context(status)
            theirs.enter_context(told)
            for file in (stdin, stdout, stderr):
                theirs.callback(os.close, file)
            try:
                socket.send_fds(control, [message], [stdin, stdout, stderr, told.fileno()])
                theirs.close()
                status.settimeout(START_SECONDS)
                said = json.loads(status.recv(1024) or b"{}")
                if "pid" not in said:
                    raise TemplateLostError("the template process ended, or its child did before it began")
            except OSError as error:
                self._stop()
                raise TemplateLostError(f"the template process does not answer: {error}") from error
            except TemplateLostError:
                self._stop()
                raise
            self._served = True
            ours.pop_all()
        return ForkedProcess(said["pid"], status, *files)

    def close(self) -> None:
        """End the template process; its children go on, and how they end is not known any more."""
        with self._lock:
            self._stop()

    def _running(self) -> socket.socket:
        if self._process is not None and self._control is not None and self._process.poll() is None:
            return self._control
        self._stop()
        if not self._served and time.monotonic() - self._ended_at < AGAIN_SECONDS:
            raise TemplateLostError("the template process ended a moment ago without having served")
        hide_memory()
        control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # As long as a request may be.
        control.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * MAX_REQUEST)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "worker.children.fork_server", self._module, str(theirs.fileno())],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self._control, self._served = control, False
        log.info("template process %d imports %s", self._process.pid, self._module)
        return control

    def _stop(self) -> None:
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._ended_at = time.monotonic()
        self._process = self._control = None
