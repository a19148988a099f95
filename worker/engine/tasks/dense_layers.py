"""The Dense modules of a sentence-transformers folder, applied as in that library: part of the task, and never cut or trained."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from checkpoints.config.dense_modules import Dense

_APPLIED: Mapping[str, Callable[[Tensor], Tensor]] = {
    "Tanh": torch.tanh,
    "Identity": lambda x: x,
    "ReLU": F.relu,
    "GELU": F.gelu,
    "SiLU": F.silu,
    "Sigmoid": torch.sigmoid,
}
"""By `checkpoints.config.dense_modules.ACTIVATIONS`."""

Layers = Sequence[tuple[Mapping[str, Tensor], str]]


def load_dense(folder: Path, modules: Sequence[Dense]) -> Layers:
    """Weights, float32, and activation of each."""
    return [
        ({name: tensor.float() for name, tensor in load_file(folder / each.weights_file).items()}, each.activation)
        for each in modules
    ]


def apply_dense(layers: Layers, embedding: Tensor) -> Tensor:
    """[B, D] to [B, D'], in the embedding's own type and on its device."""
    for weights, activation in layers:
        moved = {name: tensor.to(embedding) for name, tensor in weights.items()}
        embedding = _APPLIED[activation](F.linear(embedding, moved["linear.weight"], moved.get("linear.bias")))
    return embedding
