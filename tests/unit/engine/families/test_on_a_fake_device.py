"""Nothing in the hot loops makes the host wait for a device, and no tensor in them lies elsewhere: every family, without a GPU.

Models, inputs and targets are fake tensors of torch (shapes, dtypes and devices, no numbers) on the device `meta`, which stands
for a GPU. Fake tensors of a fake `cuda` would be nearer, but on a build without CUDA the first backward pass ends the process. A
fake tensor refuses an operator whose operands lie on several devices, and one whose result the host would have to read; `Loop`
refuses what fake tensors let pass: tensors that are made on the host, or go there or come from there. What this cannot see:
autocast, generators, the optimizer (torch's own), and whether a kernel of CUDA itself waits, for which test_device.py and
test_on_gpu.py ask a real one.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._guards import detect_fake_mode
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import PreTrainedModel
from transformers.models.dinov3_vit import modeling_dinov3_vit

from api_schemas.enums import Head
from api_schemas.spec.recovery import Augment, Distill, Lora
from benchmarks.families.examples import Example
from benchmarks.families.reference import cut_by, dense, keeps
from benchmarks.families.tiny_models import MODELS
from worker.engine.data.augment import SPECTROGRAM, Augmentation
from worker.engine.data.split import IGNORED, Inputs
from worker.engine.models.attention import attention_blocks, projections_by_name
from worker.engine.models.feed_forward import feed_forward_blocks
from worker.engine.models.pruned_layers import PrunedRotaryAttention
from worker.engine.pruning import surgery
from worker.engine.recovery.distill import Teacher, distillation
from worker.engine.recovery.finetune import _clipped, train_without_batch_norm
from worker.engine.recovery.lora import attach, base_of
from worker.engine.recovery.objective import LossTracker, Objective
from worker.engine.scoring import Observations, Statistic, observe
from worker.engine.tasks import Task, masked, task_for
from worker.engine.tasks.label_sampling import LabelGenerators

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
    """The first class of every family, and the first of every head."""
    seen: set[Any] = set()
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

    def model(self, model: nn.Module) -> None:
        """In place."""
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


class Job:
    """A dense model and one that is cut, with adapters where it is to be trained; a batch and its task. All on the device."""

    def __init__(self, tiny: Example, *, adapted: bool = False) -> None:
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
        if adapted:
            # Before it is on the device: peft moves what it adds, and torch cannot swap a fake parameter for another.
            self.trained, _ = attach(self.cut.model, projections_by_name(self.blocks), kind.classifiers, Lora(rank=2))
            put.model(self.trained)
        put.model(self.whole.model)
        put.model(self.cut.model)
        self.inputs, self.targets = put.batch(real), put.tensor(targets)


@pytest.fixture(autouse=True)
def what_torch_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of `meta`, generators; and what it makes there of a list of numbers is not fake.

    And what DINOv3's class keeps of one call for all others is real there, and here of a mode that has ended.
    """
    make = torch.tensor

    def tensor(data: Any, *args: Any, **settings: Any) -> Tensor:
        made, mode = make(data, *args, **settings), detect_fake_mode()
        if mode is None or made.device != DEVICE:
            return made
        if Loop.running:
            raise Waited(f"a tensor is made of {data}")
        return mode.from_tensor(made)

    monkeypatch.setattr(torch, "tensor", tensor)
    anew: Any = modeling_dinov3_vit.get_patches_center_coordinates
    monkeypatch.setattr(modeling_dinov3_vit, "get_patches_center_coordinates", anew.__wrapped__)
    monkeypatch.setattr(LabelGenerators, "generator", lambda _self, _device: None)


