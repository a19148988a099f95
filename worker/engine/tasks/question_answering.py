"""Extractive question answering: the first and the last token of the answer in a window of a context.

Shapes: B windows, E the two ends of an answer, T tokens, K best candidate tokens. Targets int64 [B, 4]: first and last token, the
window's number and its question's (worker/engine/data/featurizers/questions.py).
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from api_schemas.enums import Head
from api_schemas.results.metrics import Scores
from worker.engine.data.questions import Questions
from worker.engine.data.split import Inputs
from worker.engine.tasks import squad
from worker.engine.tasks.base import Loss, MetricAccumulator, Task, sampled_gradient_loss
from worker.engine.tasks.classification import softened_divergence
from worker.engine.tasks.label_sampling import softmax_gradients
from worker.engine.tasks.padding import real_positions

ENDS = 2
NEVER = -1e6
"""As the logit of a token that a window was filled up with: a softmax makes nothing of it, at any temperature."""
_WINDOW, _QUESTION = 2, 3


class QuestionAnswering(Task):
    """Logits [B, E, T]: of every token as the first of the answer, and as the last. The class token stands for none."""

    head = Head.QUESTION_ANSWERING
    outputs_called = ("start_logits", "end_logits")

    def __init__(self, questions: Questions) -> None:
        self.questions = questions

    def parts(self, model: nn.Module, inputs: Inputs) -> tuple[Tensor, ...]:
        output = model(**inputs)
        return output.start_logits, output.end_logits

    def outputs(self, model: nn.Module, inputs: Inputs) -> Tensor:
        logits_BET, real_BT = torch.stack(self.parts(model, inputs), 1), real_positions(model, inputs)
        return logits_BET if real_BT is None else logits_BET.masked_fill(~real_BT[:, None], NEVER)

    def loss(self, answers: Tensor, targets: Tensor, real: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """Cross entropy in nats, mean of both ends'."""
        by_end_N = F.cross_entropy(answers.flatten(0, 1), targets[:, :ENDS].flatten(), reduction="none")
        return by_end_N.view(-1, ENDS).mean(1)

    def sampled_label_loss(self, seed: int) -> Loss:
        """Both ends are drawn independently, each from its own softmax."""

        def draw(answers: Tensor, _targets: Tensor, generator: torch.Generator) -> Tensor:
            return softmax_gradients(answers.flatten(0, 1), generator).view_as(answers) / ENDS

        return sampled_gradient_loss(draw, seed)

    def divergence(
        self,
        student: Tensor,
        teacher: Tensor,
        temperature: float,
        targets: Tensor,  # noqa: ARG002
        real: Tensor | None = None,  # noqa: ARG002
    ) -> Tensor:
        """KL(teacher ‖ student) in nats, mean of both ends'."""
        return softened_divergence(student, teacher, temperature)

    def accumulator(self) -> MetricAccumulator:
        return _AnswerAccumulator(self)

    def agreement(self, answers: Tensor, reference: Tensor) -> Tensor:
        """Whether the likeliest token is the same at both ends."""
        return (answers.argmax(-1) == reference.argmax(-1)).all(1).double()


class _AnswerAccumulator(MetricAccumulator):
    """Keeps of every window its likeliest ends; a question's answer is the best of all its windows that were seen."""

    def __init__(self, task: QuestionAnswering) -> None:
        super().__init__()
        self._task = task
        self._losses: list[Tensor] = []
        self._batches: list[tuple[Tensor, ...]] = []

    def _keep(
        self,
        answers: Tensor,
        targets: Tensor,
        texts: Sequence[str] | None,  # noqa: ARG002
        real: Tensor | None,  # noqa: ARG002
    ) -> None:
        self._losses.append(self._task.loss(answers.double(), targets))
        logits_BEK, tokens_BEK = answers.topk(min(squad.LIKELIEST, answers.shape[-1]), dim=-1)
        self._batches.append((tokens_BEK, logits_BEK, answers[..., 0].sum(1), targets))

    def _scores(self, order: Tensor) -> Scores:
        questions = self._task.questions
        windows: defaultdict[int, list[squad.Ends]] = defaultdict(list)
        for batch in self._batches:
            for tokens_EK, logits_EK, none, targets in zip(*(each.cpu().numpy() for each in batch), strict=True):
                spans_T2 = questions.spans(int(targets[_WINDOW]))
                # A short window has fewer than K tokens, where others of its batch are longer.
                own = min(tokens_EK.shape[1], len(spans_T2))
                first, last = zip(tokens_EK[:, :own], logits_EK[:, :own], strict=True)
                windows[int(targets[_QUESTION])].append(squad.Ends(*first, *last, float(none), spans_T2))
        marks = []
        for number, ends in windows.items():
            asked = questions.asked(number)
            given = squad.best_answer(asked.context, ends, unanswerable=questions.unanswerable)
            marks.append(squad.against(given, asked.answers))
        exact, f1 = np.mean(marks, axis=0)
        return Scores(
            samples=len(windows),
            cross_entropy=float(torch.cat(self._losses).cpu()[order].mean()),
            f1=float(f1),
            exact_match=float(exact),
        )
