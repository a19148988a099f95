"""The linear maps of a pruned model where the stock class has one map for several, or other widths.

This file lies in every pruned checkpoint beside pruned_layers.py, and needs torch and transformers alone.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from transformers.pytorch_utils import Conv1D


class Joined(nn.Module):
    """Several linear maps of one input in place of one with all their rows, in that order."""

    def __init__(self, stock: nn.Linear | Conv1D, names: Sequence[str]) -> None:
        super().__init__()
        kept: Any = {"device": stock.weight.device, "dtype": stock.weight.dtype}
        inputs, _ = _sizes(stock)
        for name in names:
            self.add_module(name, nn.Linear(inputs, 1, bias=stock.bias is not None, **kept))

    @property
    def weight(self) -> torch.Tensor:
        """As the one map's: what initializes a stock class looks for it, and finds a copy."""
        return torch.cat([part.weight for part in self.parts()])

    @property
    def bias(self) -> torch.Tensor | None:
        """Likewise."""
        biases = [part.bias for part in self.parts()]
        return None if biases[0] is None else torch.cat(biases)

    def parts(self) -> list[Any]:
        """The maps."""
        return list(self.children())

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return torch.cat([part(states) for part in self.parts()], dim=-1)


def part(model: nn.Module, joined: str | None, paths: Sequence[str]) -> None:
    """Put maps at `paths` in place of the one that is `joined`, inside of it if the paths are; their outputs are resized next."""
    if joined is None:
        return
    owner, _, name = joined.rpartition(".")
    stock: Any = getattr(model.get_submodule(owner), name, None)
    if not isinstance(stock, nn.Linear | Conv1D):
        return  # narrow was here before
    maps = Joined(stock, [path.rpartition(".")[2] for path in paths])
    if all(path.startswith(f"{joined}.") for path in paths):
        model.set_submodule(joined, maps)
        return
    for path, each in zip(paths, maps.parts(), strict=True):
        model.set_submodule(path, each)
    delattr(model.get_submodule(owner), name)


def _sizes(module: nn.Module, path: str = "the map") -> tuple[int, int]:
    """Inputs and outputs of a linear map, or of one whose weight is the other way round."""
    if isinstance(module, Conv1D):
        return module.nx, module.nf
    if not isinstance(module, nn.Linear):
        raise ValueError(f"{path} is a {type(module).__name__}, not a Linear")
    return module.in_features, module.out_features


def resize(model: nn.Module, path: str, channels: int, *, rows: bool) -> None:
    """Put in place of the map at `path` one with so many outputs (`rows`), or inputs, whose weights are to be loaded."""
    stock: Any = model.get_submodule(path)
    before = _sizes(stock, path)
    inputs, outputs = (before[0], channels) if rows else (channels, before[1])
    if (inputs, outputs) != before or isinstance(stock, Conv1D):
        kept = {"device": stock.weight.device, "dtype": stock.weight.dtype}
        # Tools that quantize linear maps have no range for one without channels, and leave this class of torch's alone.
        made: Any = (nn.Linear if channels else NonDynamicallyQuantizableLinear)(
            inputs, outputs, bias=stock.bias is not None, **kept
        )
        made._is_hf_initialized = not channels  # SigLIP's class would draw it, and divide by the number of inputs
        model.set_submodule(path, made)


def placed(model: nn.Module, entries: Sequence[dict[str, Any]], paths: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Entries with their paths as they are in `model`, without those of parts that it does not have (an encoder's decoder)."""
    prefix = f"{model.base_model_prefix}."
    for entry in entries:
        for place in (str, lambda path: path.removeprefix(prefix), lambda path: prefix + path):
            own = {**entry, **{path: place(entry[path]) for path in paths if path in entry}}
            if has(model, own[paths[0]]):
                yield own
                break


def has(model: nn.Module, path: str) -> bool:
    """Whether there is a module at a path."""
    try:
        model.get_submodule(path)
    except AttributeError:
        return False
    return True
