"""Writes a cut model as a checkpoint folder that stock transformers loads.

There are two layouts. If a stock configuration can describe the widths, that one: plain `from_pretrained`, no code. Otherwise a
custom layout with its code beside the weights.
"""

import json
import math
import os
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from api_schemas.results.widths import AttentionWidths
from checkpoints.config.checkpoint_config import used_values
from checkpoints.config.preprocessor_fields import named_settings
from checkpoints.config.pruned_layout import ATTENTION, FEED_FORWARD, WITHOUT_CODE
from checkpoints.config.sentences import Sentences
from checkpoints.describe import read_beside, sentences_of
from checkpoints.families import Family, Layout
from checkpoints.file_names import names_in
from checkpoints.files.preprocessor_files import PREPROCESSOR, SENTENCE_FILES, preprocessor_type
from checkpoints.files.shards import INDEX_NAME, WEIGHTS_NAME
from worker.engine.checkpoint.load import LoadedModel, scale_queries
from worker.engine.checkpoint.whole_files import write_whole
from worker.engine.data.settings import read_config
from worker.engine.models.stock_tensors import as_stock
from worker.engine.runtime.mapped import mapped_copy

SHARD_BYTES = 5 * 10**9
"""Of tensors in one file, at most; a single tensor may be larger."""
LOADED_AS = ("float32", "float16", "bfloat16")
"""What a configuration may say of it."""


def save_checkpoint(folder: Path, loaded: LoadedModel, original: Path) -> tuple[bool, float]:
    """Write config.json, model.safetensors or shards of it, the original's preprocessor files and, where needed, code.

    Returns whether the folder loads without custom code, and the factor that was folded into the queries: 1 but for a stock
    shape of narrower heads, whose class computes the softmax scale from the new width; sqrt(new / original) makes up for it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tied = set(loaded.model.all_tied_weights_keys)
    state = {name: tensor.detach().cpu() for name, tensor in loaded.model.state_dict().items() if name not in tied}
    config = read_config(original)
    layout = loaded.model_spec.layout(config)
    stock = stock_values(loaded.model_spec.family, layout, loaded.widths)
    factor = 1.0
    width = None if stock is None else stock.get(str(loaded.model_spec.family.head_dim_key))
    if width is not None:
        factor = math.sqrt(width / loaded.widths.head_dim)
        scale_queries(state, (site.q for site in layout.attention), factor)
    # A copy each, already in the dtype of the file, one after another: a safetensors file holds no two names for one storage, and
    # slices of a larger tensor would be written whole.
    tensors = {name: mapped_copy(_as_stored(loaded, name, tensor)) for name, tensor in state.items()}
    if stock is not None:
        tensors = as_stock(tensors, layout, loaded.widths)
    part = loaded.model_spec.family.part
    if part is None:
        _write_weights(folder, tensors)
    else:
        cut = {name: tensor for name, tensor in tensors.items() if name.startswith(f"{part.encoder}.")}
        write_whole(folder, original, cut, stock=stock is not None)
    written = dict(sorted(_config(loaded, stock, config).items()))
    (folder / "config.json").write_text(json.dumps(written, indent=2) + "\n")
    for name in names_in(original):
        if name in loaded.model_spec.family.files - {"config.json", "README.md", *SENTENCE_FILES}:
            shutil.copyfile(original / name, folder / name)
    family, architecture = loaded.model_spec.family, loaded.model_spec.family.architectures[loaded.model_spec.name]
    sentences = sentences_of(family, architecture, partial(read_beside, original))
    if sentences is not None:
        _write_sentences(original, folder, sentences)
    _name_preprocessor(folder / PREPROCESSOR, loaded.model_spec.family)
    if stock is None:
        for name, text in loaded.model_spec.classes.files().items():
            (folder / name).write_text(text)
    return stock is not None, factor


def _write_weights(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """One file, or above SHARD_BYTES several with an index, as save_pretrained writes them."""
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        if shards[-1] and size + tensor.nbytes > SHARD_BYTES:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += tensor.nbytes
    if len(shards) == 1:
        save_file(shards[0], folder / WEIGHTS_NAME, metadata={"format": "pt"})
        return
    placed: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        save_file(shard, folder / file, metadata={"format": "pt"})
        placed |= dict.fromkeys(shard, file)
    total = sum(tensor.nbytes for tensor in tensors.values())
    write_json(folder / INDEX_NAME, {"metadata": {"total_size": total}, "weight_map": placed})


def _as_stored(loaded: LoadedModel, name: str, tensor: Tensor) -> Tensor:
    return tensor.to(loaded.other_dtypes.get(name, loaded.dtype)) if tensor.is_floating_point() else tensor


def stock_values(family: Family, original: Layout, widths: AttentionWidths) -> dict[str, int] | None:
    """What a stock configuration has to say so that its class has these widths; None where it cannot.

    Attention either is uniform and of a family whose configuration has a head width, or as it was in the `original`, or has
    equally many heads left in every layer, whole, and the family has `groups_keys`; feed-forward blocks either are alike and of a
    family with one key for all of them, or as they were.
    """
    values: dict[str, int] = {}
    dense = tuple((site.shape.head_dim,) * site.shape.heads for site in original.attention)
    of_groups = _groups(family, original, widths)
    if family.heads_key and family.head_dim_key and widths.stock_shape:
        values |= dict(zip((family.heads_key, family.head_dim_key), widths.stock_shape, strict=True))
    elif of_groups is not None:
        values |= of_groups
    elif any(not layer.qk == layer.vo == heads for layer, heads in zip(widths.layers, dense, strict=True)):
        return None
    if widths.feed_forward != tuple(site.shape.neurons for site in original.feed_forward):
        if family.neurons_key is None or len(set(widths.feed_forward)) != 1:
            return None
        values[family.neurons_key] = widths.feed_forward[0]
    return values


def _groups(family: Family, original: Layout, widths: AttentionWidths) -> dict[str, int] | None:
    """What a configuration of `Family.groups_keys` says of attention that has lost nothing but whole heads; None otherwise."""
    shape = original.attention[0].shape
    if family.groups_keys is None or widths.stock_shape is None:
        return None
    heads, width = widths.stock_shape
    queries = shape.queries_per_head * heads
    if width != shape.head_dim or heads == shape.heads or shape.hidden % queries:
        return None
    return dict(zip(family.groups_keys, (queries, heads, width), strict=True))


def _write_sentences(original: Path, folder: Path, sentences: Sentences) -> None:
    """What the original's files of sentence-transformers say, as it was checked: of their bytes only numbers are handed on."""
    for name, value in sentences.files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(value, indent=2) + "\n")
    for dense in sentences.dense:
        tensors = load_file(original / dense.weights_file)
        save_file(tensors, folder / dense.weights_file, metadata={"format": "pt"})


