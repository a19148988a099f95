"""Distillation: the formulas against numbers from elsewhere, and what a teacher is good for."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import ASTForAudioClassification

from api_schemas.enums import Split
from api_schemas.spec.inputs import Columns, Splits
from api_schemas.spec.recovery import Distill, Finetune
from checkpoints.describe import describe_folder
from tests.support.checkpoints.tiny import tiny_data, tiny_model
from worker.engine.checkpoint.load import LoadedModel, load_original
from worker.engine.data import PreparedData, prepare
from worker.engine.data.split import FeatureSplit
from worker.engine.evaluate import answers_of
from worker.engine.models.attention import attention_blocks, projections_by_name
from worker.engine.pruning.selection import KeptHead, widths_of
from worker.engine.pruning.surgery import cut
from worker.engine.recovery import Teacher, finetune
from worker.engine.recovery.distill import attention_mismatch, distillation
from worker.engine.tasks import Classification

from .conftest import projections_of, train

CPU = torch.device("cpu")
NONE = torch.empty(0)
"""Targets, where they are not looked at."""
ONE, SEVERAL = Classification(several=False), Classification(several=True)
OUTPUTS = tuple(f"audio_spectrogram_transformer.layers.{layer}.attention.o_proj" for layer in (0, 1))
STUDENT = torch.tensor([[1.0, 0.0, -1.0], [0.5, 2.0, 0.0]], dtype=torch.float64)
TEACHER = torch.tensor([[2.0, 1.0, 0.0], [0.0, 3.0, -3.0]], dtype=torch.float64)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_divergence_of_one_label_is_torchs(temperature: float) -> None:
    ours = ONE.divergence(STUDENT, TEACHER, temperature, NONE)
    log_student, teacher = F.log_softmax(STUDENT / temperature, -1), F.softmax(TEACHER / temperature, -1)
    assert float(ours) == pytest.approx(float(F.kl_div(log_student, teacher, reduction="batchmean")), rel=1e-12)


def test_divergence_by_hand() -> None:
    """Teacher (ln 3, 0) is (3/4, 1/4), student (0, 0) is even: ¾ ln(¾ / ½) + ¼ ln(¼ / ½) = 0.1308…"""
    student, teacher = torch.zeros(1, 2, dtype=torch.float64), torch.tensor([[np.log(3.0), 0.0]])
    expected = 0.75 * np.log(1.5) + 0.25 * np.log(0.5)
    assert float(ONE.divergence(student, teacher, 1.0, NONE)) == pytest.approx(expected)
    # Logits twice as large at twice the temperature are the same distributions.
    assert float(ONE.divergence(student, 2 * teacher, 2.0, NONE)) == pytest.approx(expected)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_divergence_of_several_labels_is_that_of_bernoullis(temperature: float) -> None:
    bernoulli = torch.distributions.Bernoulli
    reference = torch.distributions.kl_divergence(
        bernoulli(logits=TEACHER / temperature), bernoulli(logits=STUDENT / temperature)
    )
    ours = SEVERAL.divergence(STUDENT, TEACHER, temperature, NONE)
    assert float(ours) == pytest.approx(float(reference.mean()), rel=1e-6)


def test_the_divergence_pulls_towards_the_teacher() -> None:
    """d KL / d student logits = (softmax(student/T) - softmax(teacher/T)) / T, mean over samples."""
    student = STUDENT.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(ONE.divergence(student, TEACHER, 2.0, NONE), student)
    expected = (F.softmax(STUDENT / 2, -1) - F.softmax(TEACHER / 2, -1)) / 2 / len(STUDENT)
    assert torch.allclose(gradient, expected, rtol=1e-10)


def test_mismatch_is_the_error_in_units_of_the_teachers_variance() -> None:
    random = np.random.default_rng(3)
    teacher = [random.normal(size=(2, 5, 4)), 100 * random.normal(size=(2, 5, 4)) + 7]
    student = [layer + 0.1 * layer.std() * random.normal(size=layer.shape) for layer in teacher]
    expected = np.mean([((s - t) ** 2).mean() / t.var() for s, t in zip(student, teacher, strict=True)])
    ours = attention_mismatch([torch.tensor(s) for s in student], [torch.tensor(t) for t in teacher])
    assert float(ours) == pytest.approx(expected, rel=1e-5)
    assert float(ours) == pytest.approx(0.01, rel=0.5)


def test_a_silent_layer_does_not_divide_by_zero() -> None:
    silent = torch.zeros(2, 5, 4)
    assert float(attention_mismatch([silent], [silent])) == 0.0


class Doubler(nn.Module):
    """Logits are the mean input times `factor`; the layer between is what attention outputs are taken from."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.between = nn.Linear(3, 3, bias=False)
        nn.init.eye_(self.between.weight)
        self.factor = factor

    def forward(self, input_values: Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=self.factor * self.between(input_values).mean(dim=1))


