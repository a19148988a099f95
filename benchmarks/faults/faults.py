"""The faults, each a function of the stack: it breaks something and returns; the service mends itself, or does not.

What it returns are the process numbers of the workers whose work it has ended.
"""

import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import psutil

from benchmarks.faults.servers import send_to_family
from benchmarks.faults.stack import WORKERS, Stack

Fault = Callable[[Stack], Sequence[int]]
FREEZE_MARGIN = 2.0


def kill_engine(stack: Stack) -> Sequence[int]:
    """Every engine that runs, as the kernel does it when memory is short."""
    hit = []
    for engine in stack.engines():
        try:
            worker = stack.worker_of(engine)
            engine.kill()
        except psutil.Error:
            continue
        if worker is not None:
            hit.append(worker)
    return hit


def kill_worker(stack: Stack) -> Sequence[int]:
    """The supervisor and Celery's main process, which are one, of a worker that has an engine; its engine has to end itself."""
    name = _busy(stack)
    pid = stack.pid(name)
    stack.kill(name)
    return [pid]


def kill_machine(stack: Stack) -> Sequence[int]:
    """A worker and its engine in the same moment."""
    name = _busy(stack)
    pid = stack.pid(name)
    family = _family(pid)
    stack.kill(name)
    for process in family[1:]:
        try:
            process.kill()
        except psutil.Error:
            continue
    return [pid]


def freeze_worker(stack: Stack) -> Sequence[int]:
    """A worker stands still, its engine too, for longer than its lease, and goes on as if nothing had been."""
    pid = stack.pid(_busy(stack))
    family = send_to_family(psutil.Process(pid), signal.SIGSTOP)
    time.sleep(stack.settings.lease_seconds + FREEZE_MARGIN)
    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGCONT)
    return [pid]


def freeze_supervisor(stack: Stack) -> Sequence[int]:
    """The worker alone stands still: its engine goes on, and what it says is heard only after the lease."""
    worker = psutil.Process(stack.pid(_busy(stack)))
    worker.send_signal(signal.SIGSTOP)
    time.sleep(stack.settings.lease_seconds + FREEZE_MARGIN)
    worker.send_signal(signal.SIGCONT)
    return [worker.pid]


def freeze_database(stack: Stack) -> Sequence[int]:
    """PostgreSQL stands still for longer than a lease: every worker loses its job, and nobody can say so."""
    assert stack.postgres is not None
    stack.postgres.freeze()
    time.sleep(stack.settings.lease_seconds + FREEZE_MARGIN)
    stack.postgres.thaw()
    return [stack.pid(name) for name in WORKERS]


def _kill(name: str) -> Fault:
    def fault(stack: Stack) -> Sequence[int]:
        stack.kill(name)
        return []

    return fault


KILLS: Mapping[str, Fault] = {
    "engine": kill_engine,
    "worker": kill_worker,
    "machine": kill_machine,
    **{name: _kill(name) for name in ("maintenance", "beat", "api", "valkey", "postgresql")},
}


def _busy(stack: Stack) -> str:
    """A worker that runs an engine; the first where none does."""
    busy = {stack.worker_of(engine) for engine in stack.engines() if engine.is_running()}
    return next((name for name in WORKERS if stack.pid(name) in busy), WORKERS[0])


def _family(pid: int) -> list[psutil.Process]:
    """A process and all below it; empty where it is gone."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []
