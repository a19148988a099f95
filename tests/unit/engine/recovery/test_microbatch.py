"""A batch in parts: the gradient is the whole batch's, no pass is larger than allowed, and what fits is found out."""

import copy
from collections.abc import Callable
from multiprocessing import Pipe
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import ASTForAudioClassification

from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.spec.recovery import Distill
from tests.support.jobs.groups import by_each
from worker.engine.data.split import FeatureSplit, Inputs, map_tensors
from worker.engine.parallel.group import ALONE, Group
from worker.engine.parallel.processes import Member
from worker.engine.recovery import Teacher
from worker.engine.recovery.distill import distillation, pooled_variance
from worker.engine.recovery.memory_search import gradient
from worker.engine.recovery.objective import Objective
from worker.engine.tasks import Classification

from .conftest import CLASSES, train

CPU = torch.device("cpu")
OUTPUTS = tuple(f"audio_spectrogram_transformer.layers.{layer}.attention.o_proj" for layer in (0, 1))
TEACHING = Distill(weight=0.4, temperature=2.0, attention=0.7)
NO_MEMORY = (
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 9"
)


@pytest.fixture
def teacher(model: ASTForAudioClassification) -> Teacher:
    """A model of other weights, so that its outputs are not the student's."""
    torch.manual_seed(11)
    return Teacher(ASTForAudioClassification(model.config).eval(), OUTPUTS)


def several(split: FeatureSplit) -> FeatureSplit:
    return FeatureSplit({"input_values": split.inputs["input_values"]}, F.one_hot(split.targets, CLASSES).float())


