"""Writing a cut model as a checkpoint folder that stock transformers loads.

Two shapes. Where one (heads, width) pair describes every layer and the family's configuration has a head width, a stock
configuration: plain `from_pretrained`, no code. Otherwise a `model_type` of our own with its code beside the weights.
"""

import json
import math
import os
import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from worker.engine.checkpoint.load import Loaded, scale_queries
from worker.engine.models import model_classes

CODE_FILES = ("configuration_pruned.py", "modeling_pruned.py")


def stock_shape(loaded: Loaded) -> tuple[int, int] | None:
    """(heads, head width) where the model can be written as a stock configuration, else None."""
    return loaded.widths.stock_shape if loaded.family.head_dim_key else None


def save_checkpoint(folder: Path, loaded: Loaded, original: Path) -> float:
    """Write config.json, model.safetensors, the original's preprocessor files and, where needed, code.

    Returns the factor that was folded into the queries: 1 but for a stock shape, whose class computes the softmax scale from
    the new head width; sqrt(new / original) makes up for it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.detach().cpu() for name, tensor in loaded.model.state_dict().items()}
    shape = stock_shape(loaded)
    factor = 1.0
    if shape is not None:
        factor = math.sqrt(shape[1] / loaded.widths.head_dim)
        scale_queries(state, loaded.family, len(loaded.widths.layers), factor)
    # A copy each: a safetensors file holds no two names for one storage, and slices of a larger tensor would be written whole.
    tensors = {name: tensor.to(loaded.dtype).clone().contiguous() for name, tensor in state.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    write_json(folder / "config.json", _config(loaded, shape, original))
    for name in (*loaded.family.required_files, *loaded.family.optional_files):
        if name not in ("config.json", "README.md") and (original / name).is_file():
            shutil.copyfile(original / name, folder / name)
    if shape is None:
        for name in CODE_FILES:
            shutil.copyfile(model_classes(loaded.family).code / name, folder / name)
    return factor


def _config(loaded: Loaded, shape: tuple[int, int] | None, original: Path) -> dict[str, Any]:
    """The original's config.json, changed only where it has to be."""
    family, classes = loaded.family, model_classes(loaded.family)
    config: dict[str, Any] = json.loads((original / "config.json").read_text())
    config["dtype"] = str(loaded.dtype).removeprefix("torch.")
    config.pop("torch_dtype", None)
    if shape is not None:
        heads, width = shape
        config |= {"architectures": [classes.stock.__name__], family.heads_key: heads, str(family.head_dim_key): width}
        return config
    pruned = loaded.model.config
    config |= {
        "model_type": classes.config.model_type,
        "architectures": [classes.pruned.__name__],
        "auto_map": {
            "AutoConfig": f"configuration_pruned.{classes.config.__name__}",
            classes.auto_class: f"modeling_pruned.{classes.pruned.__name__}",
        },
        "attention_head_dim": pruned.attention_head_dim,
        "attention_widths": pruned.attention_widths,
    }
    config.pop(str(family.head_dim_key), None)
    return config


def write_json(path: Path, value: Any) -> None:
    """Readable, stable JSON: sorted keys, a newline at the end."""
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")


def make_durable(folder: Path) -> None:
    """Modes 0644, and everything flushed to disk: a step that is announced must survive a power cut."""
    for path in sorted(folder.iterdir()):
        path.chmod(0o644)
        flush(path)
    flush(folder)


def flush(path: Path) -> None:
    """Bring a file's content, or a folder's list of names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
