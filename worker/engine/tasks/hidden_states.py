"""Hidden states: an encoder without a head, evaluated on every token, patch or frame, because its future head is unknown.

The targets are the original's own states for the same input. They are recomputed for every batch: storing them would take a
hundred times the space of the data. Shapes: B samples, T tokens, D width.
"""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from api_schemas.enums import Head
from api_schemas.results.metrics import Scores
from worker.engine.data.split import Inputs
from worker.engine.models.model_spec import move_model
from worker.engine.tasks.base import Loss, MetricAccumulator, Task
from worker.engine.tasks.label_sampling import LabelGenerators, signs_like
from worker.engine.tasks.padding import mean_of_real


def encoder_of(model: nn.Module) -> nn.Module:
    """The encoder itself, without what pretraining put on it, under adapters too: these are inside of its modules."""
    adapted: Any = model
    whole = adapted.get_base_model() if hasattr(adapted, "get_base_model") else adapted
    encoder: nn.Module = whole.base_model
    # DINOv3 calls its stack of layers by the name under which others have the encoder; an encoder takes the model's own input.
    return encoder if whole.main_input_name in inspect.signature(encoder.forward).parameters else whole


def _directions(states_BTD: Tensor) -> Tensor:
    return F.normalize(states_BTD.to(torch.promote_types(states_BTD.dtype, torch.float32)), dim=-1)


class HiddenStates(Task):
    """The last hidden states [B, T, D]. Targets: the original's, of the same shape."""

    head = Head.HIDDEN_STATES
    outputs_called = ("last_hidden_state",)

    def __init__(self, original: nn.Module) -> None:
        """`original`: in eval mode, whichever device it is on."""
        self.original = original

    def outputs(self, model: nn.Module, inputs: Inputs) -> Tensor:
        states: Tensor = encoder_of(model)(**inputs).last_hidden_state
        return states

    def asked(self, inputs: Inputs, targets: Tensor) -> Tensor:  # noqa: ARG002 - the data has none
        """One forward pass of the original."""
        device = next(iter(inputs.values())).device
        original: Any = self.original
        if original.device != device:
            move_model(original, device)
        with torch.no_grad():
            return self.outputs(original, inputs).float()

    def loss(self, answers: Tensor, targets: Tensor, real: Tensor | None = None) -> Tensor:
        """1 − cosine similarity with the original's state, mean over the sample's real tokens."""
        return 1.0 - mean_of_real((_directions(answers) * _directions(targets)).sum(-1), real)

    def sampled_label_loss(self, seed: int) -> Loss:
        """Every token's direction is taken for the mean of a Gaussian of unit variance, as an embedding's is (embedding.py)."""
        generators = LabelGenerators(seed)

        def drawn(answers: Tensor, _targets: Any) -> Tensor:
            signs_BTD = signs_like(answers.detach(), generators.generator(answers.device))
            return (_directions(answers) * signs_BTD).sum(-1).mean(1)

        return drawn

    def divergence(
        self,
        student: Tensor,
        teacher: Tensor,
        temperature: float,
        targets: Tensor,  # noqa: ARG002
        real: Tensor | None = None,
    ) -> Tensor:
        """As the loss. Directions have no temperature: what the objective multiplies by is taken out again."""
        return self.loss(student, teacher, real).mean() / temperature**2

    def accumulator(self) -> MetricAccumulator:
        return _HiddenStatesAccumulator()

    def agreement(self, answers: Tensor, reference: Tensor) -> Tensor:
        """Cosine similarity, mean over the sample's tokens, 0 where it is negative."""
        return (1.0 - self.loss(answers.double(), reference.double())).clamp(0, 1)


class _HiddenStatesAccumulator(MetricAccumulator):
    """Of every batch its sums, in float64 of what is float32 by token: states themselves would not fit in memory."""

    def __init__(self) -> None:
        super().__init__()
        self._similar: list[Tensor] = []
        self._tokens = 0
        self._sums: list[tuple[Tensor, Tensor, Tensor]] = []

    def _keep(
        self,
        answers: Tensor,
        targets: Tensor,
        texts: Sequence[str] | None,  # noqa: ARG002
        real: Tensor | None,
    ) -> None:
        by_token_BT = (_directions(answers) * _directions(targets)).sum(-1)
        self._similar.append(mean_of_real(by_token_BT.double(), real))
        ours_ND, theirs_ND = (states.flatten(0, 1) if real is None else states[real] for states in (answers, targets))
        self._tokens += len(theirs_ND)
        error, squares = (states.square().sum(dtype=torch.float64) for states in (ours_ND - theirs_ND, theirs_ND))
        self._sums.append((error, squares, theirs_ND.sum(0, dtype=torch.float64)))

    def _scores(self, order: Tensor) -> Scores:
        similar = torch.cat(self._similar).cpu()[order]
        error, squares, total_D = (torch.stack(part).sum(0).cpu() for part in zip(*self._sums, strict=True))
        # Around the mean of all tokens: encoders put a large part that is the same into every state.
        variation = float(squares - total_D.square().sum() / self._tokens)
        return Scores(
            samples=len(similar),
            cosine_similarity=float(similar.mean()),
            explained_variance=1.0 - float(error) / variation if variation > 0 else None,
        )