@pytest.fixture
def no_known_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits, and is known to (KNOWN), is taken out, so that all around it is seen."""

    def ctc_loss(log_p_TBV: Tensor, _ids: Tensor, _frames: Tensor, _lengths: Tensor, **_settings: Any) -> Tensor:
        return -log_p_TBV[..., 0].sum(0)

    def places(targets: Tensor) -> tuple[Tensor, ...]:
        return torch.nonzero_static(targets != IGNORED, size=targets.numel()).unbind(1)

    monkeypatch.setattr(functional, "ctc_loss", ctc_loss)
    monkeypatch.setattr(masked, "_places", places)


def score(tiny: Example) -> tuple[Job, Observations]:
    """All statistics of the cut model, by the labels' loss and the model's own."""
    job = Job(tiny)
    own = job.task.sampled_label_loss(0)

    def batches() -> Iterator[tuple[Inputs, Tensor]]:
        with Loop():
            yield job.inputs, job.task.asked(job.inputs, job.targets)

    with job.mode, closing(batches()) as loop:
        found = observe(
            job.cut.model,
            job.blocks,
            loop,
            lambda answers, targets: job.task.loss(answers, targets) + own(answers, targets),
            frozenset(Statistic),
            neurons=feed_forward_blocks(job.cut.model, tiny.model_spec, job.cut.widths),
            outputs=job.task.outputs,
        )
    return job, found


def train(tiny: Example, microbatch: int | None = None) -> tuple[Tensor, nn.Module]:
    """A training step up to the optimizer's: augmentation, both losses, their gradients, clipped. Returns loss and model."""
    job = Job(tiny, adapted=True)
    train_without_batch_norm(job.trained)
    teacher = Teacher(job.whole.model, tuple(block.names["o"] for block in job.blocks if block.widths.heads))
    with (
        job.mode,
        distillation(Distill(weight=0.5, attention=0.5), teacher, base_of(job.trained), job.task) as learning,
    ):
        tracker, inputs = LossTracker(DEVICE, every=64), job.inputs
        # This batch is one of the parts that an epoch's losses are told by.
        tracker.epoch(batches=4, parts=4)
        objective = Objective(job.trained, DEVICE, job.task, learning, microbatch)
        with Loop():
            if SPECTROGRAM in inputs and inputs[SPECTROGRAM].ndim == 3:
                _, frames, mels = inputs[SPECTROGRAM].shape
                augment = Augmentation(Augment(), frames=frames, mels=mels, pad_value=0.0)
                drawn = inputs[SPECTROGRAM].new_zeros(SAMPLES, 5, dtype=torch.int64)
                inputs = inputs | {SPECTROGRAM: augment.apply(inputs[SPECTROGRAM], drawn)}
            loss = objective.backward([(inputs, job.targets)])
            tracker.add(loss, _clipped(job.trained), SAMPLES)
        assert len(tracker._counts) == 1
    return loss, job.trained


@every
@pytest.mark.usefixtures("no_known_waits")
def test_scoring(tiny: Example) -> None:
    job, found = score(tiny)
    for layer, block in zip(found.layers, job.blocks, strict=True):
        assert layer.gates is not None
        assert layer.gates.qk.shape == (block.widths.qk_total, block.widths.qk_total)
    assert found.neurons


@every
@pytest.mark.usefixtures("no_known_waits")
def test_recovery(tiny: Example) -> None:
    loss, trained = train(tiny)
    assert (loss.device, loss.shape) == (DEVICE, ())
    assert all(parameter.grad is not None for name, parameter in trained.named_parameters() if "lora_" in name)


def test_recovery_in_parts() -> None:
    train(CHOSEN[0], microbatch=2)


KNOWN = {
    # torch's kernel reads the lengths of texts on the host; the engine takes the whole loss there, where order has to be kept.
    Head.CTC: "_ctc_loss",
    # The engine's own choice: how many words are masked is asked for, which takes less time than logits of all words would.
    Head.MASKED_LM: "nonzero",
}
"""What waits in spite of all, by head."""


@pytest.mark.parametrize("work", [score, train])
@pytest.mark.parametrize("tiny", [tiny for tiny in CHOSEN if head_of(tiny) in KNOWN], ids=lambda tiny: tiny.id)
def test_what_waits_is_known(tiny: Example, work: Callable[[Example], object]) -> None:
    with pytest.raises(DynamicOutputShapeException, match=KNOWN[head_of(tiny)]):
        work(tiny)


@every
def test_surgery(tiny: Example, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every slice is taken on the device. The model around it is built elsewhere: a constructor asks for numbers."""
    job = Job(tiny)
    found: dict[str, Tensor] = {}
    monkeypatch.setattr(surgery, "rebuild", lambda _model, _spec, _widths, state: found.update(state))
    with job.mode:
        cut_by(job.whole, keeps(job.whole.widths)["heads and channels"])
    expected = job.cut.model.state_dict()
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        assert (tensor.device, tensor.shape) == (DEVICE, expected[name].shape), name


@pytest.mark.parametrize(
    "careless",
    [
        lambda on: on.sum().item(),
        lambda on: on.tolist(),
        lambda on: on.cpu(),
        lambda on: on.nonzero(),
        lambda on: on[[2, 0]],
        lambda on: on + torch.ones(3),
        lambda on: on + torch.tensor([1.0, 2.0, 3.0], device=DEVICE),
        lambda on: bool((on > 0).any()),
    ],
    ids=["item", "tolist", "cpu", "nonzero", "list as index", "stray tensor", "tensor of numbers", "truth"],
)
def test_it_would_be_seen(careless: Callable[[Tensor], object]) -> None:
    put = OnDevice()
    on = put.tensor(torch.ones(3))
    seen = (Waited, DataDependentOutputException, DynamicOutputShapeException, AssertionError)
    with put.mode, Loop(), pytest.raises(seen):
        careless(on)
