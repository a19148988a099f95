"""What this worker's engines compute on, found without torch in this process: the engine's own choice (worker/engine/run.py)
is asked for in one that ends."""

import json
import logging
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

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
    if not any(driver.exists() for driver in _DRIVERS):
        return Device(DeviceKind.CUDA if settings.device == "cuda" else DeviceKind.CPU)
    try:
        # What the engine's environment is: it says which of the GPUs is the first.
        done = subprocess.run(
            [sys.executable, "-c", _ASK],
            env=minimal_environment(home, 1),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=True,
        )
        found = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        log.warning("what device this worker has cannot be told: %s", str(said).strip().rpartition("\n")[2])
        return Device(DeviceKind.CUDA if settings.device == "cuda" else None)
    if found:
        return Device(DeviceKind.CUDA, found["name"], found["memory"])
    return Device(DeviceKind.CUDA if settings.device == "cuda" else DeviceKind.CPU)
