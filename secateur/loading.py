"""`load`: loads a downloaded checkpoint as a transformers model, with the class that the checkpoint names."""

import importlib
from pathlib import Path
from typing import Any

from checkpoints.families import family_of
from checkpoints.files.safe_json import UnsafeJsonError, load_object
from secateur.errors import InvalidRequest, MissingDependency, TrustRequired

_MOST_CONFIG_BYTES = 2**24


def load(folder: str | Path, *, trust_remote_code: bool = False, **options: Any) -> Any:
    """Load a model from a folder written by `Job.download` or `secateur prune`, ready to be called.

    >>> model = load("./pruned", trust_remote_code=True)
    >>> model = load("./pruned", trust_remote_code=True, dtype="float16")

    Args:
        trust_remote_code: whether to run the Python files beside the weights. Checkpoints have them if their layers differ in
            width, and never with `pruning={"layout": "stock"}`.
        options: further arguments of `from_pretrained`.

    Raises TrustRequired, InvalidRequest if the folder contains no checkpoint, MissingDependency without transformers.
    """
    path = Path(folder)
    config = _config(path)
    auto_map = config.get("auto_map")
    if isinstance(auto_map, dict) and auto_map:
        if trust_remote_code is not True:
            files = ", ".join(sorted(file.name for file in path.glob("*.py")))
            detail = (
                f"{path} contains Python files ({files}), because its layers differ in width. Loading the model runs them. "
                "Read them, then pass `trust_remote_code=True`."
            )
            raise TrustRequired(detail, code="trust_required")
        auto_class = _own_class(config, auto_map)
    else:
        auto_class = _stock_class(path, config)
    try:
        transformers = importlib.import_module("transformers")
    except ImportError as error:
        detail = "Loading a model needs transformers 5.10 or later: pip install 'transformers>=5.10' torch."
        raise MissingDependency(detail, code="missing_dependency") from error
    loader = getattr(transformers, auto_class)
    return loader.from_pretrained(str(path), trust_remote_code=trust_remote_code, **options)


def _config(folder: Path) -> dict[str, Any]:
    file = folder / "config.json"
    if not file.is_file():
        raise InvalidRequest(f"{folder} has no config.json, so it is not a checkpoint folder.", code="file_missing")
    try:
        return load_object(file.read_bytes(), _MOST_CONFIG_BYTES)
    except UnsafeJsonError as error:
        raise InvalidRequest(f"{file} {error}.", code="config_invalid") from None


def _own_class(config: dict[str, Any], auto_map: dict[str, Any]) -> str:
    """Of the auto classes that find a class beside the weights, the one that finds the class that was saved."""
    named = config.get("architectures") or [None]
    found = [str(name) for name in auto_map if str(name).startswith("AutoModel")]
    own = [name for name in found if str(auto_map[name]).rpartition(".")[2] == named[0]]
    return (own or found or ["AutoModel"])[0]


def _stock_class(folder: Path, config: dict[str, Any]) -> str:
    family = family_of(str(config.get("model_type")))
    named = config.get("architectures")
    name = str(named[0]) if isinstance(named, list) and named else ""
    if family is None or name not in family.architectures:
        detail = f"{folder / 'config.json'} names the class {name!r}, which this client does not know. Load it with transformers."
        raise InvalidRequest(detail, code="architecture_unsupported")
    return family.architectures[name].auto_class
