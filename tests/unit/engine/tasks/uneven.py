"""A small model of every head whose rows may share a pass though they differ in length, its task, and twelve such rows."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from transformers import (
    BertForMaskedLM,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertModel,
    PreTrainedModel,
)

from checkpoints.families import FAMILIES
from tests.unit.engine.tasks.models import LETTERS, bert, ctc, gpt2, read, spell, whisper
from worker.engine.data.questions import Asked, Questions
from worker.engine.data.split import IGNORED, FeatureSplit, Ragged
from worker.engine.models.model_spec import ModelSpec
from worker.engine.tasks import Task
from worker.engine.tasks.causal import CausalLm
from worker.engine.tasks.classification import Classification
from worker.engine.tasks.ctc import Ctc
from worker.engine.tasks.embedding import Embedding
from worker.engine.tasks.hidden_states import HiddenStates
from worker.engine.tasks.masked import MaskedLm
from worker.engine.tasks.question_answering import QuestionAnswering
from worker.engine.tasks.sequences import SequenceToSequence
from worker.engine.tasks.tokens import TokenClassification

LENGTHS = (5, 11, 7, 5, 6, 11, 9, 4, 8, 5, 10, 4)
CONTEXT = "ada love london in the film good bad sleep ada"


@dataclass(frozen=True)
class Uneven:
    """`outputs`: paths of the attention's output projections."""

    model: PreTrainedModel
    task: Task
    split: FeatureSplit

    @property
    def outputs(self) -> tuple[str, ...]:
        return tuple(
            n
            for n, _ in self.model.named_modules()
            if n.endswith(("attention.output.dense", "out_proj", "attn.c_proj"))
        )


class Windows:
    """Questions of one window each: every token is a letter of the context."""

    unanswerable = True

    def spans(self, window: int) -> np.ndarray:
        return np.array([(-1, -1), *((at, at + 1) for at in range(LENGTHS[window] - 1))], np.int32)

    def asked(self, question: int) -> Asked:
        return Asked(CONTEXT, (CONTEXT[question : question + 3],))


def _texts(targets: torch.Tensor | Ragged) -> FeatureSplit:
    random = np.random.default_rng(0)
    ids, types = (Ragged.of([random.integers(low, high, n) for n in LENGTHS]) for low, high in ((1, 20), (0, 2)))
    return FeatureSplit({"input_ids": ids, "token_type_ids": types}, targets)


def _tags(classes: int, asked: float) -> Ragged:
    random = np.random.default_rng(1)
    rows = [np.where(random.random(n) < asked, random.integers(0, classes, n), IGNORED) for n in LENGTHS]
    for row in rows:
        row[1] = 1
    return Ragged.of(rows)


def _blocks() -> FeatureSplit:
    ids = _texts(_no_targets()).inputs["input_ids"]
    return FeatureSplit({"input_ids": ids}, _tags(20, 0.9))


def _sounds() -> FeatureSplit:
    random = np.random.default_rng(2)
    waves = Ragged.of([random.normal(size=10 + 5 * n + n % 3).astype(np.float32) for n in LENGTHS])
    texts = Ragged.of([random.integers(1, len(LETTERS), 1 + n // 4) for n in LENGTHS])
    return FeatureSplit({"input_values": waves}, texts)


def _speech() -> FeatureSplit:
    random = np.random.default_rng(3)
    texts = [random.integers(3, 8, n) for n in LENGTHS]
    features = random.normal(size=(len(texts), 8, 20)).astype(np.float32)
    given = Ragged.of([np.array([0, 2, *text]) for text in texts])
    return FeatureSplit(
        {"input_features": features, "decoder_input_ids": given}, Ragged.of([np.array([2, *text, 1]) for text in texts])
    )


def _no_targets() -> torch.Tensor:
    return torch.zeros(len(LENGTHS), 0)


def _embeddings() -> FeatureSplit:
    wanted = torch.randn(len(LENGTHS), 32, generator=torch.Generator().manual_seed(4))
    return _texts(torch.nn.functional.normalize(wanted, dim=-1))


def _questions() -> FeatureSplit:
    return _texts(Ragged.of([np.array([n // 3, n // 2, row, row]) for row, n in enumerate(LENGTHS)]))


def _other(model: PreTrainedModel) -> PreTrainedModel:
    """Of other weights: what hidden states are compared with."""
    torch.manual_seed(7)
    made: PreTrainedModel = type(model)(model.config).eval()
    return made


def _hidden() -> Uneven:
    model = ctc(norm="layer")
    task = HiddenStates(_other(model))
    sounds = _sounds()
    return Uneven(model, task, FeatureSplit(sounds.inputs, _no_targets()))


def _made(make: Callable[[], tuple[PreTrainedModel, Task, FeatureSplit]]) -> Callable[[], Uneven]:
    return lambda: Uneven(*make())


CASES: dict[str, Callable[[], Uneven]] = {
    "classes": _made(
        lambda: (bert(BertForSequenceClassification), Classification(several=False), _texts(torch.arange(12) % 3))
    ),
    "tokens": _made(lambda: (bert(), TokenClassification(), _texts(_tags(3, 0.6)))),
    "masked words": _made(lambda: (bert(BertForMaskedLM), MaskedLm(), _texts(_tags(20, 0.3)))),
    "next tokens": _made(lambda: (gpt2(), CausalLm(), _blocks())),
    "questions": _made(
        lambda: (
            bert(BertForQuestionAnswering, 2),
            QuestionAnswering(cast(Questions, Windows())),
            _questions(),
        )
    ),
    "embeddings": _made(lambda: (bert(BertModel), Embedding(("mean", "max")), _embeddings())),
    "hidden states": _hidden,
    "ctc": _made(lambda: (ctc(norm="layer"), Ctc(blank=0, decode=spell), _sounds())),
    "written": _made(lambda: (whisper(), SequenceToSequence(decode=read), _speech())),
}


def uneven(name: str) -> Uneven:
    """The case, with its task's padding as a job has it."""
    case = CASES[name]()
    stock = type(case.model).__name__
    family = next(family for family in FAMILIES if stock in family.architectures)
    case.task.padding = ModelSpec(family, stock).padding_of(case.model)
    assert case.task.padding is not None
    return case
