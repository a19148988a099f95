"""docker/locks agree with pyproject.toml, with each other and with `make install`; every file has its hash."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[3]
LOCKS = ROOT / "docker" / "locks"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"]
WORKERS = ("worker-cuda", "worker-cpu")


def locked(name: str) -> dict[str, list[Requirement]]:
    """The requirements of a lock by name: two of one name are for different versions of Python."""
    found: dict[str, list[Requirement]] = {}
    for line in (LOCKS / f"{name}.txt").read_text().splitlines():
        if line[:1].isalpha():
            requirement = Requirement(line.rstrip("\\ "))
            found.setdefault(requirement.name, []).append(requirement)
    return found


def version(requirement: Requirement) -> str:
    (pin,) = requirement.specifier
    assert pin.operator == "==", requirement
    return pin.version


@pytest.mark.parametrize(
    ("lock", "extras"),
    [("api", ["server", "tracing"]), *((name, ["server", "tracing", "worker", "export"]) for name in WORKERS)],
)
def test_a_lock_has_what_pyproject_asks_for(lock: str, extras: list[str]) -> None:
    have = locked(lock)
    for line in [*PROJECT["project"]["dependencies"], *(line for extra in extras for line in EXTRAS[extra])]:
        asked = Requirement(line)
        assert asked.name in have, f"{asked}: `make locks`"
        for found in have[asked.name]:
            assert asked.specifier.contains(version(found)), f"{asked}, and {lock}.txt has {found}: `make locks`"


@pytest.mark.parametrize("lock", sorted(path.stem for path in LOCKS.glob("*.txt")))
def test_every_version_is_one_and_every_file_has_a_hash(lock: str) -> None:
    blocks = re.split(r"^(?=[a-z])", (LOCKS / f"{lock}.txt").read_text(), flags=re.MULTILINE)[1:]
    assert blocks
    for block in blocks:
        assert re.fullmatch(r"[a-z0-9.-]+==[^\n]*?( \\\n    --hash=sha256:[0-9a-f]{64})+\n", block), block[:200]


def test_the_images_agree_where_they_overlap() -> None:
    api = locked("api")
    for worker in map(locked, WORKERS):
        assert set(api) <= set(worker)
        for name, found in api.items():
            assert worker[name] == found
    assert not {"torch", "torchaudio", "transformers", "peft", "datasets", "accelerate"} & set(api)


def test_torch_and_torchaudio_for_cuda_are_of_one_release() -> None:
    cuda = locked("worker-cuda")
    torch, torchaudio = (Version(version(cuda[name][0])) for name in ("torch", "torchaudio"))
    assert torch.release[:2] == torchaudio.release[:2]
    assert any(name.startswith("nvidia-") for name in cuda)


def test_torch_for_the_cpu_is_the_one_that_is_tested_and_brings_nothing_for_cuda() -> None:
    cpu = locked("worker-cpu")
    assert f"torch=={version(cpu['torch'][0])}" in (ROOT / "scripts" / "install.sh").read_text()
    assert not [name for name in cpu if name.startswith(("nvidia-", "cuda-", "triton"))]


@pytest.mark.parametrize("lock", ["build", *WORKERS])
def test_our_own_code_can_be_built_with_what_is_locked(lock: str) -> None:
    """Nothing is fetched beside the lock for that."""
    have = locked(lock)
    for line in PROJECT["build-system"]["requires"]:
        asked = Requirement(line)
        assert asked.specifier.contains(version(have[asked.name][0]))
