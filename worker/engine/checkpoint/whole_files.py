"""The files of a larger model of which a part is worked on: its tensors are read from them, and written back beside the others.

The others are never in memory: their bytes go from file to file, a buffer at a time.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch
from safetensors import safe_open
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from checkpoints.describe import named_tensors
from checkpoints.families import Part
from checkpoints.files.safetensors_header import DTYPE_BYTES, LENGTH_BYTES, TensorInfo
from checkpoints.files.shards import INDEX_NAME, WEIGHTS_NAME
from worker.engine.models.model_spec import move_model, without_weights
from worker.engine.runtime.mapped import mapped_copy

BUFFER = 2**24
_ALIGNMENT = 8
"""Of a header's length, as the reference writer has it."""
_CODES: Mapping[torch.dtype, str] = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}


def load_part(folder: Path, part: Part, made: type[PreTrainedModel], config: PreTrainedConfig) -> PreTrainedModel:
    """A model of the class `made`, a part of the whole in `folder`, with its weights in float32; what is large is in files.

    Raises RuntimeError where names or shapes are others than the class's, which `describe_folder` has judged before.
    """
    with without_weights():
        model = made(config)
    state: dict[str, Tensor] = {}
    wanted = {name: tensor for name, tensor in named_tensors(folder).items() if part.holds(name)}
    for file in sorted({tensor.info.file for tensor in wanted.values()}):
        with safe_open(folder / file, "pt") as weights:
            for name, tensor in wanted.items():
                if tensor.info.file == file:
                    state[name] = mapped_copy(weights.get_tensor(tensor.name).float())
    model.load_state_dict(state, strict=True, assign=True)
    move_model(model, torch.float32).eval()
    return model


@dataclass(frozen=True)
class _Entry:
    """A tensor of a file that is to be written, and where its bytes come from."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    source: Tensor | TensorInfo

    @property
    def size(self) -> int:
        return self.source.nbytes if isinstance(self.source, Tensor) else self.source.end - self.source.start


def write_whole(folder: Path, original: Path, tensors: Mapping[str, Tensor], *, stock: bool) -> None:
    """Write the weights of `original` into `folder`, those in `tensors`, by their names in the module tree, as they are there.

    Every tensor keeps its file and, where the `stock` class reads the folder, its name. For a class beside the weights
    transformers renames nothing: there, names are those of the module tree. What the class does not have is left out. There is
    an index where there was one.
    """
    files: dict[str, list[_Entry]] = {}
    for name, tensor in named_tensors(original).items():
        new = tensors.get(name)
        dtype = tensor.info.dtype if new is None else _CODES[new.dtype]
        shape = tensor.info.shape if new is None else tuple(new.shape)
        source: Tensor | TensorInfo = tensor.info if new is None else new
        files.setdefault(tensor.info.file, []).append(_Entry(tensor.saved_as if stock else name, dtype, shape, source))
    # A shard that held nothing of the class is no shard any more.
    places = {file: _shard(number, len(files)) for number, file in enumerate(sorted(files), start=1)}
    if set(files) == {WEIGHTS_NAME}:
        places = {WEIGHTS_NAME: WEIGHTS_NAME}
    for file, entries in files.items():
        _write_file(folder / places[file], entries, original / file)
    if places != {WEIGHTS_NAME: WEIGHTS_NAME}:
        placed = {entry.name: places[file] for file, entries in files.items() for entry in entries}
        total = sum(entry.size for entries in files.values() for entry in entries)
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(placed.items()))}
        (folder / INDEX_NAME).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")


def _shard(number: int, count: int) -> str:
    return f"model-{number:05d}-of-{count:05d}.safetensors"


def _write_file(path: Path, entries: list[_Entry], original: Path) -> None:
    """A safetensors file. Wide numbers come first, as the reference writer has them, so that each begins at a multiple of its
    size."""
    entries = sorted(entries, key=lambda entry: (-DTYPE_BYTES[entry.dtype], entry.name))
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    position = 0
    for entry in entries:
        offsets = [position, position + entry.size]
        header[entry.name] = {"dtype": entry.dtype, "shape": list(entry.shape), "data_offsets": offsets}
        position += entry.size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    with path.open("wb") as target, original.open("rb") as source:
        target.write(len(text).to_bytes(LENGTH_BYTES, "little") + text)
        for entry in entries:
            if isinstance(entry.source, Tensor):
                entry.source.contiguous().flatten().view(torch.uint8).numpy().tofile(target)
            else:
                source.seek(entry.source.data + entry.source.start)
                _copy(source, target, entry.size)


def _copy(source: BinaryIO, target: BinaryIO, size: int) -> None:
    """So many bytes. EOFError where there are fewer."""
    while size:
        piece = source.read(min(size, BUFFER))
        if not piece:
            raise EOFError("a file of weights ended before its last tensor")
        target.write(piece)
        size -= len(piece)
