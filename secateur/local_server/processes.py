"""Keeps a few programs running: starts them, restarts crashed ones (a limited number of times), and stops them all.

Each program leads its own process group, so a signal from the terminal reaches only this process, which then stops the others in
order, and KILL of the group ends a program and its children.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

MAX_RESTARTS = 5
RESTART_WINDOW = 600.0
"""More than MAX_RESTARTS crashes within this many seconds are no accident."""
LONGEST_PAUSE = 10.0
MAX_LOG_BYTES = 16 * 2**20


class CrashLoopError(Exception):
    """A program crashed too often. The text names it and ends with its log."""


@dataclass
class Program:
    """One program. `environment` is added to this process's own."""

    name: str
    command: Sequence[str]
    log_file: Path | None
    """None: where this process writes."""
    environment: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    crashes: deque[float] = field(default_factory=deque)
    start_at: float = 0.0

    def start(self) -> None:
        """Start it, output appended to its log file."""
        if self.log_file is not None and self.log_file.exists() and self.log_file.stat().st_size > MAX_LOG_BYTES:
            self.log_file.replace(self.log_file.with_suffix(".log.1"))
        leash = (sys.executable, "-m", "secateur.local_server.parent_watch", str(os.getpid()))
        with contextlib.nullcontext() if self.log_file is None else self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [*leash, *self.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=None if log is None else subprocess.STDOUT,
                env={**os.environ, **self.environment},
                start_new_session=True,
            )

    @property
    def alive(self) -> bool:
        """Whether it was started and has not ended."""
        return self.process is not None and self.process.poll() is None

    def log_tail(self, lines: int = 12) -> str:
        """The end of its log, where it has a file of its own."""
        if self.log_file is None:
            return ""
        with self.log_file.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - 16_384))
            return "\n".join(log.read().decode(errors="replace").splitlines()[-lines:])

    def signal(self, number: signal.Signals) -> None:
        """To its whole group; nothing where it is gone."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, number)


class Programs:
    """Programs in the order in which they depend on each other; stopped the other way round."""

    def __init__(self, on_restart: Callable[[Program, int], None]) -> None:
        """`on_restart` is told a crashed program and its exit status."""
        self.all: list[Program] = []
        self._on_restart = on_restart

    def add(self, program: Program) -> None:
        """Start one more."""
        self.all.append(program)
        program.start()

    def restart_crashed(self) -> None:
        """Look once at every program. Raises CrashLoopError where one has crashed too often."""
        now = time.monotonic()
        for program in self.all:
            if program.alive:
                continue
            if program.process is not None:
                self._record_crash(program, now)
            elif now >= program.start_at:
                program.start()

    def _record_crash(self, program: Program, now: float) -> None:
        status = program.process.returncode if program.process is not None else 0
        program.signal(signal.SIGKILL)  # What it may have left behind: it would run beside its successor.
        program.process = None
        program.crashes.append(now)
        while program.crashes and program.crashes[0] < now - RESTART_WINDOW:
            program.crashes.popleft()
        if len(program.crashes) > MAX_RESTARTS:
            log = f" Its log, {program.log_file}, ends with:\n{program.log_tail()}" if program.log_file else ""
            raise CrashLoopError(
                f"{program.name} ended {len(program.crashes)} times within {RESTART_WINDOW / 60:.0f} minutes, the last "
                f"time with status {status}.{log}"
            )
        program.start_at = now + min(LONGEST_PAUSE, 0.5 * 2 ** (len(program.crashes) - 1))
        self._on_restart(program, status)

    def stop(self, grace_seconds: float, hurry: Callable[[], bool] = lambda: False) -> None:
        """TERM, the last started first, each waited for; KILL after `grace_seconds` in all, or once `hurry()` is true."""
        deadline = time.monotonic() + grace_seconds
        for program in reversed(self.all):
            program.signal(signal.SIGTERM)
            while program.alive and time.monotonic() < deadline and not hurry():
                time.sleep(0.05)
            program.signal(signal.SIGKILL)
            if program.process is not None:
                program.process.wait()
