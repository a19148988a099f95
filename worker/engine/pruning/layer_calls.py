"""Calls a model's layers one by one, on the outputs of the layers before them, and stores these outputs for many batches.

Memory does not depend on the number of batches. Shapes: B batch, T tokens, D model width.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from worker.engine.data.split import Inputs

IN_MEMORY = 1 << 28
"""Bytes of calls that stay in memory, on the models' device: 256 MiB, 43,000 tokens of two models 768 wide."""

ON_DISK = 16 << 30
"""The most bytes of those that go into a file; never more than half of what is free there."""

_SMALL = 1 << 12
"""Tensors of fewer bytes are not worth a file."""


class StopForward(Exception):
    """Ends a forward pass where nothing more of it is needed."""


@contextmanager
def hooked(*handles: Any) -> Iterator[None]:
    """Hooks that are removed at the end."""
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def hidden_states(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """A module's input, however it was handed over."""
    found: Tensor = args[0] if args else kwargs["hidden_states"]
    return found


class LayerCall(NamedTuple):
    """A layer about to be called: its hidden states (B, T, D) and the rest of its arguments."""

    hidden: Tensor
    rest: tuple[Any, ...]
    by_type: dict[str, dict[str, Any]]
    """By type of layer, what it is called with by keyword: where some see a window only, masks and positions differ."""
    type: str = ""
    """Of the layer that is about to be called."""

    @property
    def kwargs(self) -> dict[str, Any]:
        """What that layer is called with by keyword."""
        return self.by_type[self.type]

    def run(self, layer: nn.Module, carries: str | None = None, following: str = "") -> "LayerCall":
        """The call of the layer after this one, where it follows directly and is of the type `following`."""
        output = layer(self.hidden, *self.rest, **self.kwargs)
        hidden = output[0] if isinstance(output, tuple) else output
        by_type = self.by_type
        if carries is not None:
            by_type = {name: {**kwargs, carries: output[1]} for name, kwargs in by_type.items()}
        return LayerCall(hidden, self.rest, by_type, following)

    def run_until(self, layer: nn.Module) -> None:
        """Run it for its hooks, which may end it early."""
        with suppress(StopForward):
            layer(self.hidden, *self.rest, **self.kwargs)


Calls = tuple[LayerCall, ...]
"""Of the same batch, one a model."""


def call_of_first_layer(model: nn.Module, firsts: Mapping[str, nn.Module], inputs: Inputs) -> LayerCall:
    """What a stack's first layer is called with, and by keyword the first of each type.

    firsts: by type of layer, the first of that type in the stack; the stack's own first comes first. The model runs until all of
    them have been called. Raises ValueError where they are not.
    """
    found: list[LayerCall] = []
    by_type: dict[str, dict[str, Any]] = {}

    def seen(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        others = {key: value for key, value in kwargs.items() if args or key != "hidden_states"}
        # A decoder's cache would grow each time its layer is run again.
        by_type[name] = others | {key: None for key in ("past_key_values", "use_cache") if key in others}
        if not found:
            found.append(LayerCall(hidden_states(args, kwargs), args[1:], by_type, name))
        if len(by_type) == len(firsts):
            raise StopForward

    def hook(name: str) -> Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]:
        return lambda _module, args, kwargs: seen(name, args, kwargs)

    handles = [layer.register_forward_pre_hook(hook(name), with_kwargs=True) for name, layer in firsts.items()]
    with hooked(*handles), suppress(StopForward):
        model(**inputs)
    if len(by_type) < len(firsts):
        raise ValueError("the model never called its first layer")
    return found[0]


@dataclass(frozen=True)
class _Place:
    """A tensor in the file."""

    offset: int
    like: Tensor
    """Of its shape, dtype and device, without memory of its own."""
    device: torch.device

    @property
    def bytes(self) -> int:
        return self.like.numel() * self.like.element_size()


class CallStore:
    """Calls of as many batches as there is room for, in the order in which they were added; a context manager.

    In memory at first, then in a temporary file, then not at all: `full`. What a batch shares with the one before (masks,
    positions) is kept once.
    """

    def __init__(self, in_memory: int | None = None, on_disk: int | None = None) -> None:
        """The most bytes in memory and in the file; by default IN_MEMORY, and ON_DISK or half of what is free."""
        self._memory = IN_MEMORY if in_memory is None else in_memory
        free = shutil.disk_usage(tempfile.gettempdir()).free // 2
        self._disk = min(ON_DISK, free) if on_disk is None else on_disk
        self._file: Any = None
        self._end = 0
        self._kept: list[tuple[list[Any], pytree.TreeSpec]] = []
        self._last: list[Any] = []
        self.full = False
        """Whether something was left out."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of everything."""
        self._kept, self._last = [], []
        if self._file is not None:
            self._file.close()

    def __len__(self) -> int:
        return len(self._kept)

    def append(self, calls: Calls) -> None:
        """Keep these, unless there is no room, or was none before."""
        if self.full:
            return
        leaves, spec = pytree.tree_flatten(calls)
        leaves = [_shared(leaf, self._last[at] if at < len(self._last) else None) for at, leaf in enumerate(leaves)]
        new = [leaf for at, leaf in enumerate(leaves) if isinstance(leaf, Tensor) and not self._has(at, leaf)]
        size = sum(tensor.nbytes for tensor in new)
        if size <= self._memory:
            self._memory -= size
            self._kept.append((leaves, spec))
        elif size <= self._disk:
            self._disk -= size
            self._kept.append(([self._placed(leaf) if _is_among(leaf, new) else leaf for leaf in leaves], spec))
        else:
            self.full = True
            return
        self._last = leaves

    def __iter__(self) -> Iterator[Calls]:
        for leaves, spec in self._kept:
            yield pytree.tree_unflatten(
                [self._read(leaf) if isinstance(leaf, _Place) else leaf for leaf in leaves], spec
            )

    def _has(self, at: int, leaf: Tensor) -> bool:
        return at < len(self._last) and self._last[at] is leaf

    def _placed(self, tensor: Tensor) -> Tensor | _Place:
        if tensor.nbytes < _SMALL:
            return tensor
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="secateur-layers-")  # noqa: SIM115 - closed by `close`
        place = _Place(self._end, torch.empty_like(tensor, device="meta"), tensor.device)
        self._file.seek(self._end)
        self._file.write(tensor.detach().cpu().contiguous().view(torch.uint8).numpy())
        self._end += place.bytes
        return place

    def _read(self, place: _Place) -> Tensor:
        self._file.seek(place.offset)
        bytes_N = torch.frombuffer(bytearray(self._file.read(place.bytes)), dtype=torch.uint8)
        return bytes_N.view(place.like.dtype).view(place.like.shape).to(place.device)


def _shared(leaf: Any, last: Any) -> Any:
    """The tensor of the batch before where this one says the same."""
    if not (isinstance(leaf, Tensor) and isinstance(last, Tensor)):
        return leaf
    alike = (leaf.shape, leaf.dtype, leaf.device) == (last.shape, last.dtype, last.device)
    return last if alike and torch.equal(leaf, last) else leaf


def _is_among(leaf: Any, tensors: list[Tensor]) -> bool:
    return any(leaf is tensor for tensor in tensors)
