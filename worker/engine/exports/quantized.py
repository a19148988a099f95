"""A step's model with its linear maps in 8 bits by torchao, as a folder that transformers loads if torchao is installed.

The model that is quantized is the one that the step's folder loads to, in the class that a user gets, so the measured model is
the one that users download.
"""

import json
import shutil
from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save
from torch import Tensor, nn
from transformers import PreTrainedModel

from api_schemas.enums import ExportFormat
from api_schemas.errors import ErrorCode, SecateurError
from checkpoints.file_names import CONFIG, is_of_checkpoint, is_weights, names_in
from checkpoints.files.shards import WEIGHTS_NAME
from worker.engine.checkpoint.gate import reload_error
from worker.engine.checkpoint.load import LoadedModel
from worker.engine.data.split import Inputs
from worker.engine.tasks import Task

if TYPE_CHECKING:
    from torchao.core.config import AOBaseConfig

CONFIGS: Mapping[ExportFormat, str] = {
    ExportFormat.TORCHAO_INT8: "Int8DynamicActivationInt8WeightConfig",
    ExportFormat.TORCHAO_INT8_WEIGHTS: "Int8WeightOnlyConfig",
}
"""Of torchao.quantization, by format: activations are rounded as they come, a token at a time, or stay as they are."""
TOLERANCE = 1e-4
"""Of what a fresh process loads: largest absolute error, as a share of max(1, largest absolute answer)."""
ROUNDING = 0.5
"""The error may be larger than that where eight bits change an answer by far more: as a share of what they change. An activation
between two of 256 values can fall to the other side in another process, which is a small part of all that are rounded; weights
that were not found, or were not rounded, are no less than all of it."""


class QuantizedModel:
    """Called with the model's inputs by keyword, it gives answers as the task does, float32, on the CPU."""

    def __init__(self, model: PreTrainedModel, task: Task) -> None:
        self.model, self._task = model, task

    def __call__(self, **inputs: Tensor) -> Tensor:
        with torch.inference_mode():
            return self._task.outputs(self.model, inputs).float()


def write_quantized(
    folder: Path, target: Path, loaded: LoadedModel, format: ExportFormat, example: Inputs
) -> PreTrainedModel:
    """Write a folder `target` of the step in `folder`, in eight bits; returns the model that it holds, in eval mode on the CPU.

    Weights of linear maps become int8 with a float32 scale for every output channel. All else is stored as in the step's own
    file, and the configuration says float32: torchao's scales are, and its maps take no activations of another dtype.

    Args:
        loaded: as read back from `folder`.
        example: a sample as the model is called with it.
    """
    from torchao.quantization import quantize_

    config = json.loads((folder / CONFIG).read_text())
    own, classes = "auto_map" in config, loaded.model_spec.classes
    source: Any = classes.pruned if own else classes.stock
    model: PreTrainedModel = source.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()
    how, names = _how(format), _linear_maps(model, example)
    quantize_(model, how, filter_fn=lambda _module, name: name in names)
    target.mkdir(exist_ok=True)
    (target / WEIGHTS_NAME).write_bytes(_safetensors(model, loaded))
    config |= {"dtype": "float32", "quantization_config": _quantization_config(how)}
    (target / CONFIG).write_text(json.dumps(dict(sorted(config.items())), indent=2) + "\n")
    code = classes.files() if own else {}
    for name in names_in(folder):
        if name in (CONFIG, "README.md") or is_weights(name):
            continue
        if is_of_checkpoint(name) or name in code:
            (target / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(folder / name, target / name)
    return model


def check_quantized(target: Path, model: PreTrainedModel, loaded: LoadedModel, example: Inputs) -> None:
    """A fresh process that loads `target` with transformers and torchao answers as `model`, of which it was written, does.

    Raises EXPORT_FAILED.
    """
    auto_class = loaded.model_spec.family.architectures[loaded.model_spec.name].auto_class
    try:
        error, largest, names, answers = reload_error(target, model, auto_class, example)
    except SecateurError as failure:
        raise SecateurError(ErrorCode.EXPORT_FAILED, f"{target.name}: {failure.detail}") from failure
    with torch.inference_mode():
        output = loaded.model(**example)
    changed = (torch.stack([getattr(output, name) for name in names]) - answers).abs().max().item()
    bound = max(TOLERANCE * max(1.0, largest), ROUNDING * changed)
    if not error <= bound:  # also where it is NaN
        detail = (
            f"A fresh process that loaded {target.name} got different outputs: error {error:.3g}, tolerance "
            f"{bound:.3g}."
        )
        raise SecateurError(ErrorCode.EXPORT_FAILED, detail)


def _how(format: ExportFormat) -> "AOBaseConfig":
    import torchao.quantization

    found: AOBaseConfig = getattr(torchao.quantization, CONFIGS[format])()
    return found


def _quantization_config(how: "AOBaseConfig") -> dict[str, Any]:
    """What transformers' TorchAoConfig writes of it. Which maps were quantized, the file of the weights says."""
    from torchao.core.config import config_to_dict

    return {"quant_method": "torchao", "quant_type": {"default": config_to_dict(how)}}


def _linear_maps(model: PreTrainedModel, example: Inputs) -> Collection[str]:
    """Names of the maps to quantize: those that have weights, share them with nothing, and are called in a pass.

    A map without channels has no range. A tied weight would no longer be tied: the table of embeddings stays as it is. Where a
    class hands a map's weight on (transformers' WavLM, torch's multi-head attention), no tensor of torchao's can stand in for it.
    """
    tied = {*model.all_tied_weights_keys, *model.all_tied_weights_keys.values()}
    called: set[str] = set()

    def note(_module: nn.Module, _arguments: object, *, name: str) -> None:
        called.add(name)

    hooks = [
        module.register_forward_pre_hook(partial(note, name=name))
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module.weight.numel() and f"{name}.weight" not in tied
    ]
    with torch.no_grad():
        model(**example)
    for hook in hooks:
        hook.remove()
    return called


def _safetensors(model: PreTrainedModel, loaded: LoadedModel) -> bytes:
    """The weights as a file of safetensors: an int8 weight as its parts, named and described as torchao does."""
    from torchao.prototype.safetensors.safetensors_support import flatten_tensor_state_dict

    tied = set(model.all_tied_weights_keys)
    state = {name: tensor.detach() for name, tensor in model.state_dict().items() if name not in tied}
    for name, tensor in state.items():
        if type(tensor) is Tensor and tensor.is_floating_point():
            state[name] = tensor.to(loaded.other_dtypes.get(name, loaded.dtype))
    tensors, described = flatten_tensor_state_dict(state)
    # torchao splits every name on this list at its last dot.
    described["tensor_names"] = json.dumps([name for name in state if "." in name])
    content = save(
        {name: tensor.clone().contiguous() for name, tensor in tensors.items()}, {"format": "pt", **described}
    )
    return _in_order(content)


def _in_order(content: bytes) -> bytes:
    """The same file with its metadata sorted: the library has them in no order, and the same model is to give the same bytes."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[8 + length :]
