"""The container engine of this machine, the images built with it, and Compose on a copy of our files."""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.support.servers.receiver import serving

ROOT = Path(__file__).parents[2]
OVERRIDE = Path(__file__).with_name("override.yml")
IMAGES = {"secateur/api": ("api", ()), "secateur/worker-cpu": ("worker", ("TORCH=cpu",))}
TORCH = next(
    line.split()[0]
    for line in (ROOT / "docker/locks/worker-cpu.txt").read_text().splitlines()
    if line.startswith("torch==")
)


class Quiet(SimpleHTTPRequestHandler):
    """Files of a folder."""

    def log_message(self, *_: object) -> None:
        """Nothing."""


def find() -> tuple[str, str]:
    """The engine's program and a line that says which it is. Raises LookupError, with what is missing."""
    missing = []
    for name in ("docker", "podman"):
        if shutil.which(name) is None:
            missing.append(f"no {name}")
        elif said(name, "info").returncode:
            missing.append(f"{name} has no engine that answers")
        elif said(name, "compose", "version").returncode:
            missing.append(f"{name} has no Compose")
        else:
            version = said(name, "version", "--format", "{{.Server.Version}}").stdout.strip()
            return name, f"{name} {version}, {said(name, 'compose', 'version').stdout.splitlines()[0]}"
    raise LookupError(", ".join(missing))


def said(*command: str, **more: Any) -> subprocess.CompletedProcess[str]:
    """A command that may fail."""
    return subprocess.run(command, capture_output=True, text=True, check=False, **more)


def done(*command: str, **more: Any) -> str:
    """What a command prints that may not. Raises AssertionError, with all that it said."""
    result = said(*command, **more)
    assert result.returncode == 0, f"{' '.join(command)}\n{result.stdout[-4000:]}\n{result.stderr[-4000:]}"
    return result.stdout


def build(engine: str, tag: str, folder: Path) -> None:
    """Both images as they are for a machine without a GPU, tagged with `tag`."""
    for image, (dockerfile, arguments) in IMAGES.items():
        with torch_index(folder) if arguments else without_index() as index:
            options = [f"--build-arg={argument}" for argument in (*arguments, *index)]
            file = str(ROOT / "docker" / f"{dockerfile}.Dockerfile")
            command = [
                engine,
                "build",
                "--network=host",
                "--file",
                file,
                "--tag",
                f"{image}:{tag}",
                *options,
                str(ROOT),
            ]
            done(*command, env={**os.environ, "DOCKER_BUILDKIT": "1"})


@contextmanager
def without_index() -> Iterator[list[str]]:
    """Nothing for a build that installs no torch."""
    yield []


@contextmanager
def torch_index(folder: Path) -> Iterator[list[str]]:
    """The argument of a build that takes torch for the CPU where pip takes it here; none where that is a build for CUDA."""
    where = ["--extra-index-url", os.environ["TORCH_INDEX"]] if os.environ.get("TORCH_INDEX") else []
    wheels = folder / "index" / "torch"
    done(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(wheels), TORCH, *where)
    if not list(wheels.glob("*+cpu-*")):
        yield []
        return
    handler = partial(Quiet, directory=str(folder / "index"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    with serving(server):
        yield [f"TORCH_INDEX=http://127.0.0.1:{server.server_address[1]}"]


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class Compose:
    """A project of its own in a folder with a copy of docker-compose.yml and docker, set up by docker/setup.sh."""

    def __init__(self, engine: str, folder: Path, tag: str) -> None:
        self.engine, self.folder = engine, folder
        folder.mkdir()
        for name in ("docker-compose.yml", "docker"):
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, folder / name)
        for left in ("secrets", ".env"):
            shutil.rmtree(folder / "docker" / left, ignore_errors=True)
            (folder / "docker" / left).unlink(missing_ok=True)
        self.https_port = free_port()
        self.environment = {
            **os.environ,
            "COMPOSE_PROJECT_NAME": "secateur-test",
            "SECATEUR_VERSION": tag,
            "SECATEUR_PORT": str(free_port()),
            "HTTPS_PORT": str(self.https_port),
            "PROXY_SUBNET": "172.31.254.0/29",
            "PROXY_ADDRESS": "172.31.254.2",
            "API_ADDRESS": "172.31.254.3",
            "FORWARDED_ALLOW_IPS": "172.31.254.2",
        }
        self.setup()

    def setup(self) -> str:
        """What docker/setup.sh says."""
        return done(str(self.folder / "docker" / "setup.sh"), "cpu")

    def command(self, *arguments: str) -> list[str]:
        """docker compose … on our files."""
        files = ["--file", str(self.folder / "docker-compose.yml"), "--file", str(OVERRIDE)]
        where = ["--project-directory", str(self.folder), "--env-file", str(self.folder / "docker" / ".env")]
        return [self.engine, "compose", *where, *files, "--profile", "cpu", "--profile", "tls", *arguments]

    def __call__(self, *arguments: str, **more: Any) -> str:
        """What it prints. Raises AssertionError where it fails."""
        return done(*self.command(*arguments), env=self.environment, **more)

    def up(self, *services: str) -> None:
        """Start, and wait until everything is healthy."""
        self("up", "--detach", "--wait", *services)

    def kill(self, service: str) -> None:
        """By KILL, without a word; then start it again, and wait until it is healthy."""
        self("kill", "--signal", "KILL", service)
        self("up", "--detach", "--no-deps", "--wait", service)

    def state(self, service: str) -> dict[str, Any]:
        """What the engine knows of a service's container."""
        (container,) = self("ps", "--all", "--quiet", service).split()
        (found,) = json.loads(done(self.engine, "inspect", container))
        return dict(found)
