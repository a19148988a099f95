"""The Dockerfiles: clean by hadolint, and what hadolint cannot know: users, what is copied, which versions are installed."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[3]
DOCKERFILES = tuple(sorted((ROOT / "docker").glob("*.Dockerfile")))
CONSTRAINTS = ROOT / "docker" / "worker-constraints.txt"
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """(instruction, arguments), with continued lines joined and comments left out."""
    lines = [line for line in dockerfile.read_text().splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(word.upper(), rest) for word, _, rest in (line.partition(" ") for line in joined.splitlines())]


def arguments(dockerfile: Path, word: str) -> list[str]:
    return [rest for instruction, rest in instructions(dockerfile) if instruction == word]


def hadolint(dockerfile: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("hadolint")
    return subprocess.run([program, "--format", "json", dockerfile], capture_output=True, text=True, check=False)


def test_both_images_are_here() -> None:
    assert [path.name for path in DOCKERFILES] == ["api.Dockerfile", "worker.Dockerfile"]


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_hadolint_finds_nothing(dockerfile: Path) -> None:
    assert json.loads(hadolint(dockerfile).stdout) == []


def test_hadolint_would_find_something(tmp_path: Path) -> None:
    bad = tmp_path / "bad.Dockerfile"
    bad.write_text("FROM python:latest\nRUN cd /tmp && sudo pip install torch\n")
    assert {"DL3007", "DL3004"} <= {finding["code"] for finding in json.loads(hadolint(bad).stdout)}


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_runs_as_an_unprivileged_number_with_a_health_check(dockerfile: Path) -> None:
    assert arguments(dockerfile, "USER")[-1] == "10001:10001"
    steps = [word for word, _ in instructions(dockerfile)]
    assert "RUN" not in steps[len(steps) - steps[::-1].index("USER") :]
    assert "useradd --uid 10001" in " ".join(arguments(dockerfile, "RUN"))
    assert '"healthcheck.sh"' in arguments(dockerfile, "HEALTHCHECK")[0]
    assert arguments(dockerfile, "ENTRYPOINT") == ['["entrypoint.sh"]']


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_what_is_copied_exists_and_reaches_the_builder(dockerfile: Path) -> None:
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for copied in arguments(dockerfile, "COPY"):
        if copied.startswith("--from"):
            continue
        for source in copied.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert any(source == entry or source.startswith(f"{entry}/") for entry in allowed), source


def test_every_room_the_server_needs_is_in_both_images() -> None:
    for dockerfile in DOCKERFILES:
        copied = {part for line in arguments(dockerfile, "COPY") for part in line.split()}
        assert {"api_schemas", "store", "service", "worker", "secateur"} <= copied


def test_the_api_image_installs_no_torch() -> None:
    api = ROOT / "docker" / "api.Dockerfile"
    installs = [line for line in arguments(api, "RUN") if "pip install" in line]
    assert installs == ['pip install ".[server]"']
    names = {Requirement(line).name for line in EXTRAS["server"]}
    assert not names & {"torch", "torchaudio", "transformers", "peft", "datasets", "accelerate"}


def test_the_worker_pins_torch_and_torchaudio_of_one_release() -> None:
    pins = {
        pin.name: next(iter(pin.specifier)).version
        for pin in (Requirement(line) for line in CONSTRAINTS.read_text().splitlines() if not line.startswith("#"))
    }
    assert set(pins) == {"torch", "torchaudio"}
    torch, torchaudio = Version(pins["torch"]), Version(pins["torchaudio"])
    assert torch.release[:2] == torchaudio.release[:2]
    for requirement in map(Requirement, EXTRAS["worker"]):
        if requirement.name in pins:
            assert requirement.specifier.contains(pins[requirement.name]), requirement


def test_the_worker_stands_on_a_cuda_runtime() -> None:
    (base,) = arguments(ROOT / "docker" / "worker.Dockerfile", "FROM")
    assert re.fullmatch(r"nvidia/cuda:\d+\.\d+\.\d+-(base|runtime)-ubuntu\d+\.\d+", base)