def test_the_whole_loss_by_hand() -> None:
    inputs = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    student, teacher = Doubler(1.0), Doubler(2.0).train()
    with torch.no_grad():
        student.between.weight.mul_(0.5)
    spec = Distill(weight=0.3, temperature=2.0, attention=0.7)
    task = torch.tensor(1.25)
    with distillation(spec, Teacher(teacher, ("between",)), student, ONE) as learning:
        assert learning is not None
        assert not teacher.training
        logits = student(inputs).logits
        loss = learning.loss(task, {"input_values": inputs}, logits, NONE)
    assert teacher.training
    assert not student.between._forward_hooks
    assert not teacher.between._forward_hooks
    soft_student, soft_teacher = F.log_softmax(inputs.mean(1) * 0.5 / 2, -1), F.softmax(inputs.mean(1), -1)
    kl = F.kl_div(soft_student, soft_teacher, reduction="batchmean")
    # The student's output is half of the teacher's, so its error is a quarter of the teacher's second moment.
    mismatch = 0.25 * inputs.square().mean() / inputs.var(correction=0)
    assert loss.item() == pytest.approx(float(0.7 * task + 0.3 * 4 * kl + 0.7 * mismatch), rel=1e-5)
    torch.autograd.backward(loss)
    assert student.between.weight.grad is not None
    assert teacher.between.weight.grad is None


def test_weight_zero_is_no_distillation_bit_for_bit(model: ASTForAudioClassification, split: FeatureSplit) -> None:
    teacher = Teacher(copy.deepcopy(model), OUTPUTS)
    plain, _, plain_losses = train(copy.deepcopy(model), split)
    without, _, losses = train(copy.deepcopy(model), split, teacher=teacher, distill=Distill(weight=0.0))
    assert losses == plain_losses
    assert all(torch.equal(value, plain.state_dict()[name]) for name, value in without.state_dict().items())
    other, _, _ = train(copy.deepcopy(model), split, teacher=teacher, distill=Distill(weight=0.5))
    assert not torch.equal(other.state_dict()["classifier.dense.weight"], plain.state_dict()["classifier.dense.weight"])


def test_same_seed_same_bits_and_the_teacher_stays(model: ASTForAudioClassification, split: FeatureSplit) -> None:
    teacher = Teacher(copy.deepcopy(model).train(), OUTPUTS)
    before = copy.deepcopy(teacher.model.state_dict())
    distill = Distill(weight=0.5, attention=1.0)
    results = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        tuned, _, losses = train(copy.deepcopy(model), split, teacher=teacher, distill=distill)
        results.append((tuned.state_dict(), losses))
        assert not [module for module in tuned.modules() if module._forward_hooks]
    assert results[0][1] == results[1][1]
    assert all(torch.equal(value, results[1][0][name]) for name, value in results[0][0].items())
    assert teacher.model.training
    assert all(torch.equal(value, before[name]) for name, value in teacher.model.state_dict().items())
    assert not [module for module in teacher.model.modules() if module._forward_hooks]


def test_several_labels_are_distilled_too(model: ASTForAudioClassification, split: FeatureSplit) -> None:
    several = FeatureSplit({"input_values": split.inputs["input_values"]}, F.one_hot(split.targets, 3).float())
    teacher = Teacher(copy.deepcopy(model), OUTPUTS)
    with torch.no_grad():
        model.classifier.dense.weight.mul_(-1)
    _, _, losses = train(model, several, teacher=teacher, epochs=8, distill=Distill(weight=1.0))
    assert losses[-1].train_loss < 0.5 * losses[0].train_loss


def test_distillation_without_a_teacher_is_a_mistake(model: ASTForAudioClassification, split: FeatureSplit) -> None:
    with pytest.raises(ValueError, match="needs the original"):
        train(model, split, distill=Distill())


