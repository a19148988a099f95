"""A child process that answers in JSON lines: the engine, or the reader of hub datasets.

It leads its own process group, so KILL of the group ends it and everything it started. It knows no secret: its environment is
built from nothing, and it runs in a sandbox (store/cage). Its standard input is a pipe that this process holds open: however this
process dies, the child then reads end-of-file and ends too.
"""

import contextlib
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from store.cage import Cage
from worker.children.job_log import JobLog
from worker.children.template import ForkedProcess

MAX_LINE = 8 * 2**20
POLL_SECONDS = 0.05
CLOSE_SECONDS = 5.0

# Where programs and GPU libraries are; nothing that grants access to anything.
PASSED_ON = (
    "PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "CUDA_HOME",
    "NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES", "TZ",
)  # fmt: skip


def minimal_environment(home: Path, threads: int) -> dict[str, str]:
    """What a child may know: no credentials, no network in the Hugging Face libraries, a home that is thrown away."""
    passed_on = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    count = str(threads)
    return passed_on | {
        "HOME": str(home),
        "TMPDIR": str(home),
        "XDG_CACHE_HOME": str(home / "cache"),
        "XDG_CONFIG_HOME": str(home / "config"),
        "XDG_DATA_HOME": str(home / "data"),
        "XDG_RUNTIME_DIR": str(home),
        "HF_HOME": str(home / "huggingface"),
        "HF_MODULES_CACHE": str(home / "huggingface" / "modules"),
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        "OPENBLAS_NUM_THREADS": count,
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUNBUFFERED": "1",
        "PYTHONSAFEPATH": "1",  # The working directory contains untrusted files: never import from there.
    }


def follow_parent() -> None:
    """In a child: end this process, at once, when the pipe on its standard input is closed by its parent's death."""

    def wait() -> None:
        # Not sys.stdin: a thread that waits inside its lock makes the interpreter abort when it ends.
        while os.read(0, 1):
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True, name="parent-watch").start()


def spawned(
    command: Sequence[str], cage: Cage, folder: Path, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """A program in `cage`, whose report is its first line of output, with `folder` as working directory."""
    return subprocess.Popen(
        cage.command(command),
        cwd=folder,
        env=dict(environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


class Child:
    """A running child. `lines` carries its standard output, a None at the end."""

    def __init__(self, process: subprocess.Popen[bytes] | ForkedProcess, log: JobLog) -> None:
        """`process` leads its own session, and its standard streams are pipes. Its standard error goes to `log`."""
        self.process = process
        self.lines: queue.Queue[str | None] = queue.Queue(maxsize=1000)
        self._closing = threading.Event()
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self._readers = [
            threading.Thread(target=self._read_lines, args=(self.process.stdout,), daemon=True),
            threading.Thread(target=log.copy, args=(self.process.stderr,), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def next_line(self, timeout: float) -> str | None:
        """The next line, None at the end of the output. Raises queue.Empty after `timeout` seconds of silence."""
        return self.lines.get(timeout=timeout)

    def wait(self, timeout: float) -> int | None:
        """The exit status (negative: the signal that ended it), or None where it still runs after `timeout` seconds."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def terminate(self, grace_seconds: float) -> None:
        """TERM, then KILL of the whole group where it has not ended in time. Returns once it is gone."""
        deadline = time.monotonic() + grace_seconds
        self._signal(signal.SIGTERM)
        while self.process.poll() is None and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        self.kill()

    def kill(self) -> None:
        """KILL of the whole group, also of what a dead leader left behind. Returns once the leader is gone."""
        self._signal(signal.SIGKILL)
        self.process.wait()

    def close(self) -> None:
        """Kill what is left and free what this process holds of it."""
        self.kill()
        self._closing.set()
        if self.process.stdin is not None:
            with contextlib.suppress(OSError):
                self.process.stdin.close()
        deadline = time.monotonic() + CLOSE_SECONDS
        for reader, pipe in zip(self._readers, (self.process.stdout, self.process.stderr), strict=True):
            reader.join(timeout=max(0.0, deadline - time.monotonic()))
            # A process that has left the group may hold a pipe open forever, and closing it here would wait for its reader.
            if pipe is not None and not reader.is_alive():
                pipe.close()
        if isinstance(self.process, ForkedProcess):
            self.process.release()

    def _signal(self, number: signal.Signals) -> None:
        if self._closing.is_set():
            return  # Its process id may be somebody else's by now.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)

    def _read_lines(self, pipe: IO[bytes]) -> None:
        while line := pipe.readline(MAX_LINE):
            self._put(line.decode("utf-8", "replace").strip())
        self._put(None)

    def _put(self, line: str | None) -> None:
        while not self._closing.is_set():
            with contextlib.suppress(queue.Full):
                self.lines.put(line, timeout=1)
                return
