"""The demo's checkpoint and data: made here and kept under `.demo/`, or given by DEMO_MODEL and DEMO_DATA.

`python -m demo.inputs` makes or finds both and prints the two folders; `make bench` uses them.
"""

import os
import tempfile
from pathlib import Path
from typing import TypeVar

import torch
from rich.console import Console

from api_schemas.errors import SecateurError
from demo import DemoError, cache, keywords, phonemes, score, train
from secateur.client.files import packing

ROOT = Path(".demo")
_Number = TypeVar("_Number", int, float)


def model_and_data(console: Console) -> tuple[Path, Path, bool]:
    """(checkpoint folder, folder of parquet shards, whether they are the demo's own).

    Raises DemoError where only one of the two is given, or one cannot be used.
    """
    model, data = os.environ.get("DEMO_MODEL"), os.environ.get("DEMO_DATA")
    if bool(model) != bool(data):
        raise DemoError("Set both DEMO_MODEL and DEMO_DATA, or neither: the labels of the two must match.")
    if model and data:
        return _given_model(Path(model)), _given_data(Path(data), console), False
    torch.set_num_threads(1)  # Equal sums in equal order, whatever the number of cores.
    own_data = _keyword_data(console)
    return _keyword_model(own_data, console), own_data, True


def _keyword_data(console: Console) -> Path:
    def make(folder: Path) -> None:
        console.print(f"Synthesising keyword data: {len(phonemes.WORDS)} words, about half a minute, kept in {ROOT}/ …")
        keywords.make_folder(keywords.KeywordData(), folder / "wav")
        packing.pack_folder(folder / "wav", folder)

    return cache.cached(ROOT, "keywords", keywords.KeywordData(), (keywords, phonemes, packing), make)


def _keyword_model(data: Path, console: Console) -> Path:
    recipe = train.Recipe()

    def make(folder: Path) -> None:
        console.print(f"Training a small AST on it: {recipe.epochs} epochs on one core, about a minute …")
        reached = train.train(
            data, folder, recipe, lambda epoch, loss: console.print(f"  epoch {epoch}/{recipe.epochs}: loss {loss:.3f}")
        )
        console.print(f"  accuracy on validation: {reached:.1%}")

    return cache.cached(ROOT, "model", recipe, (train, score), make, depends=data.name)


def _given_model(folder: Path) -> Path:
    if not (folder / "config.json").is_file():
        raise DemoError(f"DEMO_MODEL={folder} has no config.json")
    return folder.absolute()


def _given_data(folder: Path, console: Console) -> Path:
    """Parquet shards are taken as they are; a folder of recordings is packed, anew each time."""
    if next(folder.glob("*.parquet"), None) is not None:
        return _with_test_split(folder.absolute())
    if not folder.is_dir():
        raise DemoError(f"DEMO_DATA={folder} is not a folder")
    console.print(f"Packing the recordings in {folder} …")
    ROOT.mkdir(exist_ok=True)
    packed = Path(tempfile.mkdtemp(prefix="packed-", dir=ROOT)).absolute()
    try:
        packing.pack_folder(folder, packed)
    except (ValueError, SecateurError) as error:
        raise DemoError(str(error)) from error
    return _with_test_split(packed)


def _with_test_split(folder: Path) -> Path:
    """The fresh process at the end scores the test split: better to miss it now than after the job."""
    if not [*folder.glob("test.parquet"), *folder.glob("test-*.parquet")]:
        raise DemoError("DEMO_DATA has no split `test`, which the demo needs to compare the checkpoints.")
    return folder


def test_clips() -> int:
    """How many test clips the fresh process scores (DEMO_CLIPS)."""
    return number("DEMO_CLIPS", 500)


def number(name: str, default: _Number) -> _Number:
    """What an environment variable says, where it is set and not empty: whole where `default` is. Raises DemoError."""
    given = os.environ.get(name) or default
    try:
        return type(default)(given)
    except ValueError:
        kind = "whole number" if isinstance(default, int) else "number"
        raise DemoError(f"{name} is {given!r}, which is not a {kind}.") from None


if __name__ == "__main__":
    print(*model_and_data(Console(stderr=True))[:2])
