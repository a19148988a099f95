"""Finds out which layers of the sandbox work on this machine by running a program in it."""

import os
import shutil
import subprocess

from store.cage import Cage, read_report

SECONDS = 60


class NoCageError(Exception):
    """No cage like this can be had here; the text says why and what to do."""


def layers_here(user: str | None, *, strict: bool, processes: int | None = None) -> tuple[str, ...]:
    """In the words of `Layer`. `user`, `strict`, `processes`: as of a Cage. Raises NoCageError."""
    true = shutil.which("true") or "/bin/true"
    try:
        run = subprocess.run(
            Cage(user=user, strict=strict, processes=processes).command([true]),
            env={name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        if run.returncode:
            raise NoCageError(run.stderr.strip())
        return tuple(layer.value for layer in read_report(run.stdout))
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise NoCageError(f"the engine's sandbox cannot be started: {error}") from error
