"""Repairs torchaudio. Standard library only; `make install` and `secateur doctor --fix` run it.

torchaudio's published wheel is built for CUDA. Beside a CPU build of torch its compiled half does not load, and with it
fails every audio feature extractor of transformers. What Secateur uses of torchaudio is written in Python: without the
compiled half it imports and works.
"""

import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

TORCH_SECONDS = 60


def repair_torchaudio() -> str:
    """Remove torchaudio's compiled half where torch has no CUDA; says what was done. Safe to repeat."""
    try:
        torchaudio, _ = distribution("torchaudio"), distribution("torch")
    except PackageNotFoundError as missing:
        return f"torchaudio: nothing to do, {missing.name} is not installed"
    compiled = sorted(Path(str(torchaudio.locate_file("torchaudio/lib"))).glob("*.so"))
    if not compiled:
        return "torchaudio: nothing to do"
    # Asked in a process of its own: nothing here may load torch.
    asked = subprocess.run(
        [sys.executable, "-c", "import torch; print(torch.version.cuda or '')"],
        capture_output=True,
        text=True,
        check=True,
        timeout=TORCH_SECONDS,
    )
    if asked.stdout.strip():
        return f"torchaudio: unchanged, because torch is built for CUDA {asked.stdout.strip()}"
    for library in compiled:
        library.unlink()
    return f"torchaudio: removed its compiled half, which requires CUDA ({len(compiled)} files)"


def main() -> None:
    """Repair and report."""
    print(repair_torchaudio())


if __name__ == "__main__":
    main()
