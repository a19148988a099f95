"""A GPU that is smaller than a job's models: with their layers' weights on the host, nothing is computed across devices."""

from types import SimpleNamespace
from typing import Any
from weakref import finalize

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from api_schemas.spec.recovery import Distill
from benchmarks.families.examples import Example
from benchmarks.families.reference import dense
from tests.unit.engine.devices.fake import CHOSEN, DEVICE, SAMPLES, Job, OnDevice, every, layers_of
from worker.engine.models.attention import attention_blocks
from worker.engine.models.feed_forward import feed_forward_blocks
from worker.engine.pruning import compensation
from worker.engine.pruning.regression import RidgeRegression
from worker.engine.recovery.distill import Teacher, distillation
from worker.engine.recovery.finetune import train_without_batch_norm
from worker.engine.recovery.lora import base_of
from worker.engine.recovery.objective import Objective
from worker.engine.runtime import mapped, offload
from worker.engine.scoring import Statistic, observe

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("offloading_ends")


@pytest.fixture
def all_on_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its size."""
    monkeypatch.setattr(offload, "LEAST", 1)
    # A fake tensor is in no file.
    monkeypatch.setattr(mapped, "_storage", lambda _size: None)
    monkeypatch.setattr(offload.graph_on_host.__wrapped__, "__defaults__", (0,))  # type: ignore[attr-defined]


def small_device(tiny: Example, *, adapted: bool = False) -> Job:
    job = Job(tiny, adapted=adapted, on_host=True)
    # As of a GPU, whose tensors have a number where a job's device has none: the two are not equal.
    numbered = torch.device(DEVICE.type, 0)
    assert numbered != DEVICE
    offload.offload_to(numbered)
    with job.mode, pytest.MonkeyPatch.context() as patch:
        # All is where it belongs; torch cannot swap one fake parameter for another.
        patch.setattr(nn.Module, "to", lambda module, _device: module)
        offload.place(job.whole.model, DEVICE)
        offload.place(job.cut.model, DEVICE)
    return job


def assert_on_host(model: nn.Module) -> None:
    inside = {id(weight) for layer in layers_of(model) for weight in layer.parameters()}
    assert inside
    assert {weight.device for weight in model.parameters() if id(weight) in inside} == {CPU}
    assert {weight.device for weight in model.parameters() if id(weight) not in inside} <= {DEVICE}


def observed(job: Job, tiny: Example) -> Any:
    with job.mode:
        return observe(
            job.cut.model,
            job.blocks,
            [(job.inputs, job.task.asked(job.inputs, job.targets))],
            job.task.loss,
            frozenset(Statistic),
            neurons=feed_forward_blocks(job.cut.model, tiny.model_spec, job.cut.widths),
            outputs=job.task.outputs,
            device=DEVICE,
        )


@every
@pytest.mark.usefixtures("no_known_waits", "all_on_host")
def test_every_family_is_scored(tiny: Example) -> None:
    job = small_device(tiny)
    assert observed(job, tiny).neurons
    assert_on_host(job.cut.model)


@every
@pytest.mark.usefixtures("no_known_waits", "all_on_host")
def test_every_family_is_trained(tiny: Example) -> None:
    """Against a teacher that lies there as well. Adapters have their gradients where they are: on the host."""
    job = small_device(tiny, adapted=True)
    train_without_batch_norm(job.trained)
    teacher = Teacher(job.whole.model, tuple(block.names["o"] for block in job.blocks if block.widths.heads))
    spec = Distill(weight=0.5, attention=0.5)
    with job.mode, distillation(spec, teacher, base_of(job.trained), job.task) as learning:
        loss = Objective(job.trained, DEVICE, job.task, learning, None).backward([(job.inputs, job.targets)])
    assert loss.device == DEVICE
    adapters = [weight for name, weight in job.trained.named_parameters() if "lora_" in name]
    assert adapters
    assert {weight.grad.device for weight in adapters if weight.grad is not None} == {CPU}
    assert all(weight.grad is not None for weight in adapters)
    assert_on_host(job.whole.model)


@every
def test_every_family_is_refitted(tiny: Example, monkeypatch: pytest.MonkeyPatch) -> None:
    sums: list[Tensor] = []
    monkeypatch.setattr(RidgeRegression, "fit", lambda self, *_: sums.append(self._xx))
    job = small_device(tiny)
    with job.mode:
        compensation.refit_outputs(job.whole, job.cut, [job.inputs], compensation.Ridges(1e-3, 1e-1))
    assert sums
    assert {sum_CC.device for sum_CC in sums} == {DEVICE}
    assert_on_host(job.cut.model)


@pytest.mark.parametrize("bias", [True, False])
def test_a_map_on_the_host_is_fitted_on_the_device(bias: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "isfinite", lambda _: SimpleNamespace(all=lambda: True))
    with FakeTensorMode():
        linear = nn.Linear(6, 3, bias=bias)
        regression = RidgeRegression(linear, device=DEVICE)
        regression.add(torch.randn(2, 5, 6, device=DEVICE), torch.randn(2, 5, 3, device=DEVICE))
        regression.fit(1e-3)
        regression.fit(1e-3, torch.tensor([0, 2, 5]))
        assert regression._now().device == DEVICE
    assert linear.weight.device == CPU


class Held(TorchDispatchMode):
    """How many bytes are on the device, and the most that were."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self._known: set[int] = set()

    def _gone(self, storage: int, size: int) -> None:
        self._known.discard(storage)
        self.now -= size

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and tensor.device == DEVICE:
                storage = tensor.untyped_storage()
                if storage._cdata not in self._known:
                    self._known.add(storage._cdata)
                    finalize(storage, self._gone, storage._cdata, storage.nbytes())
                    self.now += storage.nbytes()
                    self.most = max(self.most, self.now)
        return result


def most_on_device(layers: int, *, on_host: bool) -> tuple[int, int]:
    """The most bytes that scoring has on the device, beside what is outside of the layers; and those of one layer's weights."""
    tiny, put = CHOSEN[0], OnDevice()
    loaded = dense(tiny.model_spec, tiny.stock(num_hidden_layers=layers, hidden_size=128, intermediate_size=512))
    inside = layers_of(loaded.model)
    weights = sum(weight.nbytes for weight in inside[0].parameters())
    put.model(loaded.model, inside if on_host else ())
    offload.offload_to(DEVICE if on_host else None)
    held = Held()
    with put.mode, pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.Module, "to", lambda module, _device: module)
        offload.place(loaded.model, DEVICE)
        x = put.batch(tiny.inputs(SAMPLES))
        with held:
            if not on_host:
                held.now = held.most = layers * weights
            observe(
                loaded.model,
                attention_blocks(loaded.model, loaded.model_spec, loaded.widths),
                [(x, put.tensor(torch.zeros(SAMPLES)))],
                lambda logits_BC, _: logits_BC.square().sum(1),
                {Statistic.FISHER, Statistic.CONTEXT},
                neurons=feed_forward_blocks(loaded.model, loaded.model_spec, loaded.widths),
                device=DEVICE,
            )
    return held.most, weights


@pytest.mark.usefixtures("all_on_host")
def test_one_layer_at_a_time_is_on_the_device() -> None:
    (three, layer), (six, _) = (most_on_device(layers, on_host=False) for layers in (3, 6))
    assert six - three > 3 * layer
    (three, _), (six, _) = (most_on_device(layers, on_host=True) for layers in (3, 6))
    assert three > layer
    # Three layers' statistics.
    assert six - three < layer
