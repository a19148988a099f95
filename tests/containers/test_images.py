"""What the images hold: exactly what their locks say, no torch in the API's, and nothing larger than it should be."""

import json

import pytest
from packaging.requirements import Requirement

from tests.containers import engine

INSTALLED = """
import json
from importlib.metadata import distributions

print(json.dumps({each.name: each.version for each in distributions()}))
"""
API_BYTES = 275_000_000
"""Of the API image beyond its base: with Debian's Python of some 125 MB below it an image of 400 MB."""


def installed(program: str, image: str) -> dict[str, str]:
    said = engine.done(program, "run", "--rm", "--network=none", image, "python", "-c", INSTALLED)
    return {name.lower().replace("_", "-"): version for name, version in json.loads(said).items()}


def locked(lock: str, python: str) -> dict[str, str]:
    lines = (engine.ROOT / "docker" / "locks" / f"{lock}.txt").read_text().splitlines()
    asked = [Requirement(line.rstrip("\\ ")) for line in lines if "==" in line]
    here = {"python_full_version": python, "python_version": ".".join(python.split(".")[:2])}
    return {
        each.name: str(each.specifier).removeprefix("==")
        for each in asked
        if each.marker is None or each.marker.evaluate(here)
    }


@pytest.mark.parametrize(("image", "lock"), [("secateur/api", "api"), ("secateur/worker-cpu", "worker-cpu")])
def test_an_image_holds_what_its_lock_says(program: str, images: str, image: str, lock: str) -> None:
    python = engine.done(
        program, "run", "--rm", f"{image}:{images}", "python", "-c", "import platform; print(platform.python_version())"
    )
    found = installed(program, f"{image}:{images}")
    assert found.pop("secateur") == found.pop("secateur-server")
    found.pop("pip", None)
    found = {name: version.removesuffix("+cpu") for name, version in found.items()}
    assert found == locked(lock, python.strip())
    assert ("torch" in found) == (lock == "worker-cpu")


def test_the_api_is_small(program: str, images: str) -> None:
    def size(image: str) -> int:
        return int(engine.done(program, "image", "inspect", "--format", "{{.Size}}", image))

    base = size("python:3.12-slim-bookworm")
    whole = size(f"secateur/api:{images}")
    print(f"API image: {whole / 1e6:.0f} MB, of which its base {base / 1e6:.0f} MB")
    assert whole - base < API_BYTES


def test_torchaudio_can_be_imported_beside_torch_for_the_cpu(program: str, images: str) -> None:
    image = f"secateur/worker-cpu:{images}"
    said = engine.done(
        program, "run", "--rm", image, "python", "-c", "import torch, torchaudio; print(torch.version.cuda)"
    )
    assert said.split()[-1] == "None"
