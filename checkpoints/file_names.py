"""Which files of a folder make a checkpoint, from their names alone, and what the folder contains if none do."""

import re
from collections.abc import Collection, Iterable
from pathlib import Path

from api_schemas.errors import ErrorCode, ErrorItem, SecateurError
from checkpoints.families import ALL_FAMILIES, Family
from checkpoints.files.shards import INDEX_NAME, SHARD_NAME, WEIGHTS_NAME

CONFIG = "config.json"
ADAPTER = "adapter_config.json"
"""Of what is put on top of a model and is none."""
PICKLES = re.compile(r"pytorch_model(-\d{5}-of-\d{5})?\.bin|model\.(pt|pth|ckpt)")
CONVERT = "secateur convert"
_OTHERS = (
    (re.compile(r"(shared_|source_|target_)?vocabulary\.(json|txt)"), "a CTranslate2 model"),
    (re.compile(r".*\.gguf"), "a GGUF file"),
    (re.compile(r"onnx|.*\.onnx"), "an ONNX graph"),
    (re.compile(r"tf_model\.h5|.*\.tflite"), "a TensorFlow model"),
    (re.compile(r"flax_model.*\.msgpack"), "a Flax model"),
)
"""What cannot be pruned, as it is or at all, by a name that lies in its folder."""
_TRAINER = re.compile(r"checkpoint-(\d{1,9})")


ALLOWED = frozenset(name for family in ALL_FAMILIES for name in family.files)
"""What may be kept of a folder beside its weights, whatever the family."""
FOLDERS = tuple(sorted({name.rpartition("/")[0] for name in ALLOWED} - {""}))
"""Folders below it with such files in them."""


def is_of_checkpoint(name: str) -> bool:
    """Whether a file of this name is kept: all else is not needed, and is left where it is."""
    return name in ALLOWED or is_weights(name)


def is_weights(name: str) -> bool:
    """Whether it is the checkpoint's weights, one shard of them, or the index of its shards."""
    return name in (WEIGHTS_NAME, INDEX_NAME) or SHARD_NAME.fullmatch(name) is not None


def names_in(folder: Path) -> list[str]:
    """The files in a folder, in order, and in those folders below it that a checkpoint's files may lie in."""
    places = [folder, *(folder / below for below in FOLDERS if (folder / below).is_dir())]
    files = (path for place in places for path in place.iterdir() if path.is_file())
    return sorted(path.relative_to(folder).as_posix() for path in files)


def checkpoint_names(names: Iterable[str], family: Family | None = None) -> list[str]:
    """Of a folder with whatever in it, the files that a checkpoint is read from: a model card or a report is none of them.

    Without a family, whatever a checkpoint of any has.
    """
    families = ALL_FAMILIES if family is None else (family,)
    known = {name for each in families for name in each.files} - {"README.md"}
    found = [name for name in names if name in known or is_weights(name)]
    if WEIGHTS_NAME in found:
        # Some publish one file and its shards: one of the two is enough.
        return [name for name in found if name != INDEX_NAME and not SHARD_NAME.fullmatch(name)]
    return found


def require_weights(names: Collection[str], where: str) -> None:
    """Raise FILE_MISSING where no weights are among the names of files and folders, with what is there and what to do with it.

    `where` begins the sentence: a folder, a repository.
    """
    if any(map(is_weights, names)):
        return
    lacks = WEIGHTS_NAME if CONFIG in names else f"{WEIGHTS_NAME} and no {CONFIG}"
    detail = f"{where} has no {lacks}{_instead(names)}"
    item = ErrorItem.at(WEIGHTS_NAME, code=ErrorCode.FILE_MISSING, detail="required, but missing")
    raise SecateurError(ErrorCode.FILE_MISSING, detail, (item,))


def foreign(name: str) -> str | None:
    """What a file of this name is, where no checkpoint of transformers has it and none can be made of it."""
    return next((what for pattern, what in _OTHERS if pattern.fullmatch(name)), None)


def _instead(names: Collection[str]) -> str:
    # A listing of a bucket or of the hub has no folders, only what lies in them.
    folders = {name.partition("/")[0] for name in names}
    steps = sorted(int(match[1]) for name in folders if (match := _TRAINER.fullmatch(name)))
    pickles = sorted(filter(PICKLES.fullmatch, names))
    others = [what for pattern, what in _OTHERS if any(map(pattern.fullmatch, {*names, *folders}))]
    if ADAPTER in names:
        return f", only an adapter. Merge it into its base model: {CONVERT} FOLDER --base FOLDER_OF_THE_MODEL."
    if pickles and CONFIG in names:
        return f", only {pickles[0]}, a pickle file, which could run code. Convert it to safetensors: {CONVERT} FOLDER."
    if others:
        return f", only {others[0]}, which cannot be pruned. Use the transformers checkpoint that it was made from."
    if steps:
        last = f"checkpoint-{steps[-1]}"
        return f". It contains checkpoints of a Trainer: use one of them; {last} is the latest."
    return ". Load the model with transformers and save it with `save_pretrained`."
