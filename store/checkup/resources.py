"""Checks the machine: memory, cores, clock, and the sandbox layers that are available."""

import time
from importlib.metadata import distribution
from pathlib import Path

from api_schemas.api.checkup import Finding, ok, warning, wrong
from api_schemas.cpu_cores import usable_cores
from store import machine
from store.cage import Layer, trial
from store.settings import Settings

LEAST_MEMORY = 2 * 2**30
"""Torch, transformers and a model of some hundred million parameters."""


def memory(settings: Settings) -> list[Finding]:
    """Of machine or container, and what an engine may have of it."""
    here = machine.memory_bytes()
    found = f"{here / 2**30:.1f} GiB"
    if settings.engine_memory_bytes is not None and settings.engine_memory_bytes > here:
        remedy = "Lower SECATEUR_ENGINE_MEMORY_BYTES: otherwise the kernel kills the engine, or the worker, first."
        return [wrong("memory", f"{found}, but an engine may use {settings.engine_memory_bytes / 2**30:.1f}", remedy)]
    if here < LEAST_MEMORY:
        return [warning("memory", found, "Jobs on larger models will run out of memory; provide at least 2 GiB.")]
    return [ok("memory", found)]


def cores(settings: Settings) -> list[Finding]:
    """What an engine would get of them, and why. Threads beyond the cores make it several times slower, not faster."""
    here = usable_cores()
    gets = machine.threads_of_next(settings.engine_threads)
    number = f"{gets.count} thread{'' if gets.count == 1 else 's'}"
    found = f"{here:g}, an engine would get {number}: {gets.why}"
    if gets.count > max(1, here):
        remedy = f"Set SECATEUR_ENGINE_THREADS to {max(1, int(here))}: more threads than cores slow it down by a factor of five."
        return [warning("cores", found, remedy)]
    return [ok("cores", found)]


def cage(settings: Settings) -> list[Finding]:
    """The layers of docs/sandbox.md that hold here."""
    try:
        held = trial.layers_here(
            settings.engine_user, strict=settings.auth == "keys", processes=settings.engine_processes
        )
    except trial.NoCageError as error:
        return [wrong("cage", f"a worker cannot start here: {error}", "docs/sandbox.md says what each layer needs.")]
    missing = {Layer.SECCOMP, Layer.NETWORK, Layer.LANDLOCK, Layer.SHARED_MEMORY} - set(held)
    if missing:
        remedy = "docs/sandbox.md says what each needs; without them files from users are less isolated."
        return [warning("cage", f"without {', '.join(sorted(missing))}", remedy)]
    return [ok("cage", ", ".join(held))]


def clock(_: Settings) -> list[Finding]:
    """A clock that stands before this was installed is wrong, and with it every certificate, key and expiry."""
    installed = max(Path(str(distribution("secateur").locate_file(""))).stat().st_mtime, Path(__file__).stat().st_mtime)
    behind = installed - time.time()
    if behind > 0:
        return [
            wrong(
                "clock",
                f"{behind / 3600:.1f} h before the installation of Secateur",
                "Set it: timedatectl set-ntp true.",
            )
        ]
    return [ok("clock", time.strftime("%Y-%m-%d %H:%M:%S %Z"))]
