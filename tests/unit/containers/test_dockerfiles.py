"""The Dockerfiles: clean by hadolint, and what hadolint cannot know: users, what is copied, which versions are installed."""

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from store.settings import Settings

ROOT = Path(__file__).parents[3]
DOCKERFILES = tuple(sorted((ROOT / "docker").glob("*.Dockerfile")))


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
        for source in copied.replace("${TORCH}", "cpu").split()[:-1]:
            assert (ROOT / source).exists(), source
            assert any(source == entry or source.startswith(f"{entry}/") for entry in allowed), source


def test_every_room_the_server_needs_is_in_both_images() -> None:
    for dockerfile in DOCKERFILES:
        copied = {part for line in arguments(dockerfile, "COPY") for part in line.split()}
        assert {"api_schemas", "checkpoints", "store", "service", "worker", "secateur", "server"} <= copied


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_everything_but_our_own_code_is_installed_by_hash(dockerfile: Path) -> None:
    steps = re.findall(
        r"(?<!&& )pip install[^&]*|pip --python \S+ install[^&]*|pip wheel[^&]*", " ".join(arguments(dockerfile, "RUN"))
    )
    assert steps
    for step in steps:
        ours = re.search(r" (\. \./server|/wheels/\*\.whl)\s*$|--wheel-dir /wheels \. \./server\s*$", step)
        assert "--no-deps" in step, step
        assert ours or "--require-hashes" in step, step
        assert "--no-build-isolation" in step or not step.rstrip().endswith(" ./server"), step


def test_the_base_images_are_arguments_with_defaults() -> None:
    defaults = {
        path.name: dict(argument.split("=", 1) for argument in arguments(path, "ARG") if "=" in argument)
        for path in DOCKERFILES
    }
    assert defaults["api.Dockerfile"] == {"BASE_IMAGE": "python:3.12-slim-bookworm"}
    worker = defaults["worker.Dockerfile"]
    assert worker["CPU_IMAGE"] == "python:3.12-slim-bookworm"
    assert worker["TORCH"] == "cuda"
    assert re.fullmatch(r"nvidia/cuda:\d+\.\d+\.\d+-(base|runtime)-ubuntu\d+\.\d+", worker["CUDA_IMAGE"])
    stages = [
        line.rpartition(" AS ")[2]
        for line in arguments(ROOT / "docker" / "worker.Dockerfile", "FROM")
        if " AS " in line
    ]
    # The argument names a stage, a lock and the device of the settings.
    for torch in stages:
        assert (ROOT / "docker" / "locks" / f"worker-{torch}.txt").exists()
        assert Settings(device=torch).device == torch
    assert stages == ["cuda", "cpu"]


def test_the_build_of_the_api_imports_what_its_processes_import() -> None:
    """Or they would compile it at every start, and what is removed from the image could be missed."""
    slim = runpy.run_path(str(ROOT / "docker" / "slim.py"))
    code = (
        f"import sys, importlib; [importlib.import_module(name) for name in {slim['IMPORTED']!r}]; print(*sys.modules)"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert {"service.app", "worker.maintenance", "store.queue.consumer", "store.queue.scheduler"} <= set(loaded)
    assert {"pyarrow.parquet", "soundfile", "PIL.Image", "alembic"} <= set(loaded)
    assert "torch" not in loaded
