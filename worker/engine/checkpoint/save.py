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


def save_checkpoint(folder: Path, loaded: Loaded, original: Path) -> tuple[bool, float]:
    """Write config.json, model.safetensors, the original's preprocessor files and, where needed, code.

    Returns whether the folder loads without custom code, and the factor that was folded into the queries: 1 but for such a stock
    shape, whose class computes the softmax scale from the new head width; sqrt(new / original) makes up for it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tied = set(loaded.model.all_tied_weights_keys)
    state = {name: tensor.detach().cpu() for name, tensor in loaded.model.state_dict().items() if name not in tied}
    config: dict[str, Any] = json.loads((original / "config.json").read_text())
    layout = loaded.kind.layout(config)
    neurons = tuple(site.shape.neurons for site in layout.feed_forward)
    shape = loaded.widths.stock_shape if loaded.kind.family.head_dim_key else None
    if loaded.widths.feed_forward != neurons:
        shape = None
    factor = 1.0
    if shape is not None:
        factor = math.sqrt(shape[1] / loaded.widths.head_dim)
        scale_queries(state, (site.q for site in layout.attention), factor)
    # A copy each: a safetensors file holds no two names for one storage, and slices of a larger tensor would be written whole.
    tensors = {
        name: (tensor.to(loaded.dtype) if tensor.is_floating_point() else tensor).clone().contiguous()
        for name, tensor in state.items()
    }
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    write_json(folder / "config.json", _config(loaded, shape, config))
    for path in sorted(original.iterdir()):
        if path.name in loaded.kind.family.files - {"config.json", "README.md"}:
            shutil.copyfile(path, folder / path.name)
    if shape is None:
        for name, text in loaded.kind.classes.files().items():
            (folder / name).write_text(text)
    return shape is not None, factor


def _config(loaded: Loaded, shape: tuple[int, int] | None, config: dict[str, Any]) -> dict[str, Any]:
    """The original's config.json, changed only where it has to be."""
    family, classes = loaded.kind.family, loaded.kind.classes
    config["dtype"] = str(loaded.dtype).removeprefix("torch.")
    config.pop("torch_dtype", None)
    if shape is not None:
        heads, width = shape
        config |= {
            "architectures": [classes.stock.__name__],
            str(family.heads_key): heads,
            str(family.head_dim_key): width,
        }
        return config
    pruned: Any = loaded.model.config
    auto_class = family.architectures[loaded.kind.name].auto_class
    config |= {
        "model_type": classes.config.model_type,
        "architectures": [classes.pruned.__name__],
        "auto_map": {
            "AutoConfig": f"configuration_pruned.{classes.config.__name__}",
            auto_class: f"modeling_pruned.{classes.pruned.__name__}",
        },
        "pruned_attention": pruned.pruned_attention,
        "pruned_feed_forward": pruned.pruned_feed_forward,
    }
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
