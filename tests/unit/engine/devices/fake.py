"""Models, inputs and targets on a device that stands for a GPU: fake tensors of torch on the device `meta`, which have shapes,
dtypes and devices, but no numbers.

Fake tensors of a fake `cuda` would be nearer, but on a build without CUDA the first backward pass ends the process. A fake tensor
refuses an operator whose operands are on several devices, and one whose result the host would have to read.
"""

from collections.abc import Collection, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import PreTrainedModel

from api_schemas.enums import Head
from api_schemas.spec.recovery import Lora
from benchmarks.families.examples import Example
from benchmarks.families.reference import cut_by, dense, keeps
from benchmarks.families.tiny_models import MODELS
from tests.support.families import ALIKE
from tests.support.gate import WHOLE
from worker.engine.data.split import IGNORED, Inputs
from worker.engine.models.attention import attention_blocks, projections_by_name
from worker.engine.models.pruned_layers import PrunedRotaryAttention
from worker.engine.recovery.lora import attach
from worker.engine.runtime.offload import LAYERS
from worker.engine.tasks import Task, task_for

DEVICE = torch.device("meta")
SAMPLES = 3


class Waited(AssertionError):
    """The host and the device had to do with each other."""


class Loop(TorchDispatchMode):
    """Raises Waited where an operator takes or gives a tensor that is not on the device."""

    running = False

    def __enter__(self) -> Any:
        Loop.running = True
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        Loop.running = False
        super().__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor)]
        if any(tensor.device != DEVICE for tensor in tensors):
            raise Waited(f"{func} {[(str(tensor.device), tuple(tensor.shape)) for tensor in tensors]}")
        return result


def chosen() -> Iterator[Example]:
    """The first class of every family (in the gate: of those that compute as no other does), and the first of every head."""
    seen: set[Any] = set() if WHOLE else set(ALIKE)
    for tiny in MODELS:
        family = tiny.model_spec.family
        told = {family.name, family.architectures[tiny.name].head}
        if told - seen:
            yield tiny
        seen |= told


CHOSEN = tuple(chosen())
ONE_LAYER = {
    **dict.fromkeys(("num_hidden_layers", "n_layers", "encoder_layers", "decoder_layers"), 1),
    "depths": [2, 1, 1],
}
"""One says what two do, but for CLAP's, whose windows are shifted in every second, and WavLM's, which hand their positions on."""


def stock_of(tiny: Example) -> PreTrainedModel:
    fewer = {} if "num_buckets" in tiny.config else {k: v for k, v in ONE_LAYER.items() if k in tiny.config}
    return tiny.stock(**fewer)


every = pytest.mark.parametrize("tiny", CHOSEN, ids=lambda tiny: tiny.id)


class OnDevice:
    """Puts real tensors on the fake device; one that stands in several places is one there."""

    def __init__(self) -> None:
        self.mode = FakeTensorMode()
        self._known: dict[int, tuple[Tensor, Tensor]] = {}

    def tensor(self, real: Tensor) -> Tensor:
        if id(real) not in self._known:
            fake: Tensor = self.mode.from_tensor(real.detach().to(DEVICE))
            if isinstance(real, nn.Parameter):
                fake = nn.Parameter(fake, requires_grad=real.requires_grad)
            self._known[id(real)] = real, fake
        return self._known[id(real)][1]

    def batch(self, inputs: Inputs) -> Inputs:
        return {name: self.tensor(tensor) for name, tensor in inputs.items()}

    def model(self, model: nn.Module, on_host: Collection[nn.Module] = ()) -> None:
        """In place. The weights of the modules `on_host`, and of theirs, become fake tensors on the host."""
        for module in {inner for each in on_host for inner in each.modules()}:
            for weight in module._parameters.values():
                if weight is not None and id(weight) not in self._known:
                    fake = nn.Parameter(self.mode.from_tensor(weight.detach()), requires_grad=weight.requires_grad)
                    self._known[id(weight)] = weight, fake
        for module in model.modules():
            for tensors in (module._parameters, module._buffers):
                tensors.update({name: self.tensor(t) for name, t in tensors.items() if t is not None})
            if isinstance(module, PrunedRotaryAttention):
                module.columns = self.tensor(module.columns)  # as its `to` does


def head_of(tiny: Example) -> Head:
    return tiny.model_spec.family.architectures[tiny.name].head


def task_of(tiny: Example, original: nn.Module) -> Task:
    return task_for(head_of(tiny), original.config, decode=str, original=original, questions=object())


def targets_of(tiny: Example, answers: Tensor) -> Tensor:
    """What the loss of a head takes beside such answers, on the host."""
    match head_of(tiny):
        case Head.CLASSIFICATION:
            return torch.zeros(SAMPLES, dtype=torch.int64)
        case Head.CTC:
            return torch.tensor([[4, 5, IGNORED]] * SAMPLES)
        case Head.QUESTION_ANSWERING:
            return torch.ones(SAMPLES, 4, dtype=torch.int64)
        case Head.EMBEDDING:
            return torch.zeros(answers.shape)
        case Head.HIDDEN_STATES:
            return torch.zeros(SAMPLES, 0)
        case _:
            return torch.zeros(answers.shape[:2], dtype=torch.int64)


def layers_of(model: nn.Module) -> list[nn.Module]:
    """The layers whose weights may stay on the host."""
    return [model.get_submodule(path) for path in getattr(model, LAYERS)]


class Job:
    """A dense model and one that is cut, with adapters where it is to be trained; a batch and its task. All on the device."""

    def __init__(self, tiny: Example, *, adapted: bool = False, on_host: bool = False) -> None:
        """`on_host`: the weights of the models' layers are on the host."""
        put, kind = OnDevice(), tiny.model_spec
        self.mode = put.mode
        self.whole = dense(kind, stock_of(tiny))
        self.cut = cut_by(self.whole, keeps(self.whole.widths)["heads and channels"])
        self.task = task_of(tiny, self.whole.model)
        real = tiny.inputs(SAMPLES)
        with torch.no_grad():
            targets = targets_of(tiny, self.task.outputs(self.whole.model, real))
        self.blocks = attention_blocks(self.cut.model, kind, self.cut.widths)
        self.trained: Any = None
        layers = {model: layers_of(model) if on_host else () for model in (self.whole.model, self.cut.model)}
        if adapted:
            # Before it is on the device: peft moves what it adds, and torch cannot swap a fake parameter for another.
            self.trained, _ = attach(self.cut.model, projections_by_name(self.blocks), kind.classifiers, Lora(rank=2))
            put.model(self.trained, layers[self.cut.model])
        for model, own in layers.items():
            put.model(model, own)
        self.inputs, self.targets = put.batch(real), put.tensor(targets)
