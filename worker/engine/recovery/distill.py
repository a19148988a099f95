"""Distillation from the original model (Hinton, Vinyals and Dean, arXiv 1503.02531) while the cut one recovers.

Shapes: B samples, T tokens, D model width.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from api_schemas.spec.recovery import Distill
from worker.engine.data.split import Inputs
from worker.engine.parallel.group import ALONE, Group
from worker.engine.tasks import Task
from worker.engine.tasks.padding import mean_of_real, real_positions

LEAST_VARIANCE = 1e-8
"""Of a teacher's attention output, below which it counts as this much: a layer that says nothing must not divide by it."""


def attention_mismatch(
    student: Sequence[Tensor],
    teacher: Sequence[Tensor],
    variances: Sequence[Tensor] | None = None,
    real: Sequence[Tensor | None] | None = None,
) -> Tensor:
    """Mean over layers of the squared error between attention outputs [B, T, D], in units of the teacher's variance.

    `variances` are those, one a layer, of the batch that these samples are a part of; without them, the samples' own. `real`
    [B, T], one a layer: which positions count, where samples were filled up; a sample's error is then the mean over its own.
    """
    layers = []
    for number, (student_BTD, teacher_BTD) in enumerate(zip(student, teacher, strict=True)):
        own = None if real is None else real[number]
        target_BTD = teacher_BTD.float()
        squared_BTD = (student_BTD.float() - target_BTD).square()
        error = squared_BTD.mean() if own is None else mean_of_real(squared_BTD.mean(-1), own).mean()
        variance = _of_real(target_BTD, own).var(correction=0) if variances is None else variances[number]
        layers.append(error / variance.clamp_min(LEAST_VARIANCE))
    return torch.stack(layers).mean()


def _of_real(states_BTD: Tensor, real_BT: Tensor | None) -> Tensor:
    return states_BTD if real_BT is None else states_BTD[real_BT]


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
    group: Group = ALONE
    """Whose parts a batch comes in."""
    _of_student: dict[str, Tensor] = field(default_factory=dict)
    _of_teacher: dict[str, Tensor] = field(default_factory=dict)
    _unfilled: frozenset[str] = frozenset()
    """Of `teacher.outputs`, those of an encoder beside whose input only the decoder's was filled up."""
    _variances: list[Tensor] | None = None
    """Of the teacher's outputs over the whole batch, in the order of `teacher.outputs`, where it comes in parts."""

    def survey(self, parts: Sequence[Inputs]) -> None:
        """Before the losses of a batch whose inputs come in these parts.

        The mismatch is in units of the whole batch's variance, which no part knows: where there are several, the teacher
        sees the batch once more. To keep what it says instead would take the memory that the parts are there to save.
        """
        self._variances = None
        alone = len(parts) == self.group.size == 1
        if alone or not (self.spec.attention and self.teacher.outputs):
            return
        moments: dict[str, list[tuple[int, Tensor, Tensor]]] = {name: [] for name in self.teacher.outputs}
        for inputs in parts:
            with torch.no_grad():
                self.task.outputs(self.teacher.model, inputs)
            for (name, seen), real in zip(moments.items(), self._real(inputs), strict=True):
                output = _of_real(self._of_teacher[name].float(), real)
                seen.append((output.numel(), output.mean(), output.var(correction=0)))
        if self.group.size > 1:
            moments = self._of_all(moments)
        self._variances = [pooled_variance(*zip(*seen, strict=True)) for seen in moments.values()]

    def _of_all(
        self, moments: dict[str, list[tuple[int, Tensor, Tensor]]]
    ) -> dict[str, list[tuple[int, Tensor, Tensor]]]:
        """The same of the parts that all processes have, in the order of ranks."""
        device = next(self.teacher.model.parameters()).device
        found = self.group.gather(
            {name: [(n, mean.cpu(), variance.cpu()) for n, mean, variance in seen] for name, seen in moments.items()}
        )
        return {
            name: [(n, mean.to(device), variance.to(device)) for each in found for n, mean, variance in each[name]]
            for name in moments
        }

    def _real(self, inputs: Inputs) -> list[Tensor | None]:
        """By output, which positions are of the samples themselves."""
        real = real_positions(self.teacher.model, inputs)
        return [None if name in self._unfilled else real for name in self.teacher.outputs]

    def loss(
        self, on_labels: Tensor, inputs: Inputs, answers: Tensor, targets: Tensor, real: Tensor | None = None
    ) -> Tensor:
        """(1 - weight) · on_labels + weight · T² · divergence + attention · mismatch, right after the student's pass.

        T² keeps the gradient's size when the temperature changes (section 2 of the paper).
        """
        spec = self.spec
        with torch.no_grad():
            taught = self.task.outputs(self.teacher.model, inputs).float()
        softened = self.task.divergence(answers, taught, spec.temperature, targets, real)
        total = (1.0 - spec.weight) * on_labels + spec.weight * spec.temperature**2 * softened
        if self._of_teacher:
            names = self.teacher.outputs
            outputs = [self._of_student[name] for name in names], [self._of_teacher[name] for name in names]
            mismatch = attention_mismatch(*outputs, self._variances, self._real(inputs))
            total = total + spec.attention * mismatch
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
    spec: Distill | None, teacher: Teacher | None, student: nn.Module, task: Task, group: Group = ALONE
) -> Iterator[Distillation | None]:
    """A Distillation for the block, with the teacher in eval mode; None where nothing of the teacher would count.

    `student` carries the same module paths as the teacher. ValueError where the spec asks for a teacher and none is given.
    """
    if spec is None or (spec.weight == 0 and spec.attention == 0):
        yield None
        return
    if teacher is None:
        raise ValueError("the spec asks for distillation, which needs the original model")
    encoder = task.encoder(teacher.model)
    heard = set() if encoder is None else set(encoder.modules())
    unfilled = frozenset(name for name in teacher.outputs if teacher.model.get_submodule(name) in heard)
    learning = Distillation(spec, teacher, task, group, _unfilled=unfilled)
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
