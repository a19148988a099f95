"""Learning from the original model (Hinton, Vinyals and Dean, arXiv 1503.02531) while the cut one recovers.

Shapes: B samples, T tokens, D model width.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from api_schemas.spec.recovery import Distill
from worker.engine.data.split import Inputs, rows
from worker.engine.tasks import Task

LEAST_VARIANCE = 1e-8
"""Of a teacher's attention output, below which it counts as this much: a layer that says nothing must not divide by it."""


def attention_mismatch(
    student: Sequence[Tensor], teacher: Sequence[Tensor], variances: Sequence[Tensor] | None = None
) -> Tensor:
    """Mean over layers of the squared error between attention outputs [B, T, D], in units of the teacher's variance.

    `variances` are those, one a layer, of the batch that these samples are a part of; without them, the samples' own.
    """
    layers = []
    for number, (student_BTD, teacher_BTD) in enumerate(zip(student, teacher, strict=True)):
        target_BTD = teacher_BTD.float()
        error = (student_BTD.float() - target_BTD).square().mean()
        variance = target_BTD.var(correction=0) if variances is None else variances[number]
        layers.append(error / variance.clamp_min(LEAST_VARIANCE))
    return torch.stack(layers).mean()


def pooled_variance(counts: Sequence[int], means: Sequence[Tensor], variances: Sequence[Tensor]) -> Tensor:
    """Variance (divided by the count) of a whole from the counts, means and such variances of its parts; a scalar."""
    # Shares stay numbers of the host: to bring them to a GPU would make the host wait for it.
    shares = [count / sum(counts) for count in counts]
    middle = torch.stack([share * mean for share, mean in zip(shares, means, strict=True)]).sum()
    spread = zip(shares, means, variances, strict=True)
    return torch.stack([share * (variance + (mean - middle).square()) for share, mean, variance in spread]).sum()


@dataclass(frozen=True)
class Teacher:
    """The original model, and the module paths of its attention output projections, alike in the student."""

    model: nn.Module
    outputs: tuple[str, ...] = ()


@dataclass
class Distillation:
    """The loss of a student that has both labels and a teacher. Made by `distillation`."""

    spec: Distill
    teacher: Teacher
    task: Task
    _of_student: dict[str, Tensor] = field(default_factory=dict)
    _of_teacher: dict[str, Tensor] = field(default_factory=dict)
    _variances: list[Tensor] | None = None
    """Of the teacher's outputs over the whole batch, in the order of `teacher.outputs`, where it comes in parts."""

    def survey(self, parts: Sequence[Inputs]) -> None:
        """Before the losses of a batch whose inputs come in these parts.

        The mismatch is in units of the whole batch's variance, which no part knows: where there are several, the teacher
        sees the batch once more. To keep what it says instead would take the memory that the parts are there to save.
        """
        self._variances = None
        if len(parts) == 1 or not (self.spec.attention and self.teacher.outputs):
            return
        moments: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in self.teacher.outputs}
        for inputs in parts:
            with torch.no_grad():
                self.task.outputs(self.teacher.model, inputs)
            for name, seen in moments.items():
                output = self._of_teacher[name].float()
                seen.append((output.mean(), output.var(correction=0)))
        counts = [rows(inputs) for inputs in parts]
        self._variances = [
            pooled_variance(counts, [mean for mean, _ in seen], [variance for _, variance in seen])
            for seen in moments.values()
        ]

    def loss(self, on_labels: Tensor, inputs: Inputs, answers: Tensor, targets: Tensor) -> Tensor:
        """(1 - weight) · on_labels + weight · T² · divergence + attention · mismatch, right after the student's pass.

        T² keeps the gradient's size when the temperature changes (section 2 of the paper).
        """
        spec = self.spec
        with torch.no_grad():
            taught = self.task.outputs(self.teacher.model, inputs).float()
        softened = self.task.divergence(answers, taught, spec.temperature, targets)
        total = (1.0 - spec.weight) * on_labels + spec.weight * spec.temperature**2 * softened
        if self._of_teacher:
            names = self.teacher.outputs
            outputs = [self._of_student[name] for name in names], [self._of_teacher[name] for name in names]
            total = total + spec.attention * attention_mismatch(*outputs, self._variances)
        self.forget()
        return total

    def forget(self) -> None:
        """Let go of the outputs of the last passes."""
        self._of_student.clear()
        self._of_teacher.clear()


def _remember(
    model: nn.Module, names: Iterable[str], outputs: dict[str, Tensor]
) -> list[torch.utils.hooks.RemovableHandle]:
    def hook_for(name: str) -> torch.utils.hooks.RemovableHandle:
        def hook(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            outputs[name] = output

        return model.get_submodule(name).register_forward_hook(hook)

    return [hook_for(name) for name in names]


@contextmanager
def distillation(
    spec: Distill | None, teacher: Teacher | None, student: nn.Module, task: Task
) -> Iterator[Distillation | None]:
    """A Distillation for the block, with the teacher in eval mode; None where nothing of the teacher would count.

    `student` carries the same module paths as the teacher. ValueError where the spec asks for a teacher and none is given.
    """
    if spec is None or (spec.weight == 0 and spec.attention == 0):
        yield None
        return
    if teacher is None:
        raise ValueError("the spec asks for distillation, which needs the original model")
    learning = Distillation(spec, teacher, task)
    training = teacher.model.training
    teacher.model.train(False)
    names = teacher.outputs if spec.attention else ()
    hooks = _remember(student, names, learning._of_student) + _remember(teacher.model, names, learning._of_teacher)
    try:
        yield learning
    finally:
        for hook in hooks:
            hook.remove()
        teacher.model.train(training)
