"""Checks torch, the GPU and torchaudio in a separate process, because loading them takes seconds and may crash."""

import json
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from api_schemas.api.checkup import Finding, ok, warning, wrong

SECONDS = 90
_DRIVER = Path("/proc/driver/nvidia/version")
_ASK = """
import json, torch
said = {"cuda": torch.version.cuda, "usable": torch.cuda.is_available()}
if said["usable"]:
    said["devices"] = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
print(json.dumps(said))
"""


def torch() -> list[Finding]:
    """Whether torch loads, and whether it can use the GPU that is here."""
    if find_spec("torch") is None:
        return [ok("torch", "not installed; only needed for a worker and for `secateur prune`")]
    status, said = _run(_ASK)
    if status:
        remedy = (
            "Reinstall it: pip install --force-reinstall torch, or see https://pytorch.org for this machine's build."
        )
        return [wrong("torch", f"{version('torch')} does not load: {said}", remedy)]
    answer: dict[str, Any] = json.loads(said)
    if answer["usable"]:
        return [ok("torch", f"{version('torch')}, CUDA {answer['cuda']}: {', '.join(answer['devices'])}")]
    if answer["cuda"]:
        remedy = (
            "Check nvidia-smi: the driver must be installed and support this CUDA version. Without a GPU, jobs run "
            "on the CPU."
        )
        return [warning("torch", f"{version('torch')} is built for CUDA {answer['cuda']}, but finds no GPU", remedy)]
    if _DRIVER.exists():
        remedy = "To use the GPU, install torch for CUDA (https://pytorch.org)."
        return [
            warning("torch", f"{version('torch')} is built for the CPU, but this machine has an NVIDIA driver", remedy)
        ]
    return [ok("torch", f"{version('torch')}, on the CPU")]


def torchaudio() -> list[Finding]:
    """Whether torchaudio loads. Its published wheel does not beside a CPU build of torch (secateur/doctor/torchaudio.py)."""
    try:
        found = version("torchaudio")
    except PackageNotFoundError:
        return [ok("torchaudio", "not installed; only needed for audio models")]
    status, said = _run("import torchaudio")
    if not status:
        return [ok("torchaudio", f"{found} loads")]
    remedy = "`secateur doctor --fix` removes its compiled half if torch has no CUDA; otherwise reinstall it."
    return [wrong("torchaudio", f"{found} does not load, so audio models do not work: {said}", remedy)]


def _run(program: str) -> tuple[int, str]:
    """Exit status, and the last line that was said."""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=SECONDS - 5, check=False
    )
    lines = (done.stderr if done.returncode else done.stdout).strip().splitlines()
    return done.returncode, lines[-1] if lines else f"it ended with status {done.returncode}"
