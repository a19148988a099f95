"""The files of an uploaded checkpoint: which names, what is in them, and what they describe together.

Reads through `ModelFiles`, so that weights in an object store are judged by their headers and never downloaded.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

from api_schemas.errors import ErrorCode, ErrorItem, SecateurError
from api_schemas.results.metrics import JobWarning
from checkpoints.config.architectures import of_sentences
from checkpoints.config.checkpoint_config import without_nulls
from checkpoints.config.pruned_layout import stock_config
from checkpoints.config.sentences import MAX_BYTES
from checkpoints.describe import MAX_CONFIG_BYTES, MAX_INDEX_BYTES, Checkpoint, describe_checkpoint, with_sentences
from checkpoints.file_names import is_of_checkpoint, is_weights
from checkpoints.files.preprocessor_files import (
    MODULES,
    PREPROCESSOR,
    PROCESSOR,
    SENTENCE_FILES,
    TOKENIZER_CONFIG,
    preprocessor_settings,
)
from checkpoints.files.safe_json import UnsafeJsonError, load_list, load_object
from checkpoints.files.safetensors_header import LENGTH_BYTES, TensorInfo, header_length, parse_header
from checkpoints.files.shards import INDEX_NAME, SHARD_NAME, WEIGHTS_NAME, merge_shards, shard_names
from store.uploads.inspection.file_kinds import MAGIC_BYTES, refuse_device, refuse_kind, refuse_magic
from store.uploads.inspection.models.inputs import check_preprocessor, check_settings, check_tokenizer

SUFFIXES = (".safetensors", ".json", ".jinja", ".md", ".txt")


class ModelFiles(Protocol):
    """The files of one upload."""

    @property
    def sizes(self) -> Mapping[str, int]:
        """Bytes by name."""

    def read(self, name: str, start: int, end: int) -> bytes:
        """Bytes start … end-1."""


def check_sizes(sizes: Mapping[str, int], max_file_bytes: int, max_bytes: int) -> None:
    """Before anything is fetched. Raises REQUEST_TOO_LARGE."""
    for name, size in sizes.items():
        if size > max_file_bytes:
            detail = f"{name} has {size} bytes; the maximum per file is {max_file_bytes}."
            raise SecateurError(ErrorCode.REQUEST_TOO_LARGE, detail)
    if sum(sizes.values()) > max_bytes:
        detail = f"The model's files have {sum(sizes.values())} bytes; the maximum on this server is {max_bytes}."
        raise SecateurError(ErrorCode.REQUEST_TOO_LARGE, detail)


def check_names(names: Iterable[str]) -> None:
    """Judge the names of a model's folder before any file is sent. What no checkpoint has may be among them (`is_of_checkpoint`):
    nothing of it is ever stored, be it code, a pickle or a picture.

    Raises FILE_NAME_REFUSED, FILE_UNEXPECTED (two of one name, or two sets of weights), FILE_MISSING, or FILE_TYPE_REFUSED where
    weights are missing and others, pickles and the like, are there.
    """
    every = list(names)
    folders = {name[:end] for name in every for end, sign in enumerate(name) if sign == "/"}
    for name, times in Counter(every).items():
        refuse_device(name)
        if times > 1:
            raise _unexpected(name, "it is declared more than once")
        if name in folders:
            raise _unexpected(name, "it is also declared as a folder")
    given = list(filter(is_of_checkpoint, every))
    shards = [name for name in given if SHARD_NAME.fullmatch(name)]
    if WEIGHTS_NAME not in given and not shards:
        for name in every:
            refuse_kind(name)
    if "config.json" not in given:
        raise _missing("config.json")
    if WEIGHTS_NAME in given:
        for name in (*shards, INDEX_NAME):
            if name in given:
                raise _unexpected(name, f"{WEIGHTS_NAME} is declared as well; send only one of the two")
    elif not shards:
        raise _missing(WEIGHTS_NAME)
    elif INDEX_NAME not in given:
        raise _missing(INDEX_NAME)


def describe_model(files: ModelFiles) -> Checkpoint:
    """Judge a whole checkpoint: every check there is short of loading it. Raises SecateurError with the code that fits."""
    check_names(files.sizes)
    for name, size in files.sizes.items():
        refuse_magic(name, files.read(name, 0, min(size, MAGIC_BYTES)))
    config = _read_object(files, "config.json", MAX_CONFIG_BYTES)
    if MODULES in files.sizes:
        config = of_sentences(config)
    checkpoint = describe_checkpoint(config, _tensors(files), files.read)
    family = checkpoint.family
    config = without_nulls(family, stock_config(config)[0])
    config["model_type"] = config.get("model_type") or family.model_types[0]
    for entry in family.required_files:
        one_of = (entry,) if isinstance(entry, str) else entry
        if not any(name in files.sizes for name in one_of):
            raise _missing(" or ".join(one_of))
    found = _check_inputs(files, checkpoint, config)
    checkpoint = with_sentences(checkpoint, partial(_read_beside, files), partial(_header_beside, files))
    return replace(checkpoint, warnings=(*checkpoint.warnings, *found, *_of_unused(files.sizes, checkpoint)))


def _of_unused(names: Iterable[str], checkpoint: Checkpoint) -> Iterator[JobWarning]:
    """Files of other families, and those of sentence-transformers where they say nothing of this model."""
    used = checkpoint.family.files - (set() if checkpoint.sentences is not None else set(SENTENCE_FILES))
    unused = [name for name in names if not is_weights(name) and name not in used]
    if unused:
        detail = f"Files that {checkpoint.name} does not use: {', '.join(unused)}. They are left out of the result."
        yield JobWarning(code="files_ignored", pointer="/files", detail=detail)


def _read_beside(files: ModelFiles, name: str) -> bytes | None:
    return files.read(name, 0, min(files.sizes[name], MAX_BYTES + 1)) if name in files.sizes else None


def _header_beside(files: ModelFiles, name: str) -> dict[str, TensorInfo] | None:
    return _header(files, name) if name in files.sizes else None


def _check_inputs(files: ModelFiles, checkpoint: Checkpoint, config: Mapping[str, Any]) -> tuple[JobWarning, ...]:
    """Of the files that say how inputs are made, those that are there. Returns what of them is not used."""
    found: tuple[JobWarning, ...] = ()

    def settings(name: str) -> dict[str, Any] | None:
        return _read_object(files, name, MAX_CONFIG_BYTES) if name in files.sizes else None

    processor = settings(PROCESSOR)
    preprocessor = preprocessor_settings(processor, settings(PREPROCESSOR))
    if checkpoint.family.preprocessors:
        if preprocessor is None:
            raise _missing(f"{PREPROCESSOR} or {PROCESSOR}")
        file = PROCESSOR if processor is not None and preprocessor in processor.values() else PREPROCESSOR
        found = check_preprocessor(checkpoint, config, preprocessor, file)
    check_tokenizer(checkpoint, config, settings(TOKENIZER_CONFIG), files.sizes)
    return found


@contextmanager
def about(name: str) -> Iterator[None]:
    """Says of which file an error speaks that was raised by code that knows bytes only."""
    try:
        yield
    except SecateurError as error:
        item = ErrorItem.at(name, code=error.code, detail=error.detail)
        raise SecateurError(error.code, f"{name}: {error.detail}", error.errors or (item,)) from None


def check_json(name: str, data: bytes, max_bytes: int) -> dict[str, Any]:
    """A JSON file of a checkpoint: an object within bounds that brings no code. Raises CONFIG_INVALID or CODE_REFUSED.

    A list, as sentence-transformers has one, is judged as an object of its entries.
    """
    try:
        if name == MODULES:
            value = {str(place): entry for place, entry in enumerate(load_list(data, max_bytes))}
        else:
            value = load_object(data, max_bytes)
    except UnsafeJsonError as error:
        item = ErrorItem.at(name, code=ErrorCode.CONFIG_INVALID, detail=str(error))
        raise SecateurError(ErrorCode.CONFIG_INVALID, f"{name} {error}.", (item,)) from None
    if name != INDEX_NAME:
        check_settings(name, value)
    return value


def _read_object(files: ModelFiles, name: str, max_bytes: int) -> dict[str, Any]:
    return check_json(name, files.read(name, 0, min(files.sizes[name], max_bytes + 1)), max_bytes)


def _tensors(files: ModelFiles) -> dict[str, TensorInfo]:
    if WEIGHTS_NAME in files.sizes:
        return _header(files, WEIGHTS_NAME)
    index = _read_object(files, INDEX_NAME, MAX_INDEX_BYTES)
    shards = shard_names(index)
    for name in shards:
        if name not in files.sizes:
            raise _missing(name)
    for name in files.sizes:
        if SHARD_NAME.fullmatch(name) and name not in shards:
            raise _unexpected(name, f"{INDEX_NAME} does not refer to it")
    return merge_shards(index, {name: _header(files, name) for name in shards})


def _header(files: ModelFiles, name: str) -> dict[str, TensorInfo]:
    size = files.sizes[name]
    with about(name):
        first = files.read(name, 0, min(size, LENGTH_BYTES))
        return parse_header(files.read(name, 0, LENGTH_BYTES + header_length(first, size)), size)


def _missing(name: str) -> SecateurError:
    item = ErrorItem.at(name, code=ErrorCode.FILE_MISSING, detail="required, but missing")
    return SecateurError(
        ErrorCode.FILE_MISSING, f"{name} is missing. Declare and upload it with the other files.", (item,)
    )


def _unexpected(name: str, reason: str) -> SecateurError:
    item = ErrorItem.at(name, code=ErrorCode.FILE_UNEXPECTED, detail=reason)
    return SecateurError(ErrorCode.FILE_UNEXPECTED, f"{name} is not accepted: {reason}.", (item,))
