"""A checkpoint's folder as transformers' loader needs it, because the loader reads more files than
describe_folder has checked."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file

from checkpoints.file_names import ADAPTER, checkpoint_names, is_weights
from checkpoints.files.safetensors_header import read_header
from checkpoints.files.shards import INDEX_NAME
from worker.engine.runtime.mapped import has_room, mapped_copy

_HALF = {"F16", "BF16"}
"""What float32 holds without rounding."""


@contextmanager
def as_stock_reads(folder: Path) -> Iterator[Path]:
    """The folder itself, or for as long as this lasts one that links to the checkpoint's own files.

    An index need not have `metadata`, which the loader takes for granted, and it goes by a dtype that stands there. An adapter
    beside the weights would be loaded on top. Files with weights of half precision are written anew in float32, one tensor after
    another: what lies there in float32 the loader maps into memory, and what it converts itself is all in memory at once. Where
    the disk has no room for that, the loader converts them.
    """
    names = checkpoint_names(path.name for path in folder.iterdir())
    halves = {name for name in names if name != INDEX_NAME and is_weights(name) and _has_halves(folder / name)}
    sizes = [2 * (folder / name).stat().st_size for name in halves]
    # In the new files, and one file's tensors beside them while they are written.
    if halves and not has_room(sum(sizes) + max(sizes), max(sizes)):
        halves = set()
    if INDEX_NAME not in names and not halves and not (folder / ADAPTER).exists():
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="secateur-original-") as scratch:
        place = Path(scratch)
        for name in names:
            if name == INDEX_NAME:
                index = {"metadata": {}, "weight_map": json.loads((folder / name).read_bytes())["weight_map"]}
                (place / name).write_text(json.dumps(index))
            elif name in halves:
                _write_in_float32(folder / name, place / name)
            else:
                (place / name).symlink_to((folder / name).absolute())
        yield place


def _has_halves(weights: Path) -> bool:
    return any(tensor.dtype in _HALF for tensor in read_header(weights).values())


def _write_in_float32(weights: Path, target: Path) -> None:
    """The same tensors, those of half precision in float32."""
    tensors = {}
    with safe_open(weights, "pt") as file:
        for name, tensor in read_header(weights).items():
            tensors[name] = file.get_tensor(name)
            if tensor.dtype in _HALF:
                tensors[name] = mapped_copy(tensors[name].float())
        save_file(tensors, target, file.metadata())