@pytest.fixture(scope="module")
def dense() -> LoadedModel:
    return load_original(tiny_model())


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    described = describe_folder(tiny_model())
    return prepare(
        tiny_data(), tiny_model(), labels=described.labels, multi_label=False, columns=Columns(), splits=Splits(), seed=0,
        cache_dir=tmp_path_factory.mktemp("cache"), progress=lambda *_: None,
    )  # fmt: skip


def recovered(
    dense: LoadedModel, train_split: FeatureSplit, pad_value: float, distill: Distill | None, epochs: int
) -> nn.Module:
    """The student that is left with one head in four, after `epochs` of recovery."""
    keep = tuple((KeptHead(0, tuple(range(layer.qk[0])), tuple(range(layer.vo[0]))),) for layer in dense.widths.layers)
    student = cut(dense.model, dense.model_spec, dense.widths, keep)
    blocks = attention_blocks(student, dense.model_spec, widths_of(keep, dense.widths))
    tuned, _ = finetune(
        student,
        train_split,
        Finetune(epochs=epochs, learning_rate=3e-3, distill=distill),
        projections=projections_by_name(blocks),
        classifiers=dense.model_spec.classifiers,
        task=ONE,
        pad_value=pad_value,
        seed=5,
        device=CPU,
        on_batch=lambda *_: None,
        on_epoch=lambda _: None,
        teacher=Teacher(dense.model, tuple(block.names["o"] for block in blocks)),
    )
    return tuned


def distance(dense: LoadedModel, student: nn.Module, split: FeatureSplit) -> float:
    """KL(original ‖ student) on held-out clips, in nats a clip."""
    original, logits = (answers_of(m, split, ONE, batch_size=64, device=CPU) for m in (dense.model, student))
    return float(F.kl_div(logits.log_softmax(-1), original.log_softmax(-1), log_target=True, reduction="batchmean"))


def test_a_distilled_student_is_nearer_to_its_teacher(dense: LoadedModel, data: PreparedData) -> None:
    """Measured 0.65 times the distance with seed 5, 0.79 with seed 6."""
    split, validation = data.splits[Split.TRAIN], data.splits[Split.VALIDATION]
    alone, taught = (
        distance(dense, recovered(dense, split, data.pad_value, distill, 8), validation)
        for distill in (None, Distill(weight=1.0, temperature=2.0))
    )
    assert taught < 0.85 * alone


def test_a_teacher_outweighs_wrong_labels(dense: LoadedModel, data: PreparedData) -> None:
    """Trained on labels drawn at random: alone it goes wrong, with the teacher's word alone it still learns."""
    split, validation = data.splits[Split.TRAIN], data.splits[Split.VALIDATION]
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))
    wrong = FeatureSplit({"input_values": split.inputs["input_values"]}, split.targets[order])
    alone, taught = (
        distance(dense, recovered(dense, wrong, data.pad_value, distill, 3), validation)
        for distill in (None, Distill(weight=1.0, temperature=2.0))
    )
    assert taught < 0.5 * alone


def test_attention_outputs_are_matched(dense: LoadedModel, data: PreparedData) -> None:
    """On clips not trained on they come nearer to the original's; measured: 0.87 of its variance without, 0.65 with."""
    split, validation = data.splits[Split.TRAIN], data.splits[Split.VALIDATION]
    inputs, _ = validation.batch(range(64))
    paths = [f"audio_spectrogram_transformer.layers.{n}.attention.o_proj" for n in range(len(dense.widths.layers))]

    def outputs(network: nn.Module) -> list[Tensor]:
        seen: list[Tensor] = []
        hooks = [
            network.get_submodule(path).register_forward_hook(lambda _module, _inputs, value: seen.append(value))
            for path in paths
        ]
        with torch.no_grad():
            network(**inputs)
        for hook in hooks:
            hook.remove()
        return seen

    def mismatch(attention: float) -> float:
        student = recovered(dense, split, data.pad_value, Distill(weight=0.5, attention=attention), 3)
        pairs = zip(outputs(student), outputs(dense.model), strict=True)
        return float(torch.stack([(s - t).square().mean() / t.var() for s, t in pairs]).mean())

    plain, matched = mismatch(0.0), mismatch(10.0)
    assert matched < 0.85 * plain


def test_the_students_names_are_the_teachers(model: ASTForAudioClassification) -> None:
    assert set(OUTPUTS) <= set(projections_of(model))
