"""`secateur worker --devices 0,1,2,3`: one job worker per device of this machine, or one for all of them; started, watched and
stopped together.

Each is an ordinary Celery worker (worker/app.py). Its name and the GPUs that its engines see come from its environment; its
output goes where this process writes.
"""

import os
import re
import socket
import sys
import time

from rich.console import Console

from secateur.local_server import installed
from secateur.local_server.processes import CrashLoopError, Program, Programs
from secateur.local_server.up import POLL_SECONDS, Stop, stop_seconds

NAME_LENGTH = 64


def run(devices: str, console: Console, *, together: bool = False) -> int:
    """Until a signal, or until one crashes too often; returns the exit status."""
    if (lacking := installed.not_installed(installed.WORKER, "server,worker")) is not None:
        console.print(lacking, markup=False)
        return 1
    try:
        found = programs(devices, os.environ.get("SECATEUR_WORKER_NAME") or socket.gethostname(), together=together)
    except ValueError as error:
        console.print(str(error), markup=False)
        return 2
    running = Programs(
        lambda program, status: console.print(f"{program.name} ended with status {status}; it is started again.")
    )
    stop = Stop()
    try:
        for program in found:
            running.add(program)
        while not stop.signals:
            running.restart_crashed()
            time.sleep(POLL_SECONDS)
    except CrashLoopError as error:
        console.print(str(error), markup=False, highlight=False)
        return 1
    finally:
        running.stop(stop_seconds(), hurry=lambda: stop.signals > 1)
    return 0


def programs(devices: str, called: str, *, together: bool = False) -> list[Program]:
    """One for each device of the list, or one whose engines compute on all of them `together`. Raises ValueError, which says what
    is wrong.
    """
    wanted = [each.strip() for each in devices.split(",")]
    if any(not re.fullmatch("cpu|[0-9]{1,3}", each) for each in wanted):
        raise ValueError(f"--devices takes numbers of GPUs, as in 0,1,2,3, or cpu; not {devices!r}.")
    names = [each if each == "cpu" else str(int(each)) for each in wanted]
    if len(set(names)) < len(names):
        raise ValueError(f"--devices {devices} names a device twice; each device can have one worker.")
    if not together:
        return [_program([device], called) for device in names]
    if "cpu" in names or len(names) == 1:
        raise ValueError(f"--together takes several GPUs, as in --devices 0,1; not {devices!r}.")
    return [_program(names, called)]


def _program(devices: list[str], called: str) -> Program:
    """A worker whose engines compute on all of these."""
    cpu = devices == ["cpu"]
    end = "-cpu" if cpu else f"-cuda{'-'.join(devices)}"
    # Of a host's name only what a worker's name may have.
    name = re.sub(r"[^A-Za-z0-9._-]", "-", called)[: NAME_LENGTH - len(end)] + end
    environment = {
        "SECATEUR_WORKER_NAME": name,
        "SECATEUR_DEVICE": "cpu" if cpu else "cuda",
        "SECATEUR_ENGINE_DEVICES": str(len(devices)),
        "CUDA_VISIBLE_DEVICES": "" if cpu else ",".join(devices),
        # The numbers are nvidia-smi's; CUDA's own begin with the fastest.
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
    }
    command = [sys.executable, "-m", "celery", "-A", "worker.app", "worker", "-Q", "jobs", "-n", f"{name}@%h"]
    return Program(name, [*command, "--loglevel", "INFO"], None, environment)