def learnt(
    model: nn.Module,
    batch: tuple[Inputs, Tensor],
    distill: Distill | None,
    teacher: Teacher,
    microbatch: int | None,
    group: Group = ALONE,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss and gradients of one batch, without dropout, in float64 so that only a wrong formula makes a difference."""
    student = copy.deepcopy(model).double().eval()
    doubled = Teacher(copy.deepcopy(teacher.model).double(), teacher.outputs)
    inputs, targets = map_tensors(batch[0], Tensor.double), batch[1]
    task = Classification(several=targets.ndim == 2)
    with distillation(distill, doubled, student, task, group) as learning:
        loss = Objective(student, CPU, task, learning, microbatch, group).backward([(inputs, targets)])
    return loss, {name: p.grad for name, p in student.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("distill", [None, TEACHING], ids=["labels", "teacher"])
@pytest.mark.parametrize("multi_label", [False, True], ids=["one", "several"])
@pytest.mark.parametrize("microbatch", [1, 4, 9])
def test_the_gradient_of_the_parts_is_that_of_the_whole(
    model: ASTForAudioClassification,
    split: FeatureSplit,
    teacher: Teacher,
    microbatch: int,
    multi_label: bool,
    distill: Distill | None,
) -> None:
    """Ten samples in parts that are not all equally large; layers of the teacher that differ in mean and spread."""
    batch = (several(split) if multi_label else split).batch(range(10))
    whole, reference = learnt(model, batch, distill, teacher, None)
    loss, gradients = learnt(model, batch, distill, teacher, microbatch)
    assert gradients.keys() == reference.keys()
    # Logits are taken to float32 for the loss, whatever the model's dtype.
    assert float(loss) == pytest.approx(float(whole), rel=1e-5)
    # Those of k's bias are zero but for rounding: softmax does not see it.
    largest = max(float(expected.abs().max()) for expected in reference.values())
    for name, expected in reference.items():
        assert torch.allclose(gradients[name], expected, rtol=1e-4, atol=1e-7 * largest), name


@pytest.mark.parametrize("distill", [None, TEACHING], ids=["labels", "teacher"])
@pytest.mark.parametrize(("samples", "microbatch"), [(1, None), (1, 2), (2, 1), (7, None), (7, 4), (10, 2)])
def test_several_processes_have_the_gradient_of_the_whole(
    model: ASTForAudioClassification,
    split: FeatureSplit,
    teacher: Teacher,
    samples: int,
    microbatch: int | None,
    distill: Distill | None,
) -> None:
    """Also of a batch with fewer samples than processes, and with a bound on what passes in all of them together."""
    batch, seen = split.batch(range(samples)), list[int]()
    whole, reference = learnt(model, batch, distill, teacher, None)
    model.register_forward_pre_hook(lambda *given: seen.append(len(given[-1]["input_values"])), with_kwargs=True)
    for loss, gradients in by_each(3, lambda mine: learnt(model, batch, distill, teacher, microbatch, mine)):
        assert float(loss) == pytest.approx(float(whole), rel=1e-5)
        assert gradients.keys() == reference.keys()
        largest = max(float(expected.abs().max()) for expected in reference.values())
        for name, expected in reference.items():
            assert torch.allclose(gradients[name], expected, rtol=1e-4, atol=1e-7 * largest), name
    assert max(seen) <= max(1, (microbatch or 12) // 3)


def test_the_variance_of_a_whole_from_its_parts() -> None:
    random = np.random.default_rng(0)
    parts = [torch.tensor(random.normal(loc, scale, n)) for n, loc, scale in ((4, 0, 1), (4, 5, 0.1), (2, -3, 7))]
    pooled = pooled_variance([4, 4, 2], [p.mean() for p in parts], [p.var(correction=0) for p in parts])
    assert float(pooled) == pytest.approx(float(torch.cat(parts).numpy().var()))


@pytest.mark.parametrize("distill", [None, TEACHING], ids=["labels", "teacher"])
def test_a_bound_that_no_batch_reaches_changes_no_bit(
    model: ASTForAudioClassification, split: FeatureSplit, teacher: Teacher, distill: Distill | None
) -> None:
    runs = [
        train(copy.deepcopy(model), split, teacher=teacher, distill=distill, microbatch=bound) for bound in (None, 10)
    ]
    one, two = (tuned.state_dict() for tuned, _, _ in runs)
    assert runs[0][2] == runs[1][2]
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_training_in_parts_is_training(model: ASTForAudioClassification, split: FeatureSplit, teacher: Teacher) -> None:
    """Without dropout, whose draws depend on the passes; augmentation is on, and is drawn for whole batches."""
    model.config.hidden_dropout_prob = model.config.attention_probs_dropout_prob = 0.0
    start = ASTForAudioClassification(model.config)
    settings = {"lora": {"dropout": 0.0}, "distill": TEACHING, "teacher": teacher}
    seen: list[int] = []
    for network in (start, teacher.model):
        network.register_forward_pre_hook(lambda *given: seen.append(len(given[-1]["input_values"])), with_kwargs=True)
    whole, _, losses = train(copy.deepcopy(start), split, **settings)
    assert max(seen) == 10
    seen.clear()
    parts, _, losses_of_parts = train(copy.deepcopy(start), split, microbatch=4, **settings)
    assert max(seen) == 4
    assert [row.train_loss for row in losses_of_parts] == pytest.approx([row.train_loss for row in losses], rel=1e-3)
    before, after = start.state_dict(), whole.state_dict()
    moved = max(float((after[name] - before[name]).abs().max()) for name in after)
    assert max(float((after[name] - value).abs().max()) for name, value in parts.state_dict().items()) < 0.02 * moved


def test_a_part_that_is_not_finite_is_an_error(model: ASTForAudioClassification, split: FeatureSplit) -> None:
    features = split.inputs["input_values"].copy()
    features[3, 0, 0] = np.inf
    with pytest.raises(SecateurError) as caught:
        train(model, FeatureSplit({"input_values": features}, split.targets), epochs=1, microbatch=4)
    assert caught.value.code is ErrorCode.NUMERICAL


@pytest.fixture
def room_for(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Exception], None]:
    """Lets every model of the tests' class pass as many samples as said, and no more."""

    def limit(samples: int, error: Exception) -> None:
        forward = ASTForAudioClassification.forward

        def limited(self: nn.Module, input_values: Tensor, *args: object, **kwargs: object) -> object:
            if len(input_values) > samples:
                raise error
            return forward(self, input_values, *args, **kwargs)

        monkeypatch.setattr(ASTForAudioClassification, "forward", limited)

    return limit


@pytest.mark.parametrize(
    ("room", "microbatch", "fits"), [(5, None, 5), (4, None, 2), (1, None, 1), (3, 8, 2), (7, 8, 4)]
)
def test_what_fits_is_found_out(
    model: ASTForAudioClassification,
    split: FeatureSplit,
    teacher: Teacher,
    room_for: Callable[[int, Exception], None],
    room: int,
    microbatch: int | None,
    fits: int,
) -> None:
    """Halves of ten, or of the eight that were allowed: the first that passes."""
    room_for(room, RuntimeError(NO_MEMORY))
    with pytest.raises(SecateurError) as caught:
        train(model, split, teacher=teacher, distill=TEACHING, microbatch=microbatch)
    assert caught.value.code is ErrorCode.OUT_OF_MEMORY
    assert f"with {microbatch or 10} samples at a time" in caught.value.detail
    assert f"A batch of {fits} samples at a time fits" in caught.value.detail
    assert not [module for module in teacher.model.modules() if module._forward_hooks]


def test_one_of_several_processes_finds_it_out_without_the_others(
    model: ASTForAudioClassification, split: FeatureSplit, room_for: Callable[[int, Exception], None]
) -> None:
    """They are in the midst of a batch, and would take what it sends for a part of that."""
    room_for(2, RuntimeError(NO_MEMORY))
    ours, theirs = Pipe()
    theirs.close()  # Whoever asks is told.
    objective = Objective(model, CPU, Classification(several=False), None, None, Group(Member(1, 2, (ours,))))
    with pytest.raises(SecateurError, match=r"with 10 samples at a time\. A batch of 4 samples"):
        gradient(objective, [split.batch(range(10))])


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="the host does not report its memory")
def test_where_nothing_fits_it_says_what_there_is(
    model: ASTForAudioClassification, split: FeatureSplit, room_for: Callable[[int, Exception], None]
) -> None:
    room_for(0, MemoryError())
    with pytest.raises(SecateurError, match=r"Not even one sample at a time fits: \d+\.\d of the host's \d+\.\d GiB"):
        train(model, split)


def test_other_errors_are_not_taken_for_it(
    model: ASTForAudioClassification, split: FeatureSplit, room_for: Callable[[int, Exception], None]
) -> None:
    room_for(4, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="shapes"):
        train(model, split)
