"""The API image has no torch. What it installs is worked out from pyproject.toml and everything else is hidden from Python;
then each of its programs is loaded in a fresh interpreter."""

import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

HIDE = """
import sys

class Hidden:
    def __init__(self, names):
        self.names = names

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"{name} is not in the API image", name=name)
        return None

names, program = set(sys.argv[1].split(",")), sys.argv[2]
for name in names:
    assert name not in sys.modules, name
sys.meta_path.insert(0, Hidden(names))
exec(program)
print("done")
"""


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def installed_by(requirements: list[str]) -> set[str]:
    """Names of all distributions that pip would install for these requirements, as far as they are installed here."""
    found: set[tuple[str, str]] = set()
    names: set[str] = set()
    waiting = [(Requirement(line), "") for line in requirements]
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonical(requirement.name)
        for wanted in ("", *requirement.extras):
            if (name, wanted) in found:
                continue
            found.add((name, wanted))
            names.add(name)
            try:
                needs = metadata.requires(name) or []
            except metadata.PackageNotFoundError:
                continue
            waiting += [(Requirement(line), wanted) for line in needs]
    return names


@pytest.fixture(scope="module")
def hidden() -> str:
    """Top-level modules that are installed here and would not be in the image."""
    extras = PROJECT["optional-dependencies"]
    image = installed_by(PROJECT["dependencies"] + extras["server"] + extras["tracing"])
    assert {"fastapi", "sqlalchemy", "celery", "pydantic"} <= image
    hidden = {
        module
        for module, owners in metadata.packages_distributions().items()
        if not {canonical(owner) for owner in owners} & (image | {"secateur", "secateur-server", "pip", "setuptools"})
    }
    assert {"torch", "transformers", "peft", "datasets", "pytest"} <= hidden
    # Test tools that an interpreter here loads by itself, before any of our code.
    loaded = subprocess.run([sys.executable, "-c", "import sys; print(*sys.modules)"], capture_output=True, text=True)
    return ",".join(sorted(hidden - set(loaded.stdout.split())))


def run(hidden: str, program: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", HIDE, hidden, program],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "SECATEUR_DATA_DIR": str(folder), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    "program",
    [
        "from service.app import create_app; create_app()",
        # Celery makes its tasks when the worker starts, not at import.
        "from worker.maintenance import app; app.finalize(); assert 'secateur.sweep' in app.tasks",
        "from store.database.connection import Database",
        "import secateur.cli",
        "import store.tracing.provider, opentelemetry.exporter.otlp.proto.http.trace_exporter",
    ],
)
def test_starts_with_what_the_image_installs(program: str, hidden: str, tmp_path: Path) -> None:
    result = run(hidden, program, tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "done"


def test_the_engine_does_not_start_there(hidden: str, tmp_path: Path) -> None:
    result = run(hidden, "import worker.engine.run", tmp_path)
    assert result.returncode != 0
    assert "is not in the API image" in result.stderr
