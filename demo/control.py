"""What of `make demo` is measured once and kept: the control, for runs with the same code, model, data and settings on this
machine, and the score of the model before anything is removed."""

import hashlib
import json
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console

from demo import cache, inputs, score
from demo.results import Outcome

_CODE = ("api_schemas", "checkpoints", "store", "service", "worker", "secateur", "demo")
_LIBRARIES = ("torch", "transformers", "peft", "numpy")


@dataclass(frozen=True)
class Given:
    """What the control depends on beside the code. The names of model and data are hashes of what they are made of."""

    model: str
    data: str
    request: dict[str, Any]
    clips: int
    settings: dict[str, str]


def control(given: Given, measure: Callable[[], Outcome], console: Console) -> Outcome:
    """What `measure` returns, or returned in an earlier run."""
    measured: list[Outcome] = []

    def make(folder: Path) -> None:
        measured.append(measure())
        (folder / "outcome.json").write_text(json.dumps(measured[0].document()))

    folder = cache.cached(inputs.ROOT, "control", given, (), make, depends=_code())
    if measured:
        return measured[0]
    console.print(
        f"The control is that of an earlier run, with the same code and settings; without {folder} it runs again."
    )
    return Outcome.of(json.loads((folder / "outcome.json").read_text()))


@dataclass(frozen=True)
class _Scored:
    model: str
    data: str
    clips: int
    libraries: tuple[str, ...]


def kept_score(model: str, data: str, clips: int, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The score of the model before anything is removed: what `measure` returns, or returned in an earlier run."""

    def make(folder: Path) -> None:
        (folder / "score.json").write_text(json.dumps(measure()))

    libraries = tuple(version(name) for name in _LIBRARIES)
    folder = cache.cached(inputs.ROOT, "before", _Scored(model, data, clips, libraries), (score,), make)
    found: dict[str, Any] = json.loads((folder / "score.json").read_text())
    return found


def _code() -> str:
    """A hash of all code that a job runs, and of the machine, on which its times depend."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for package in _CODE:
        for path in sorted((root / package).rglob("*.py")):
            digest.update(path.relative_to(root).as_posix().encode())
            digest.update(path.read_bytes())
    about = [*(version(name) for name in _LIBRARIES), platform.python_version(), platform.node(), str(os.cpu_count())]
    digest.update("\n".join(about).encode())
    return digest.hexdigest()
