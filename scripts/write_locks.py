"""Writes docker/locks: every distribution that an image installs, with its version and the hashes of its files. `make locks`.

    python scripts/write_locks.py UV

What is asked for stands in pyproject.toml; uv finds what that needs. The worker has two locks: torch of PyPI, built for CUDA, and
torch of PyTorch's own index, built for the CPU. That index is asked for its hashes (TORCH_INDEX names another with the same
wheels); where it does not answer, those of the lock before stay, as long as the version does.
"""

import os
import re
import subprocess
import sys
import tomllib
from html import unescape
from pathlib import Path
from urllib.error import URLError
from urllib.parse import unquote
from urllib.request import urlopen

from packaging.markers import Marker
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ROOT / "docker" / "locks"
PROJECT = ROOT / "pyproject.toml"
SERVER = ("server", "tracing")
WORKER = (*SERVER, "worker", "export", "torchao")
# One release of torch and torchaudio for CUDA: the compiled half of torchaudio is built against its own torch, and PyPI's wheels
# of this release are built for CUDA 13.0, like the base image. For the CPU what scripts/install.sh installs; there that half is
# removed.
TORCH = {"cuda": "2.11.0", "cpu": "2.13.0"}
INDEX = "https://download.pytorch.org/whl/cpu"
# What torch's wheels of PyPI bring for CUDA alone.
CUDA_ONLY = re.compile(r"^(nvidia-|cuda-|triton\b)")
# The Pythons of the images, and those of stand-ins for them.
PYTHONS = ("3.11.2", "3.12.0", "3.13.0")
INDEX_SECONDS = 20


def compiled(uv: str, requirements: str, *options: str) -> dict[str, str]:
    """The lines of each distribution, by its name."""
    command = [
        uv,
        "pip",
        "compile",
        "--no-config",
        "--quiet",
        "--universal",
        "--python-version",
        "3.11",
        "--generate-hashes",
    ]
    command += ["--no-header", "--no-annotate", *options, requirements]
    build = "\n".join(tomllib.loads(PROJECT.read_text())["build-system"]["requires"])
    said = subprocess.run(command, input=build, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
    blocks = re.split(r"^(?=\S)", said, flags=re.MULTILINE)
    return {f"{_requirement(block)}": block for block in blocks if block.strip() and _here(_requirement(block))}


def _requirement(block: str) -> Requirement:
    return Requirement(block.splitlines()[0].rstrip("\\ "))


def _here(requirement: Requirement) -> bool:
    """Whether some image's Python would install it."""
    linux = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "implementation_name": "cpython"}
    return requirement.marker is None or any(
        Marker(str(requirement.marker)).evaluate(
            {**linux, "python_full_version": full, "python_version": full.rpartition(".")[0]}
        )
        for full in PYTHONS
    )


def torch_of_the_index(version: str) -> list[str]:
    """Hashes of the CPU wheels for Linux on x86-64."""
    try:
        with urlopen(f"{os.environ.get('TORCH_INDEX') or INDEX}/torch/", timeout=INDEX_SECONDS) as answer:
            page = unescape(answer.read().decode())
    except URLError as error:
        before = LOCKS / "worker-cpu.txt"
        found = re.search(rf"^torch=={re.escape(version)}(?: \\\n    --hash=\S+)+", before.read_text(), re.MULTILINE)
        if not found:
            raise SystemExit(f"{error}; the lock before has another torch") from None
        print(f"{error}; the hashes of torch {version} stay as they were", file=sys.stderr)
        return re.findall(r"sha256:\w+", found[0])
    wheel = rf"torch-{re.escape(version)}\+cpu-(cp\d+)-\1-\w+x86_64\.whl#sha256=(\w+)"
    return [f"sha256:{match[2]}" for match in re.finditer(wheel, unquote(page))]


def main() -> None:
    """Write all of them."""
    uv = sys.argv[1]
    LOCKS.mkdir(exist_ok=True)
    _write("build", compiled(uv, "-"))
    _write("api", compiled(uv, str(PROJECT), *(f"--extra={extra}" for extra in SERVER)))
    for kind, version in TORCH.items():
        constraint = LOCKS / "torch.constraint"
        constraint.write_text(f"torch=={version}\n")
        found = compiled(uv, str(PROJECT), *(f"--extra={extra}" for extra in WORKER), "--constraint", str(constraint))
        constraint.unlink()
        if kind == "cpu":
            found = {name: block for name, block in found.items() if not CUDA_ONLY.match(name)}
            (torch,) = (name for name in found if name.startswith("torch=="))
            found[torch] = " \\\n    --hash=".join([f"torch=={version}", *sorted(torch_of_the_index(version))]) + "\n"
        _write(f"worker-{kind}", found)


def _write(name: str, blocks: dict[str, str]) -> None:
    (LOCKS / f"{name}.txt").write_text("# Written by `make locks`.\n" + "".join(blocks.values()))


if __name__ == "__main__":
    main()
