"""Training on rows of several lengths: the gradient of a padded pass is that of its rows, the same seed gives the same bits."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from api_schemas.results.metrics import EpochLoss
from api_schemas.spec.recovery import Distill, Finetune
from tests.unit.engine.tasks.models import ctc
from tests.unit.engine.tasks.uneven import CASES, LENGTHS, Uneven, uneven
from worker.engine.data.split import IGNORED, PASS_COSTS, FeatureSplit, Ragged, map_tensors
from worker.engine.models.attention import linear_at
from worker.engine.recovery import CheckpointSettings, Teacher, finetune
from worker.engine.recovery.distill import attention_mismatch, distillation
from worker.engine.recovery.objective import Batch, Objective
from worker.engine.tasks.ctc import Ctc

CPU = torch.device("cpu")
EVERYTHING = Distill(weight=0.4, temperature=2.0, attention=0.7)
ROWS = [1, 4, 0, 7, 2]
"""Of four lengths."""


def learnt(case: Uneven, passes: list[list[int]], microbatch: int | None = None) -> tuple[float, dict[str, Tensor]]:
    """Loss and gradients of a batch that comes in these passes, without dropout, in float64."""
    torch.manual_seed(11)
    student, teacher = copy.deepcopy(case.model).double().eval(), type(case.model)(case.model.config).double().eval()
    split = case.split.padded(case.task.padding)
    batches: list[Batch] = []
    for numbers in passes:
        inputs, targets = split.batch(numbers)
        wide = map_tensors(inputs, lambda each: each.double() if each.is_floating_point() else each)
        batches.append((wide, targets))
    with distillation(EVERYTHING, Teacher(teacher, case.outputs), student, case.task) as learning:
        loss = Objective(student, CPU, case.task, learning, microbatch).backward(batches)
    return float(loss), {name: p.grad for name, p in student.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", CASES)
def test_the_gradient_of_a_padded_batch_is_that_of_its_rows_however_they_are_divided(name: str) -> None:
    """Labels, the teacher's answers and its attention; alone, in twos of unlike lengths, and all in one pass."""
    case = uneven(name)
    assert len(case.outputs) >= 1
    if name == "hidden states":
        case.task.original.double()  # type: ignore[attr-defined]
    loss, gradients = learnt(case, [[row] for row in ROWS])
    assert any(bool(gradient.any()) for gradient in gradients.values())
    largest = max(float(gradient.abs().max()) for gradient in gradients.values())
    for passes, microbatch in (([ROWS], None), ([ROWS], 2), ([ROWS[:3], ROWS[3:]], None)):
        found, others = learnt(case, passes, microbatch)
        assert found == pytest.approx(loss, rel=1e-5)
        assert others.keys() == gradients.keys()
        for path, expected in gradients.items():
            # Logits are taken to float32 for the loss, whatever the model's dtype.
            assert torch.allclose(others[path], expected, rtol=1e-4, atol=1e-5 * largest), (path, passes, microbatch)


def test_attention_behind_a_row_does_not_count() -> None:
    student, teacher = torch.randn(2, 4, 3, 5, generator=torch.Generator().manual_seed(0)).unbind()
    real = torch.tensor([[True, True, True], [True, False, False], [True, True, False], [True, True, True]])
    rows = [(s[own], t[own]) for s, t, own in zip(student, teacher, real, strict=True)]
    variance = torch.cat([t.flatten() for _, t in rows]).var(correction=0)
    expected = torch.stack([(s - t).square().mean() for s, t in rows]).mean() / variance
    student[~real], teacher[~real] = 1e3, -1e3
    torch.testing.assert_close(attention_mismatch([student], [teacher], None, [real]), expected)


def train(
    case: Uneven, seed: int, checkpointing: CheckpointSettings | None = None, microbatch: int | None = None
) -> tuple[dict[str, Tensor], list[EpochLoss], list[tuple[int, int]]]:
    """Two epochs in batches of five, with dropout and a teacher; the weights, the losses, and what was said of batches."""
    model, losses, said = copy.deepcopy(case.model), [], []
    tuned, _ = finetune(
        model,
        case.split,
        Finetune.model_validate({"epochs": 2, "batch_size": 5, "learning_rate": 3e-3, "distill": EVERYTHING}),
        projections={path: linear_at(model, path) for path in case.outputs},
        classifiers=[],
        task=case.task,
        pad_value=0.0,
        seed=seed,
        device=CPU,
        on_batch=lambda done, total: said.append((done, total)),
        on_epoch=losses.append,
        teacher=Teacher(case.model, case.outputs),
        checkpointing=checkpointing,
        microbatch=microbatch,
    )  # fmt: skip
    return tuned.state_dict(), losses, said


