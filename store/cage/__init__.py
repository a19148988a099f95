"""The sandbox of every process that reads untrusted files: the engine, the reader of hub datasets, the dataset inspector.

`Cage.command` puts a launcher (`python -m store.cage`) in front of a command. The launcher gives up everything that the command
does not need, in layers that the kernel enforces until the process ends, reports the active layers in one line of JSON, and
executes the command. All of this happens in a fresh process before a byte of input is read. docs/sandbox.md lists the layers and
what each blocks.
"""

import ctypes
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

PR_SET_DUMPABLE = 4


class Layer(StrEnum):
    """What may hold; the first four hold on every Linux."""

    ENVIRONMENT = "environment"
    """Nothing is inherited: no variable but those that it was given, no descriptor but the three standard ones."""
    RESOURCES = "resource_limits"
    """No core dumps, files up to a size; memory and processor time where they were bounded."""
    PRIVILEGES = "no_new_privileges"
    """No capabilities, also as root, and no set-user-id program gives any."""
    SECCOMP = "seccomp"
    """No sockets, no System V IPC, no tracing, no mounts, no kernel interfaces that a computation has no use for, and no way out
    of its process group."""
    NETWORK = "network_namespace"
    """A network without interfaces."""
    SHARED_MEMORY = "private_shared_memory"
    """A `/dev/shm` of its own, bounded, which goes with its last process, and System V IPC of its own."""
    PROCESSES = "process_limit"
    """No more processes and threads than it was given."""
    USER = "other_user"
    """Another user than the worker's."""
    LANDLOCK = "landlock"
    """Files: only those that it was given. Processes: no signal to others, no look into them."""


@dataclass(frozen=True)
class Cage:
    """What a command may still do. Paths are absolute."""

    write: tuple[str, ...] = ()
    """Folders in which it may read and write everything."""
    read: tuple[str, ...] = ()
    """Files and folders that it may read, beside the interpreter's and the system's libraries."""
    file_bytes: int = 0
    """Largest file that it may write."""
    memory_bytes: int | None = None
    """Bound of its address space. Not for CUDA, which reserves more than it uses."""
    cpu_seconds: int | None = None
    processes: int | None = None
    """Most processes and threads, where the kernel can count those of this cage alone."""
    user: str | None = None
    """Who it becomes, where the launcher is root."""
    strict: bool = False
    """Start nothing where neither seccomp nor a network namespace keeps it from the network."""

    def command(self, command: Sequence[str]) -> list[str]:
        """`command`, caged: its first line of output is for `read_report`, all that follows is its own.

        Hides this process's memory and environment, secrets and all, from other processes of its user. Raises
        FileNotFoundError where there is no such program.
        """
        if shutil.which(command[0]) is None:
            raise FileNotFoundError(command[0])
        hide_memory()
        return [sys.executable, "-m", "store.cage", json.dumps(asdict(self)), *command]


def hide_memory() -> None:
    """Hide this process's memory and environment, secrets and all, from other processes of its user."""
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def read_report(line: str | bytes) -> tuple[Layer, ...]:
    """The layers that hold, from the launcher's line. Raises ValueError where it is none."""
    report: Any = json.loads(line)
    if not isinstance(report, dict) or not isinstance(report.get("isolation"), list):
        raise ValueError("not a line of the cage's launcher")
    return tuple(Layer(name) for name in report["isolation"])
