"""docker/setup.sh, really run in a copy of its folder: for newcomers, for who comes from a version before it, and twice."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture
def docker(tmp_path: Path) -> Path:
    folder = tmp_path / "docker"
    folder.mkdir()
    for name in ("setup.sh", "env.example"):
        shutil.copy(ROOT / "docker" / name, folder / name)
    return folder


def run(docker: Path, *arguments: str, path: str = "/usr/bin:/bin") -> subprocess.CompletedProcess[str]:
    command = [str(docker / "setup.sh"), *arguments]
    return subprocess.run(command, env={"PATH": path}, capture_output=True, text=True, check=False)


def settings(docker: Path) -> dict[str, str]:
    lines = (docker / ".env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def secrets(docker: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (docker / "secrets").iterdir()}


def test_a_newcomer_gets_settings_and_secrets(docker: Path) -> None:
    assert run(docker, "cpu").returncode == 0
    assert settings(docker)["COMPOSE_PROFILES"] == "cpu"
    assert settings(docker)["WORKER_MEMORY"].endswith("k")
    made = secrets(docker)
    assert set(made) == {"database_password", "broker_password", "broker.conf"}
    assert made["broker.conf"] == f"requirepass {made['broker_password']}"
    assert made["database_password"] != made["broker_password"]
    assert all(len(made[name].strip()) == 48 for name in ("database_password", "broker_password"))


def test_nobody_else_gets_at_them(docker: Path) -> None:
    """The folder keeps others out; a container, whose user is another, reads the file that it is shown."""
    run(docker, "cpu")
    assert (docker / "secrets").stat().st_mode & 0o777 == 0o700
    assert (docker / ".env").stat().st_mode & 0o777 == 0o600
    assert {path.stat().st_mode & 0o777 for path in (docker / "secrets").iterdir()} == {0o444}


def test_what_is_there_stays(docker: Path) -> None:
    run(docker, "cpu")
    (docker / "secrets" / "broker.conf").unlink()
    before, environment = secrets(docker), (docker / ".env").read_text()
    assert run(docker, "gpu").returncode == 0
    after = secrets(docker)
    assert after == {**before, "broker.conf": f"requirepass {before['broker_password']}"}
    assert (docker / ".env").read_text() == environment


@pytest.mark.parametrize("written", ["hunter2", "'hunter2'", '"hunter2"'])
def test_who_has_an_env_from_before_keeps_password_and_worker(docker: Path, written: str) -> None:
    old = f"POSTGRES_PASSWORD={written}\nSECATEUR_HOST=prune.example.org\n"
    (docker / ".env").write_text(old)
    assert run(docker).returncode == 0
    assert secrets(docker)["database_password"] == "hunter2\n"
    assert (docker / ".env").read_text().startswith(old)
    assert settings(docker)["COMPOSE_PROFILES"] == "gpu"
    assert "WORKER_MEMORY" not in settings(docker)


@pytest.mark.parametrize(("gpus", "profile"), [(0, "gpu"), (1, "cpu")])
def test_a_newcomer_gets_the_worker_that_the_machine_is_for(docker: Path, gpus: int, profile: str) -> None:
    program = docker / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\nexit {gpus}\n")
    program.chmod(0o755)
    run(docker, path=f"{program.parent}:/usr/bin:/bin")
    assert settings(docker)["COMPOSE_PROFILES"] == profile


def test_says_how_to_use_it(docker: Path) -> None:
    result = run(docker, "tpu")
    assert result.returncode == 64
    assert "docker/setup.sh [cpu | gpu]" in result.stderr
    assert not (docker / "secrets").exists()