@pytest.mark.parametrize(("microbatch", "most"), [(None, 5 * 6), (3, 3 * 6), (1, max(LENGTHS))])
def test_a_pass_holds_no_more_than_its_samples_of_the_usual_length(
    microbatch: int | None, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of six tokens; a longer text is a pass of its own."""
    monkeypatch.setitem(PASS_COSTS, "cpu", 4.0)
    case = uneven("tokens")
    assert case.task.padding is not None
    case.task.padding = replace(case.task.padding, usual=6)
    held: list[tuple[int, int]] = []
    seen = lambda *given: held.append(tuple(given[-1]["input_ids"].shape))  # noqa: E731
    case.model.register_forward_pre_hook(seen, with_kwargs=True)
    _, _, said = train(case, 1, microbatch=microbatch)
    assert said[-1] == (6, 6)
    assert max(rows for rows, _ in held) <= (microbatch or 5)
    assert most - 4 <= max(rows * tokens for rows, tokens in held) <= most


class Killed(Exception):
    pass


def saved_in(folder: Path, earlier: Path | None = None, *, killed: bool = False) -> CheckpointSettings:
    def on_saved(_epoch: int, _path: Path) -> None:
        if killed:
            raise Killed

    def on_resumed(losses: Sequence[EpochLoss], done: int, total: int) -> None:
        assert (len(losses), done, total) == (1, 3, 6)

    return CheckpointSettings(folder, 1, 0.0, earlier, on_saved, on_resumed)


@pytest.mark.parametrize("name", ["tokens", "ctc", "written"])
def test_batches_are_full_and_a_training_gone_on_with_has_the_same_bits(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PASS_COSTS, "cpu", 4.0)
    case = uneven(name)
    passes: list[int] = []
    counting = case.model.register_forward_pre_hook(lambda *_: passes.append(1))
    whole, losses, said = train(case, seed=1)
    assert said == [(done, 6) for done in range(1, 7)]
    # The student's, which is a copy, and the teacher's.
    assert len(passes) == 2 * 6
    counting.remove()
    with pytest.raises(Killed):
        train(case, 1, saved_in(tmp_path, killed=True))
    (earlier,) = tmp_path.iterdir()
    rest, their_losses, heard = train(case, 1, saved_in(tmp_path / "rest", earlier))
    assert heard == said[3:]
    assert their_losses == losses[1:]
    assert all(torch.equal(rest[path], tensor) for path, tensor in whole.items())
    assert any(not torch.equal(tensor, whole[path]) for path, tensor in train(case, seed=2)[0].items())


def test_a_model_that_hears_silence_is_trained_on_full_batches_of_passes_of_equal_lengths() -> None:
    """With a norm over all frames: every pass is of one length and without a mask, and a step is as large as with padding."""
    split = uneven("ctc").split
    case = Uneven(ctc(norm="group"), Ctc(blank=0, decode=str), split)
    masks: list[bool] = []
    case.model.register_forward_pre_hook(lambda *given: masks.append("attention_mask" in given[-1]), with_kwargs=True)
    _, losses, said = train(case, seed=1)
    assert said[-1] == (6, 6)
    assert not any(masks)
    assert len(set(LENGTHS)) < len(losses) * len(set(LENGTHS)) <= len(masks)


def test_masked_inputs_alone_are_no_answer() -> None:
    """What is asked behind a row is IGNORED, and what stands there in the inputs reaches no loss."""
    case = uneven("tokens")
    split = case.split.padded(case.task.padding)
    inputs, targets = split.batch(ROWS)
    assert (targets[inputs["attention_mask"] == 0] == IGNORED).all()
    other = replace(case.task.padding, fills={"input_ids": 9.0, "token_type_ids": 1.0})  # type: ignore[type-var]
    strange, _ = case.split.padded(other).batch(ROWS)
    assert not torch.equal(strange["input_ids"], inputs["input_ids"])
    with torch.no_grad():
        losses = [case.task.loss(case.task.outputs(case.model, each), targets) for each in (inputs, strange)]
    torch.testing.assert_close(*losses)


@pytest.mark.parametrize("alike", [True, False])
def test_what_was_saved_when_batches_were_others_is_not_gone_on_from(
    alike: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of rows of several lengths were; of one length nothing has changed."""
    case = uneven("tokens")
    if alike:
        ids, tags = (Ragged.of([np.full(4, row + 1) for row in range(12)]), Ragged.of([np.ones(4, np.int64)] * 12))
        case = replace(case, split=FeatureSplit({"input_ids": ids}, tags))
    with monkeypatch.context() as before:
        # By its name: the package has a function that is called so, too.
        before.setattr(import_module("worker.engine.recovery.finetune"), "SEVERAL_LENGTHS", "")
        with pytest.raises(Killed):
            train(case, 1, saved_in(tmp_path, killed=True))
    (earlier,) = tmp_path.iterdir()
    _, losses, _ = train(case, 1, saved_in(tmp_path / "rest", earlier))
    assert len(losses) == (1 if alike else 2)
