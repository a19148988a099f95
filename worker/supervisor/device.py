"""The device of this worker's engines, found without torch in this process: a short-lived process runs the engine's own choice
(worker/engine/run.py)."""

import json
import logging
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from api_schemas.enums import DeviceKind
from store.settings import Settings
from worker.children.child import minimal_environment

log = logging.getLogger(__name__)

SECONDS = 120
_DRIVERS = tuple(map(Path, ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")))
"""Of NVIDIA, of AMD, of both in Windows' Linux. Without one torch finds no GPU, and need not be asked."""
_ASK = """
import json, torch
found = torch.cuda.is_available() and torch.cuda.get_device_properties(0)
print(json.dumps({"name": found.name, "memory": found.total_memory} if found else {}))
"""


@dataclass(frozen=True)
class Device:
    """A kind, a name and a memory in bytes; None where it is not known."""

    kind: DeviceKind | None
    name: str | None = None
    memory_bytes: int | None = None


def of_engines(settings: Settings, home: Path) -> Device:
    """What an engine of these settings would choose. `home`: a folder of this worker's, for the process that is asked."""
    if settings.device == "cpu":
        return Device(DeviceKind.CPU)
    found = _first_gpu(home) if any(driver.exists() for driver in _DRIVERS) else {}
    if found:
        # A memory that is not known is no obstacle to any job.
        return Device(DeviceKind.CUDA, found["name"], None if settings.offload_weights else found["memory"])
    if settings.device == "cuda":
        log.warning("SECATEUR_DEVICE is cuda, but no GPU is available: jobs will fail on this worker")
        return Device(DeviceKind.CUDA)
    return Device(None if found is None else DeviceKind.CPU)


def _first_gpu(home: Path) -> dict[str, Any] | None:
    """Name and memory of the one that an engine would take, empty where torch sees none; None where it cannot be asked."""
    try:
        # In the engine's environment, which says which of the GPUs is the first.
        done = subprocess.run(
            [sys.executable, "-c", _ASK],
            env=minimal_environment(home, 1),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=True,
        )
        found: dict[str, Any] = json.loads(done.stdout)
        return found
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        said = str(getattr(error, "stderr", None) or error).strip().rpartition("\n")[2]
        log.warning("the device of this worker cannot be detected: %s", said)
        return None
