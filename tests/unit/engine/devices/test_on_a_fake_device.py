"""Nothing in the hot loops makes the host wait for a device, and no tensor in them lies elsewhere: every family, without a GPU.

What a fake tensor (fake.py) lets pass, `Loop` refuses: tensors that are made on the host, or go there or come from there. What
this cannot see: autocast, generators, the optimizer (torch's own), and whether a kernel of CUDA itself waits, for which
test_device.py and test_on_gpu.py ask a real one.
"""

from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException

from api_schemas.enums import Head
from api_schemas.spec.recovery import Augment, Distill
from benchmarks.families.examples import Example
from benchmarks.families.reference import cut_by, keeps
from tests.unit.engine.devices.fake import CHOSEN, DEVICE, SAMPLES, Job, Loop, OnDevice, Waited, every, head_of
from worker.engine.data.augment import SPECTROGRAM, Augmentation
from worker.engine.data.split import Inputs
from worker.engine.models.feed_forward import feed_forward_blocks
from worker.engine.pruning import surgery
from worker.engine.recovery.distill import Teacher, distillation
from worker.engine.recovery.finetune import _clipped, train_without_batch_norm
from worker.engine.recovery.lora import base_of
from worker.engine.recovery.objective import LossTracker, Objective
from worker.engine.scoring import Observations, Statistic, observe


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
