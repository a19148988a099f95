"""The files that a sandboxed program needs beside its own: the interpreter and its libraries, the system's, and devices."""

import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from store.cage.landlock import CHANGE, DEVICE, READ, READ_DIR, RUN

CODE = Path(__file__).parents[2]
ROOMS = ("api_schemas", "checkpoints", "store", "worker")
INSTALLED = CODE.name in ("site-packages", "dist-packages")
# Of /etc only what libraries read; the rest of it may name passwords.
SYSTEM = (
    *("/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/opt"),
    *("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/ld.so.preload", "/etc/alternatives"),
    *("/etc/localtime", "/etc/timezone", "/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/etc/mime.types"),
    *("/etc/ssl/openssl.cnf", "/etc/pki/tls/openssl.cnf"),
    *("/etc/fonts", "/etc/nvidia", "/etc/vulkan", "/etc/OpenCL"),
    *("/proc", "/sys", "/run/nvidia-persistenced"),
)
DEVICES = ("null", "zero", "full", "random", "urandom", "dri", "kfd")
SHARED_MEMORY = Path("/dev/shm")


def rules(write: Iterable[str], read: Iterable[str]) -> Iterator[tuple[Path, int]]:
    """For `landlock.install`."""
    yield from ((Path(path), READ | CHANGE) for path in write)
    yield from ((Path(path), READ) for path in read)
    yield from ((path, RUN) for path in _libraries())
    # The folder of a checkout may hold data beside the code: its names may be listed, only the code be read.
    yield CODE, READ_DIR
    yield from ((Path(path), RUN) for path in SYSTEM)
    devices = Path("/dev")
    yield from ((devices / name, DEVICE | READ_DIR) for name in DEVICES)
    yield from ((path, DEVICE | READ_DIR) for path in devices.glob("nvidia*"))
    yield SHARED_MEMORY, READ | CHANGE


def _libraries() -> set[Path]:
    """Where Python's modules lie, and what the operator's own variables add."""
    named = [Path(folder) for name in ("PATH", "LD_LIBRARY_PATH", "CUDA_HOME") for folder in _listed(name)]
    modules = [Path(entry) for entry in sys.path if entry and (INSTALLED or Path(entry) != CODE)]
    # An editable installation leaves the version there; where the checkout is on the path it is what is found first.
    rooms = [*(CODE / room for room in ROOMS), *CODE.glob("*.egg-info")]
    return {Path(sys.prefix), Path(sys.base_prefix), *named, *modules, *rooms}


def _listed(variable: str) -> list[str]:
    return [entry for entry in os.environ.get(variable, "").split(os.pathsep) if entry.startswith("/")]
