"""Which files of a checkpoint folder are sent; and a model that lives in memory, as a folder."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from checkpoints.families import family_of
from checkpoints.file_names import checkpoint_names
from checkpoints.files.safe_json import UnsafeJsonError, load_object
from secateur.client.files.uploads import LocalFile
from secateur.errors import InvalidRequest

CONFIG = "config.json"
_MOST_CONFIG_BYTES = 2**24
_PICKLES = (".bin", ".pt", ".pth", ".ckpt")


class Saves(Protocol):
    """What transformers' models and processors can do."""

    def save_pretrained(self, save_directory: str, /, **more: Any) -> Any: ...


def model_files(folder: Path) -> list[LocalFile]:
    """Config, weights and what inputs are made with; cards, reports and weights of other frameworks stay here.

    Raises InvalidRequest where the folder holds no checkpoint.
    """
    if not folder.is_dir():
        raise _unusable(f"{folder} is no folder. Give a folder as `save_pretrained` writes it.", "file_missing")
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    if CONFIG not in names:
        raise _unusable(f"{folder} has no {CONFIG}. Give a folder as `save_pretrained` writes it.", "file_missing")
    try:
        config = load_object((folder / CONFIG).read_bytes(), _MOST_CONFIG_BYTES)
    except UnsafeJsonError as error:
        raise _unusable(f"{folder / CONFIG} {error}.", "config_invalid") from None
    chosen = checkpoint_names(names, family_of(str(config.get("model_type"))))
    if not any(name.endswith(".safetensors") for name in chosen):
        pickles = [name for name in names if name.endswith(_PICKLES)]
        found = f" ({', '.join(pickles[:3])} are pickles, which are not accepted)" if pickles else ""
        detail = (
            f"{folder} has no safetensors{found}. Load the model with transformers and save it with `save_pretrained`."
        )
        raise _unusable(detail, "file_missing")
    return [LocalFile(name, folder / name) for name in chosen]


@contextmanager
def saved(model: Saves, processor: Saves | None) -> Iterator[Path]:
    """A temporary folder with the model, and with what makes its inputs."""
    with tempfile.TemporaryDirectory(prefix="secateur-model-") as folder:
        model.save_pretrained(folder)
        if processor is not None:
            processor.save_pretrained(folder)
        yield Path(folder)


def _unusable(detail: str, code: str) -> InvalidRequest:
    return InvalidRequest(detail, code=code)
