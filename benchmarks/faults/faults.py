"""The faults, each a function of the rig: it breaks something and returns; the service mends itself, or does not."""

import signal
import time
from collections.abc import Callable, Mapping

import psutil

from benchmarks.faults.rig import WORKERS, Rig

Fault = Callable[[Rig], None]
FREEZE_MARGIN = 2.0


def kill_engine(stack: Rig) -> None:
    """Every engine that runs, as the kernel does it when memory is short."""
    for engine in stack.engines():
        try:
            engine.kill()
        except psutil.Error:
            continue


def kill_worker(stack: Rig) -> None:
    """The supervisor and Celery's main process, which are one, of a worker that has an engine; its engine has to end itself."""
    stack.kill(_busy(stack))


def kill_machine(stack: Rig) -> None:
    """A worker and its engine in the same moment."""
    name = _busy(stack)
    family = _family(stack.pid(name))
    stack.kill(name)
    for process in family[1:]:
        try:
            process.kill()
        except psutil.Error:
            continue


def freeze_worker(stack: Rig) -> None:
    """A worker stands still, its engine too, for longer than its lease, and goes on as if nothing had been."""
    family = _family(stack.pid(_busy(stack)))
    for process in family:
        process.send_signal(signal.SIGSTOP)
    time.sleep(stack.settings.lease_seconds + FREEZE_MARGIN)
    for process in family:
        try:
            process.send_signal(signal.SIGCONT)
        except psutil.Error:
            continue


def freeze_supervisor(stack: Rig) -> None:
    """The worker alone stands still: its engine goes on, and what it says is heard only after the lease."""
    worker = psutil.Process(stack.pid(_busy(stack)))
    worker.send_signal(signal.SIGSTOP)
    time.sleep(stack.settings.lease_seconds + FREEZE_MARGIN)
    worker.send_signal(signal.SIGCONT)


KILLS: Mapping[str, Fault] = {
    "engine": kill_engine,
    "worker": kill_worker,
    "machine": kill_machine,
    "maintenance": lambda stack: stack.kill("maintenance"),
    "beat": lambda stack: stack.kill("beat"),
    "api": lambda stack: stack.kill("api"),
    "valkey": lambda stack: stack.kill("valkey"),
    "postgresql": lambda stack: stack.kill("postgresql"),
}
STOPS_WORK = frozenset({"engine", "worker", "machine"})
"""After these somebody has to go on with a job."""


def _busy(stack: Rig) -> str:
    """A worker that runs an engine; the first where none does."""
    parents = {engine.ppid() for engine in stack.engines() if engine.is_running()}
    return next((name for name in WORKERS if stack.pid(name) in parents), WORKERS[0])


def _family(pid: int) -> list[psutil.Process]:
    """A process and all below it; empty where it is gone."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []
