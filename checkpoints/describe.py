"""Describes a checkpoint from its config and its safetensors header alone: family, labels, attention widths, sizes.

The service calls it to check an upload without torch; the engine calls it to find what it will cut.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from api_schemas.enums import Head, Modality
from api_schemas.errors import ErrorCode, ErrorItem, SecateurError
from api_schemas.results.metrics import JobWarning
from api_schemas.results.widths import AttentionWidths
from checkpoints.config.architectures import of_sentences, way_to
from checkpoints.config.checkpoint_config import CheckpointConfig, read_config
from checkpoints.config.dense_modules import Dense, Header, check_dense
from checkpoints.config.sentences import MAX_BYTES, MEAN, Read, Sentences, read_sentences
from checkpoints.families import Architecture, Family
from checkpoints.file_names import require_weights
from checkpoints.files.preprocessor_files import GENERAL, MODULES
from checkpoints.files.safe_json import UnsafeJsonError, load_object
from checkpoints.files.safetensors_header import DTYPE_BYTES, TensorInfo, read_header
from checkpoints.files.shards import INDEX_NAME, WEIGHTS_NAME, merge_shards, shard_names
from checkpoints.files.tensor_bytes import Reader, same_bytes
from checkpoints.files.tensor_names import renamed, renamings
from checkpoints.sizes import accounting
from checkpoints.sizes.shape import ModelShape

MAX_CONFIG_BYTES = 2**20
MAX_INDEX_BYTES = 16 * 2**20
FLOAT_DTYPES = ("F32", "F16", "BF16", "F64")
DTYPE_NAMES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
KEPT_DTYPES = {"F32": "F32", "F16": "F16", "BF16": "BF16", "F64": "F32"}
"""The dtype that a result stores for each: nothing is computed in more than single precision."""
MAX_MISMATCHES = 20
STATISTICS = (".running_mean", ".running_var", ".embed_positions.inv_freq")

Tensors = Mapping[str, TensorInfo]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that this version can prune."""

    family: Family
    name: str
    """The transformers class."""
    architecture: Architecture
    labels: tuple[str, ...]
    """By id."""
    multi_label: bool
    shape: ModelShape
    widths: AttentionWidths
    dtype: str
    """The dtype of most weights in the file, and of the result's, whatever config.json says: F32, F16 or BF16."""
    other_dtypes: Mapping[str, str]
    """By name in the module tree, weights with another dtype: norms, after training in mixed precision."""
    warnings: tuple[JobWarning, ...] = ()
    """Which of its files are not used, and what is not available for it."""
    sentences: Sentences | None = None
    """How a text becomes an embedding, if the folder is one of sentence-transformers."""

    @property
    def pooling(self) -> tuple[str, ...]:
        """How the token states become one embedding: by the mean, if the folder does not say."""
        return (MEAN,) if self.sentences is None else self.sentences.pooling

    @property
    def dense(self) -> tuple[Dense, ...]:
        """The maps after the pooling."""
        return () if self.sentences is None else self.sentences.dense


def describe_folder(folder: Path) -> Checkpoint:
    """`describe_checkpoint` for a folder with config.json and model.safetensors, or shards and their index."""

    def read(name: str, start: int, end: int) -> bytes:
        with (folder / name).open("rb") as file:
            file.seek(start)
            return file.read(end - start)

    def header(name: str) -> Tensors | None:
        return read_header(folder / name) if (folder / name).is_file() else None

    return with_sentences(describe_checkpoint(*_read_folder(folder), read), partial(read_beside, folder), header)


def read_beside(folder: Path, name: str) -> bytes | None:
    """The bytes of a small file of a folder, in the form that `read_sentences` expects."""
    if not (folder / name).is_file():
        return None
    with (folder / name).open("rb") as file:
        return file.read(MAX_BYTES + 1)


def sentences_of(family: Family, architecture: Architecture, read: Read) -> Sentences | None:
    """The settings in the files of sentence-transformers for a model of this class, None if it makes no text embeddings.

    Raises CONFIG_INVALID, CODE_REFUSED or FILE_MISSING.
    """
    embeds = family.modality is Modality.TEXT and architecture.head is Head.EMBEDDING and MODULES in family.files
    return read_sentences(read) if embeds else None


def with_sentences(checkpoint: Checkpoint, read: Read, header: Header) -> Checkpoint:
    """The same checkpoint with the settings in the files of sentence-transformers. Raises as `sentences_of` and `check_dense`."""
    found = sentences_of(checkpoint.family, checkpoint.architecture, read)
    if found is None:
        return checkpoint
    check_dense(found.dense, checkpoint.shape.attention[0].hidden * len(found.pooling), header)
    warnings = checkpoint.warnings
    if found.unread:
        detail = (
            f"Unused sentence-transformers settings: {', '.join(found.unread[:10])}. They are left out of the result."
        )
        warnings = (*warnings, JobWarning(code="settings_ignored", pointer=f"/{GENERAL}", detail=detail))
    return replace(checkpoint, sentences=found, warnings=warnings)


def _read_folder(folder: Path) -> tuple[dict[str, Any], Tensors]:
    require_weights([path.name for path in folder.iterdir()] if folder.is_dir() else [], str(folder))
    config = _read_object(folder, "config.json", MAX_CONFIG_BYTES)
    if (folder / MODULES).is_file():
        config = of_sentences(config)
    return config, read_tensors(folder)


def read_tensors(folder: Path) -> Tensors:
    """The headers of a checkpoint's tensors, in one file or in shards. Raises SecateurError if they are invalid."""
    if (folder / WEIGHTS_NAME).is_file():
        return read_header(folder / WEIGHTS_NAME)
    index = _read_object(folder, INDEX_NAME, MAX_INDEX_BYTES)
    headers = {name: read_header(_existing(folder, name)) for name in shard_names(index)}
    return merge_shards(index, headers)


def describe_checkpoint(config: Mapping[str, Any], tensors: Tensors, read: Reader | None = None) -> Checkpoint:
    """Check and describe a checkpoint. Raises CODE_REFUSED, CONFIG_INVALID, ARCHITECTURE_UNSUPPORTED or WEIGHTS_MISMATCH.

    `read` tells whether weights that the configuration ties are also equal in the files; without it, the configuration is
    believed.
    """
    tensors = renamed(tensors, renamings(tensors))
    known = read_config(config, tensors)
    tensors = renamed(tensors, _misplaced(known, tensors))
    tensors = renamed(tensors, _under_its_copy(config, known, tensors))
    saved_as = _naming(known, tensors)
    layout = known.layout
    own = known.family.tensors(config, known.architecture, len(known.labels), known.pruned)
    own |= {name: own[known.architecture.tied[name]] for name in _apart(known, own, tensors, saved_as, read)}
    expected = {saved_as(name): shape for name, shape in own.items()}
    tied = set(map(saved_as, known.architecture.tied)) - set(expected)
    roots = {name.partition(".")[0] for name in expected}
    unused = {name for name in tensors if name not in expected and (name in tied or _is_spare(known, roots, name))}
    dispensable = {name for name in expected if known.architecture.dispenses_with(name) and name not in tensors}
    used = {name: tensor for name, tensor in tensors.items() if name not in unused}
    _compare(known, {name: shape for name, shape in expected.items() if name not in dispensable}, used)
    dtype = main_dtype(used)
    stored = {name: used[saved_as(name)].dtype for name in own if saved_as(name) in used}
    # The class has these tensors even if the file lacks them, and so will the result.
    others = sum(math.prod(shape) for name, shape in expected.items() if not name.endswith(STATISTICS))
    others -= sum(math.prod(shape) for shape in layout.tensors(known.pruned).values())
    part = known.family.part
    copied = 0 if part is None else sum(math.prod(shape) for name, shape in own.items() if not part.holds(name))
    heads = [site.shape.heads for site in layout.attention]
    if known.pruned is not None:
        heads = [layer.heads for layer in known.pruned.layers]
    of_heads = sum(count * site.shape.head_parameters for count, site in zip(heads, layout.attention, strict=True))
    shape = ModelShape(
        attention=tuple(site.shape for site in layout.attention),
        feed_forward=tuple(site.shape for site in layout.feed_forward),
        other_parameters=others - of_heads - copied,
        copied_parameters=copied,
        other_flops=layout.other_flops,
        bytes_per_parameter=DTYPE_BYTES[dtype],
        pruned=known.pruned,
    )
    return Checkpoint(
        family=known.family,
        name=known.name,
        architecture=known.architecture,
        labels=known.labels,
        multi_label=known.multi_label,
        shape=shape,
        widths=shape.dense,
        dtype=dtype,
        other_dtypes={name: KEPT_DTYPES[of] for name, of in stored.items() if KEPT_DTYPES[of] != dtype},
        warnings=(
            *known.warnings,
            *_of_pruning(shape),
            *_of_tensors(known.name, sorted(unused - tied)),
            *_of_dtypes(config, dtype, {tensor.dtype for tensor in used.values()}),
        ),
    )


@dataclass(frozen=True)
class NamedTensor:
    """A tensor of a checkpoint's class, as it lies in a folder."""

    info: TensorInfo
    name: str
    """In its file."""
    saved_as: str
    """The same without what wrappers put before it: its name in a result."""


def named_tensors(folder: Path) -> dict[str, NamedTensor]:
    """By name in the module tree, the tensors of a folder that `describe_folder` takes; what its class has not is left out."""
    config, tensors = _read_folder(folder)
    given = renamed({name: name for name in tensors}, renamings(tensors))
    known = read_config(config, given)
    given = renamed(given, _misplaced(known, given))
    given = renamed(given, _under_its_copy(config, known, given))
    saved_as = _naming(known, given)
    own = known.family.tensors(config, known.architecture, len(known.labels), known.pruned)
    return {
        name: NamedTensor(tensors[given[saved_as(name)]], given[saved_as(name)], saved_as(name))
        for name in own
        if saved_as(name) in given
    }


def key_mapping(folder: Path) -> dict[str, str]:
    """Arguments for `from_pretrained` of a folder that `describe_folder` accepts: patterns in tensor names, and their
    replacements.

    Raises as `describe_folder`.
    """
    config, tensors = _read_folder(folder)
    found = renamings(tensors)
    tensors = renamed(tensors, found)
    known = read_config(config, tensors)
    misplaced = _misplaced(known, tensors)
    return found | misplaced | _under_its_copy(config, known, renamed(tensors, misplaced))


def _misplaced(known: CheckpointConfig, tensors: Mapping[str, Any]) -> dict[str, str]:
    """A pattern and its replacement if the file's encoder is named as in a class with another head; otherwise empty.

    A plain encoder has no prefix; in a class with a head it has one.
    """
    first = known.layout.first_tensor(known.pruned)
    named = [known.family.saved_as(naming, first) for naming in range(len(known.family.saved_names))]
    found = [
        each
        for each in known.family.prefixes(known.architecture)
        if not tensors.keys() & set(named) and any(each + name in tensors for name in named)
    ]
    return {f"^{re.escape(each)}": "" for each in found[:1]}


def _under_its_copy(config: Mapping[str, Any], known: CheckpointConfig, tensors: Mapping[str, Any]) -> dict[str, str]:
    """The same for tied weights that the file has only under their other name, because transformers ties both ways.

    Among names that share their memory, `safetensors.torch.save_model` keeps the alphabetically first, which in a RoBERTa is the
    head's.
    """
    if not known.family.ties(config):
        return {}
    found = {}
    saved_as = _naming(known, tensors)
    for copy, source in known.architecture.tied.items():
        there, wanted = saved_as(copy), saved_as(source)
        if there in tensors and wanted not in tensors:
            found[f"^{re.escape(there)}$"] = wanted
    return found


def _is_spare(known: CheckpointConfig, roots: Collection[str], name: str) -> bool:
    """Whether no output of the class depends on the tensor: it belongs to a head of another class, or to pretraining.

    Heads are beside the encoder, so their names do not begin with the class's own `roots`. A tensor inside the encoder that is
    not the encoder's own belongs to another model.
    """
    return name.partition(".")[0] not in roots or known.architecture.dispenses_with(name)


def _of_pruning(shape: ModelShape) -> Iterator[JobWarning]:
    if shape.pruned is None:
        return
    attention = 1 - accounting.attention_parameters(shape, shape.pruned) / accounting.attention_parameters(
        shape, shape.unpruned
    )
    neurons = 1 - sum(shape.pruned.feed_forward) / max(1, sum(shape.unpruned.feed_forward))
    detail = (
        f"The model was already pruned: {attention:.1%} of its attention parameters and {neurons:.1%} of its "
        "feed-forward neurons have been removed. The uploaded model is the baseline: shares, drops and latency are relative "
        "to it. The code in its folder is not read; results contain Secateur's own."
    )
    yield JobWarning(code="pruned_before", pointer="/config.json/pruned_attention", detail=detail)


def _of_tensors(name: str, unused: Sequence[str]) -> tuple[JobWarning, ...]:
    if not unused:
        return ()
    shown = ", ".join(unused[:5]) + (f" and {len(unused) - 5} more" if len(unused) > 5 else "")
    detail = f"The file contains tensors that {name} does not have: {shown}. They are left out of the result."
    return (JobWarning(code="tensors_ignored", pointer=f"/{WEIGHTS_NAME}", detail=detail),)


def _of_dtypes(config: Mapping[str, Any], main: str, stored: Collection[str]) -> Iterator[JobWarning]:
    """Warnings if the dtype of weights differs from what config.json suggests, or is not kept."""
    said = config.get("dtype") or config.get("torch_dtype") or "auto"
    if said not in ("auto", "float64", DTYPE_NAMES[main]):
        detail = (
            f"config.json says {said}, but the weights are stored as {DTYPE_NAMES[main]}. Results are stored the same "
            f"way, so that sizes can be compared with the file's; they are loaded as {said}, as before."
        )
        yield JobWarning(code="dtype_differs", pointer="/config.json/dtype", detail=detail)
    if "F64" in stored:
        detail = (
            "The weights are in double precision. Results store them in single precision, which is used for all "
            "computation."
        )
        yield JobWarning(code="double_precision", pointer=f"/{WEIGHTS_NAME}", detail=detail)


def _apart(
    known: CheckpointConfig,
    own: Mapping[str, tuple[int, ...]],
    tensors: Tensors,
    saved_as: Callable[[str], str],
    read: Reader | None,
) -> list[str]:
    """Tied weights that the file has twice with different values: transformers follows the file, and unties them."""
    found = []
    for name, source in known.architecture.tied.items():
        both = [tensors[saved_as(each)] for each in (name, source) if saved_as(each) in tensors]
        if read is not None and name not in own and len(both) == 2 and not same_bytes(read, *both):
            found.append(name)
    return found


def main_dtype(tensors: Tensors) -> str:
    """The dtype of most weights, each counting by its size. Integer buffers are not weights and do not count.

    Raises WEIGHTS_MISMATCH if there are none, or if some are not plain floating-point numbers (8-bit formats).
    """
    sizes: Counter[str] = Counter()
    for tensor in tensors.values():
        if tensor.dtype.startswith(("F", "BF")):
            sizes[KEPT_DTYPES.get(tensor.dtype, tensor.dtype)] += tensor.elements
    unknown = sorted(set(sizes) - set(FLOAT_DTYPES))
    if unknown or not sizes:
        detail = (
            f"The weights are stored as {', '.join(unknown) or 'nothing'}; only {', '.join(FLOAT_DTYPES)} can be "
            "read. Convert the model before saving it."
        )
        raise SecateurError(ErrorCode.WEIGHTS_MISMATCH, detail)
    return max(sorted(sizes), key=sizes.__getitem__)


def _naming(known: CheckpointConfig, tensors: Collection[str]) -> Callable[[str], str]:
    """Maps a name in the module tree to the file's name, by the naming scheme of the family that this file uses."""
    first = known.layout.first_tensor(known.pruned)
    for naming in range(len(known.family.saved_names)):
        if known.family.saved_as(naming, first) in tensors:
            return partial(known.family.saved_as, naming)
    item = ErrorItem.at(first, code=ErrorCode.WEIGHTS_MISMATCH, detail="missing from the file")
    detail = (
        f"The file contains no attention of {known.name}: {first} was expected. Are these the weights of another model?"
    )
    raise SecateurError(ErrorCode.WEIGHTS_MISMATCH, detail, (item,))


def _compare(known: CheckpointConfig, expected: Mapping[str, tuple[int, ...]], tensors: Tensors) -> None:
    """Check that every expected tensor exists with its shape, and that there are no other weights."""
    wrong: list[tuple[str, str]] = []
    for name, shape in expected.items():
        if name not in tensors:
            wrong.append((name, f"expected shape {list(shape)}, found no such tensor"))
        elif tensors[name].dtype not in FLOAT_DTYPES:
            wrong.append((name, f"expected one of {', '.join(FLOAT_DTYPES)}, found {tensors[name].dtype}"))
        elif tensors[name].shape != shape:
            wrong.append((name, f"expected shape {list(shape)}, found {list(tensors[name].shape)}"))
    for name, tensor in tensors.items():
        if name not in expected and tensor.dtype in FLOAT_DTYPES:
            wrong.append((name, f"unexpected tensor of shape {list(tensor.shape)}"))
    if wrong:
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        items = tuple(
            ErrorItem.at(name, code=ErrorCode.WEIGHTS_MISMATCH, detail=detail)
            for name, detail in wrong[:MAX_MISMATCHES]
        )
        detail = (
            f"The weights do not match config.json: {wrong[0][0]}: {wrong[0][1]}{more}. Are these the weights of "
            "another model?"
        )
        head = tuple(f"{module}." for module in known.architecture.classifiers)
        if all(name.startswith(head) for name, _ in wrong) and any(name not in tensors for name, _ in wrong):
            detail = (
                f"The weights match {known.name} except for the head: {wrong[0][0]}: {wrong[0][1]}{more}. If you "
                f"trained a class of your own, {way_to(known.name, known.architecture)}"
            )
        raise SecateurError(ErrorCode.WEIGHTS_MISMATCH, detail, items)


def _existing(folder: Path, name: str) -> Path:
    if not (folder / name).is_file():
        detail = f"{name} is missing; a checkpoint is config.json with {WEIGHTS_NAME}, or with shards and {INDEX_NAME}."
        raise SecateurError(ErrorCode.FILE_MISSING, detail, (ErrorItem.at(name, code="file_missing", detail=""),))
    return folder / name


def _read_object(folder: Path, name: str, max_bytes: int) -> dict[str, Any]:
    with _existing(folder, name).open("rb") as file:
        data = file.read(max_bytes + 1)
    try:
        return load_object(data, max_bytes)
    except UnsafeJsonError as error:
        raise SecateurError(ErrorCode.CONFIG_INVALID, f"{name} {error}.") from None