def _name_preprocessor(path: Path, family: Family) -> None:
    """Old settings do not name their class, which `model_type` says. A result may have a type of its own, so it names it."""
    settings = json.loads(path.read_bytes()) if path.is_file() else {}
    if settings and family.preprocessors and preprocessor_type(settings) is None:
        write_json(path, named_settings(family, settings))


def _config(loaded: LoadedModel, stock: dict[str, int] | None, config: dict[str, Any]) -> dict[str, Any]:
    """What was checked of the original's config.json, changed only where it has to be."""
    family, classes = loaded.model_spec.family, loaded.model_spec.classes
    config = used_values(family, config) | {"model_type": family.model_types[0]}
    # What the weights are loaded as stays what the original's file says, and is not what they are stored as.
    said = config.pop("torch_dtype", None)
    if config.get("dtype", said) not in LOADED_AS:
        config["dtype"] = str(loaded.dtype).removeprefix("torch.")
    else:
        config["dtype"] = config.get("dtype", said)
    model: Any = loaded.model
    if not model.all_tied_weights_keys and model.get_expanded_tied_weights_keys(all_submodels=True):
        config["tie_word_embeddings"] = False
    if stock is not None:
        config["architectures"] = [classes.stock.__name__]
        if family.part is None:
            return _changed(family, config, stock)
        key = family.part.config_key
        return {**config, key: _changed(family.inner[key], config.get(key, {}), stock)} if stock else config
    pruned: Any = loaded.model.config
    auto_class = family.architectures[loaded.model_spec.name].auto_class
    config |= {
        "architectures": [classes.pruned.__name__],
        "auto_map": {
            "AutoConfig": f"configuration_pruned.{classes.config.__name__}",
            # First, for who takes the first that there is; and it is one where transformers knows no auto class of the model.
            auto_class: f"modeling_pruned.{classes.pruned.__name__}",
            **{each: f"modeling_pruned.{head}" for each, head in classes.auto_classes.items() if each != auto_class},
        },
        "_attn_implementation": WITHOUT_CODE,
        ATTENTION: pruned.pruned_attention,
        FEED_FORWARD: pruned.pruned_feed_forward,
    }
    return config


def _changed(family: Family, config: Mapping[str, Any], values: Mapping[str, int]) -> dict[str, Any]:
    """The config with these values, and without other names of their keys, under which the former values stand."""
    return {key: value for key, value in config.items() if family.aliases.get(key) not in values} | dict(values)


def write_json(path: Path, value: Any) -> None:
    """Readable, stable JSON: sorted keys, a newline at the end."""
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")


def make_durable(folder: Path) -> None:
    """Modes 0644, and everything flushed to disk: a step that is announced must survive a power cut."""
    below = sorted(folder.rglob("*"))
    for path in below:
        if path.is_file():
            path.chmod(0o644)
    for path in (*below, folder):
        flush(path)


def flush(path: Path) -> None:
    """Bring a file's content, or a folder's list of names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
