"""The files of an uploaded checkpoint: which names, what is in them, and what they describe together.

Reads through `ModelFiles`, so that weights in an object store are judged by their headers and never downloaded.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from api_schemas.checkpoint import MAX_CONFIG_BYTES, MAX_INDEX_BYTES, Checkpoint, describe_checkpoint
from api_schemas.config_guard import refuse_code
from api_schemas.errors import ErrorCode, ErrorItem, SecateurError
from api_schemas.families import FAMILIES, Family
from api_schemas.safe_json import UnsafeJsonError, load_object
from api_schemas.safetensors_header import LENGTH_BYTES, TensorInfo, header_length, parse_header
from api_schemas.shards import INDEX_NAME, SHARD_NAME, WEIGHTS_NAME, merge_shards, shard_names
from store.intake.file_kinds import MAGIC_BYTES, refuse_magic, refuse_suffix

SUFFIXES = (".safetensors", ".json", ".md")
# Of log-mel features, whose values are tens at most; and std is divided by.
MAX_STATISTIC = 1e6
MIN_STD = 1e-6
SAMPLING_RATES = range(1_000, 384_001)


class ModelFiles(Protocol):
    """The files of one upload."""

    @property
    def sizes(self) -> Mapping[str, int]:
        """Bytes by name."""

    def read(self, name: str, start: int, end: int) -> bytes:
        """Bytes start … end-1."""


def check_names(names: Iterable[str]) -> None:
    """Judge the names of a checkpoint's files before any is sent.

    Raises FILE_TYPE_REFUSED (pickles and the like), FILE_UNEXPECTED (not part of a checkpoint) or FILE_MISSING.
    """
    given = list(names)
    allowed = {name for family in FAMILIES for name in family.files}
    for name in given:
        refuse_suffix(name)
        if name not in allowed and name not in (WEIGHTS_NAME, INDEX_NAME) and not SHARD_NAME.fullmatch(name):
            raise _unexpected(name, f"a checkpoint has {', '.join(sorted(allowed))} and safetensors, nothing else")
        if given.count(name) > 1:
            raise _unexpected(name, "it is declared twice")
    if "config.json" not in given:
        raise _missing("config.json")
    shards = [name for name in given if SHARD_NAME.fullmatch(name)]
    if WEIGHTS_NAME in given:
        for name in (*shards, INDEX_NAME):
            if name in given:
                raise _unexpected(name, f"{WEIGHTS_NAME} is declared as well; send one or the other")
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
    checkpoint = describe_checkpoint(config, _tensors(files))
    family = checkpoint.family
    for entry in family.required_files:
        one_of = (entry,) if isinstance(entry, str) else entry
        if not any(name in files.sizes for name in one_of):
            raise _missing(" or ".join(one_of))
    for name in files.sizes:
        if not name.endswith((".safetensors", INDEX_NAME)) and name not in family.files:
            raise _unexpected(name, f"{family.name} checkpoints do not have it")
    if "preprocessor_config.json" in files.sizes:
        _check_preprocessor(family, config, _read_object(files, "preprocessor_config.json", MAX_CONFIG_BYTES))
    return checkpoint


@contextmanager
def about(name: str) -> Iterator[None]:
    """Says of which file an error speaks that was raised by code that knows bytes only."""
    try:
        yield
    except SecateurError as error:
        item = ErrorItem(pointer=name, code=error.code, detail=error.detail)
        raise SecateurError(error.code, f"{name}: {error.detail}", error.errors or (item,)) from None


def check_json(name: str, data: bytes, max_bytes: int) -> dict[str, Any]:
    """A JSON file of a checkpoint: an object within bounds that brings no code. Raises CONFIG_INVALID or CODE_REFUSED."""
    try:
        value = load_object(data, max_bytes)
    except UnsafeJsonError as error:
        item = ErrorItem(pointer=name, code=ErrorCode.CONFIG_INVALID, detail=str(error))
        raise SecateurError(ErrorCode.CONFIG_INVALID, f"{name} {error}.", (item,)) from None
    if name != INDEX_NAME:
        refuse_code(value, name)
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
            raise _unexpected(name, f"{INDEX_NAME} does not name it")
    return merge_shards(index, {name: _header(files, name) for name in shards})


def _header(files: ModelFiles, name: str) -> dict[str, TensorInfo]:
    size = files.sizes[name]
    with about(name):
        first = files.read(name, 0, min(size, LENGTH_BYTES))
        return parse_header(files.read(name, 0, LENGTH_BYTES + header_length(first, size)), size)


def _check_preprocessor(family: Family, config: Mapping[str, Any], preprocessor: Mapping[str, Any]) -> None:
    """The feature extractor is the family's own, and makes inputs of the size the model was built for."""
    kind = preprocessor.get("feature_extractor_type")
    if kind not in family.preprocessors:
        wanted = " or ".join(family.preprocessors)
        raise _bad_preprocessor("feature_extractor_type", f"{wanted} is needed, it says {str(kind)[:100]!r}")
    rate = preprocessor.get("sampling_rate", SAMPLING_RATES.start)
    if type(rate) is not int or rate not in SAMPLING_RATES:
        raise _bad_preprocessor(
            "sampling_rate", f"a rate from {SAMPLING_RATES.start} to {SAMPLING_RATES.stop - 1} Hz is needed"
        )
    for key, least in (("mean", -MAX_STATISTIC), ("std", MIN_STD), ("padding_value", -MAX_STATISTIC)):
        value = preprocessor.get(key, 1.0)
        if type(value) not in (int, float) or not least <= value <= MAX_STATISTIC:
            raise _bad_preprocessor(key, f"a number from {least:g} to {MAX_STATISTIC:g} is needed")
    for key in family.preprocessor_keys:
        model, features = family.value(config, key), preprocessor.get(key, family.defaults[key])
        if type(features) is not int or features != model:
            raise _bad_preprocessor(key, f"config.json says {model}, it says {str(features)[:100]}")


def _bad_preprocessor(key: str, reason: str) -> SecateurError:
    item = ErrorItem(pointer=f"preprocessor_config.json/{key}", code=ErrorCode.CONFIG_INVALID, detail=reason)
    return SecateurError(ErrorCode.CONFIG_INVALID, f"preprocessor_config.json: `{key}`: {reason}.", (item,))


def _missing(name: str) -> SecateurError:
    item = ErrorItem(pointer=name, code=ErrorCode.FILE_MISSING, detail="needed and not there")
    return SecateurError(ErrorCode.FILE_MISSING, f"{name} is missing. Declare and upload it with the others.", (item,))


def _unexpected(name: str, reason: str) -> SecateurError:
    item = ErrorItem(pointer=name, code=ErrorCode.FILE_UNEXPECTED, detail=reason)
    return SecateurError(ErrorCode.FILE_UNEXPECTED, f"{name} does not belong here: {reason}.", (item,))
