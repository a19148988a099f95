"""Layers whose weights stay in the host's memory, where a GPU is too small for the models of a job.

A layer's weights are copied to the device of its inputs when it is called, and the copies are dropped when it returns; all else
of a model is on the device. Of what autograd keeps of a forward pass, large tensors go to the host, and of a weight only which
one it was. So the device holds the weights of one layer at a time. Gradients of these weights and what an optimizer keeps of them
are on the host as well. See docs/adr/0072-gpus-smaller-than-the-model.md.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from worker.engine.runtime.mapped import GRAPH_IN_MEMORY, LEAST, copied_as_it_lies

LAYERS = "layer_paths"
"""Attribute of a model: the paths of its layers, whose weights are used in their own calls only."""
_HANDLES = "offload_handles"
"""Attribute of a layer whose weights are copied for each call: its hooks."""

_CONVERTED = (nn.Linear, nn.Conv1d, nn.Conv2d)
"""What autocast computes in half precision."""

_Weights = list[tuple[nn.Module, str, Any]]
"""Modules, the names of their weights, and the weights on the host."""


class _Kept(NamedTuple):
    """What autograd keeps, on the host: a tensor that is as large as what was packed, or the weight of which it is a view."""

    host: Tensor
    device: torch.device
    dtype: torch.dtype
    """On the device."""
    view: tuple[tuple[int, ...], tuple[int, ...], int] | None = None
    """Size, strides and offset in a weight."""

    def on_device(self) -> Tensor:
        there = self.host.detach().to(self.device, copy=self.view is not None).to(self.dtype)
        return there if self.view is None else there.as_strided(*self.view)


class _Calls:
    """The calls of layers that are running in this process, the innermost last."""

    def __init__(self) -> None:
        self.device: torch.device | None = None
        self.running: list[tuple[nn.Module, _Weights]] = []
        self.copied: dict[int, Tensor] = {}
        """By the storage of a copy, the weight on the host."""

    def begin(self, layer: nn.Module, device: torch.device) -> None:
        """Put copies on the device in the places of the layer's weights."""
        weights: _Weights = [
            (module, name, weight)
            for module in layer.modules()
            for name, weight in module._parameters.items()
            if weight is not None and (weight.device != device or offloads(device))
        ]
        # With their graph, so that a gradient finds its way to the host. All before anything is changed: memory may run out here.
        known: dict[tuple[int, torch.dtype], Any] = {}
        for module, name, weight in weights:
            dtype = _dtype(module, name, weight, device)
            if (id(weight), dtype) not in known:
                known[id(weight), dtype] = weight.to(device, copy=True).to(dtype)
        for module, name, weight in weights:
            copied = known[id(weight), _dtype(module, name, weight, device)]
            self.copied[_storage(copied)] = weight
            # torch reads a tensor there as it does a parameter.
            module._parameters[name] = copied
        self.running.append((layer, weights))

    def end(self, layer: nn.Module) -> None:
        """Put the layer's weights back. Nothing where its call did not come as far as `begin`."""
        if not self.running or self.running[-1][0] is not layer:
            return
        for module, name, weight in self.running.pop()[1]:
            copied = module._parameters[name]
            if copied is not None:
                self.copied.pop(_storage(copied), None)
            module._parameters[name] = weight


_calls = _Calls()


def _dtype(module: nn.Module, name: str, weight: Tensor, device: torch.device) -> torch.dtype:
    """That of a copy. Under autocast, what it would convert is converted at once: autograd would keep its copy otherwise."""
    if not isinstance(module, _CONVERTED) or name != "weight" or not torch.amp.is_autocast_available(device.type):
        return weight.dtype
    return torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else weight.dtype


def _storage(tensor: Tensor) -> int:
    # Also of a tensor without memory.
    number: int = tensor.untyped_storage()._cdata
    return number


def offload_to(device: torch.device | None) -> None:
    """From now on, models that are placed on `device` leave their layers' weights on the host. None: no model does.

    It holds for the whole process: a job has one device.
    """
    _calls.device = device


def offloads(device: torch.device) -> bool:
    """Whether layers' weights stay on the host while a model computes on this device."""
    # By kind: a job says `cuda`, its tensors say `cuda:0`, and a process has one device.
    return _calls.device is not None and device.type == _calls.device.type


def is_too_small(device: torch.device, needed: int, *, ran_out: bool = False) -> bool:
    """Whether a GPU has less free memory than `needed` bytes of models; half as much is too little where a job has run out of it
    before (`ran_out`), as there is more than models."""
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return needed > (free // 2 if ran_out else free)


def place(model: nn.Module, device: torch.device) -> None:
    """Move a model to a device; if `offload_to` says so, all of it but the weights of its layers."""
    layers = [model.get_submodule(path) for path in getattr(model, LAYERS, ())]
    for layer in layers:
        for handle in layer.__dict__.pop(_HANDLES, ()):
            handle.remove()
    if not offloads(device):
        nn.Module.to(model, device)
        return
    with _without_weights(layers):
        nn.Module.to(model, device)
    for layer in layers:
        layer.__dict__[_HANDLES] = (
            # Before all hooks that read weights, and after them, also where one of them ends the call.
            layer.register_forward_pre_hook(_bring, prepend=True, with_kwargs=True),
            layer.register_forward_hook(_drop, always_call=True),
        )


@contextmanager
def _without_weights(layers: Sequence[nn.Module]) -> Iterator[None]:
    """The layers have no weights in this block."""
    taken = [
        (module, name, weight)
        for layer in layers
        for module in layer.modules()
        for name, weight in module._parameters.items()
        if weight is not None
    ]
    for module, name, _ in taken:
        module._parameters[name] = None
    try:
        yield
    finally:
        for module, name, weight in taken:
            module._parameters[name] = weight


def _bring(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    inputs = (each.device for each in (*args, *kwargs.values()) if isinstance(each, Tensor))
    device = next(inputs, None)
    if device is not None:
        _calls.begin(layer, device)


def _drop(layer: nn.Module, _args: object, _output: object) -> None:
    _calls.end(layer)


def on_host(tensor: Tensor) -> Tensor:
    """What is kept until a backward pass: a copy on the host if the tensor is large and on a device that `offload_to` names, else
    the tensor itself."""
    if not offloads(tensor.device) or tensor.nbytes < LEAST:
        return tensor
    return _host_copy(tensor)


def _host_copy(tensor: Tensor) -> Tensor:
    copied = copied_as_it_lies(tensor.detach())
    return tensor.detach().to("cpu", copy=True) if copied is None else copied


@contextmanager
def graph_on_host(in_memory: int = GRAPH_IN_MEMORY) -> Iterator[None]:
    """What autograd keeps of a forward pass goes to the host if it is large; the backward pass copies it to the device again.

    in_memory: bytes of activations that stay on the device.
    """
    left = in_memory

    def pack(tensor: Tensor) -> Tensor | _Kept:
        nonlocal left
        kept = tensor.detach()
        weight = _calls.copied.get(_storage(kept))
        if weight is not None:
            view = tuple(kept.shape), kept.stride(), int(kept.storage_offset())
            return _Kept(weight, kept.device, kept.dtype, view)
        if not offloads(kept.device) or kept.nbytes < LEAST:
            return kept
        if kept.nbytes <= left:
            left -= kept.nbytes
            return kept
        return _Kept(_host_copy(kept), kept.device, kept.dtype)

    def unpack(kept: Tensor | _Kept) -> Tensor:
        return kept.on_device() if isinstance(kept, _Kept) else kept

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        yield
