"""Which files of a checkpoint folder are sent, and how a model in memory becomes a folder."""

import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from api_schemas.errors import ErrorCode, SecateurError
from checkpoints.describe import describe_folder
from checkpoints.families import family_of
from checkpoints.file_names import CONFIG, checkpoint_names, names_in, require_weights
from checkpoints.files.safe_json import UnsafeJsonError, load_object
from secateur.client.files.uploads import LocalFile
from secateur.errors import InvalidRequest

_MOST_CONFIG_BYTES = 2**24


class Saves(Protocol):
    """What transformers' models and processors can do."""

    def save_pretrained(self, save_directory: str, /, **more: Any) -> Any: ...


def model_files(folder: Path) -> list[LocalFile]:
    """Config, weights and what inputs are made with; cards, reports and weights of other frameworks stay here (`left_out`).

    config.json first and weights last: a service that cannot take such a model says so before gigabytes are sent.

    Raises InvalidRequest where the folder holds no checkpoint, or weights that do not fit its config.json.
    """
    if not folder.is_dir():
        raise _unusable(f"{folder} is not a folder. Give a folder as `save_pretrained` writes it.", "file_missing")
    every = sorted(path.name for path in folder.iterdir())
    names = names_in(folder)
    try:
        require_weights(every, str(folder))
    except SecateurError as error:
        raise _unusable(error.detail, error.code.value) from None
    if CONFIG not in names:
        raise _unusable(f"{folder} has no {CONFIG}. Give a folder as `save_pretrained` writes it.", "file_missing")
    try:
        config = load_object((folder / CONFIG).read_bytes(), _MOST_CONFIG_BYTES)
    except UnsafeJsonError as error:
        raise _unusable(f"{folder / CONFIG} {error}.", "config_invalid") from None
    _check_weights(folder)
    chosen = checkpoint_names(names, family_of(str(config.get("model_type"))))
    # config.json before all others.
    chosen.sort(key=lambda name: (name.endswith(".safetensors"), name != CONFIG, name))
    return [LocalFile(name, folder / name) for name in chosen]


def _check_weights(folder: Path) -> None:
    """What only headers and config.json together tell, which the service has once all of it is sent. The rest is for it to say.

    Raises InvalidRequest where the weights do not fit config.json.
    """
    try:
        describe_folder(folder)
    except SecateurError as error:
        if error.code is ErrorCode.WEIGHTS_MISMATCH:
            raise _unusable(f"{folder}: {error.detail}", error.code.value) from None


def left_out(folder: Path, sent: Collection[LocalFile]) -> list[str]:
    """Files and folders beside those that are sent, by name; what is hidden is not counted."""
    names = {file.name.partition("/")[0] for file in sent}
    return sorted(path.name for path in folder.iterdir() if path.name not in names and not path.name.startswith("."))


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
