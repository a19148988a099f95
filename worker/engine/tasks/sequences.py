"""A text from a recording by an autoregressive decoder (Whisper): trained with teacher forcing, evaluated without.

Shapes: B samples, L tokens, V label ids. Targets int64 [B, L], padded with -100; `decoder_input_ids` are the targets shifted
right by one, after the token that starts a text.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from api_schemas.enums import Head
from api_schemas.results.metrics import Scores
from worker.engine.data.featurizers.normalizers import Normalize
from worker.engine.data.split import IGNORED, Inputs
from worker.engine.tasks.base import Decode, MetricAccumulator
from worker.engine.tasks.metrics import error_rates, text_of, texts_of
from worker.engine.tasks.padding import GIVEN_MASK
from worker.engine.tasks.tokens import TokenTask

GIVEN = "decoder_input_ids"
HEARD = "encoder_outputs"
"""The input that stands for the recording once the encoder has heard it, [B, frames, D]."""


class SequenceToSequence(TokenTask):
    """Logits [B, L, V], each token's given those before it in the text."""

    head = Head.SEQUENCE_TO_SEQUENCE
    given = frozenset({GIVEN, GIVEN_MASK})

    def __init__(self, *, decode: Decode, normalize: Normalize | None = None) -> None:
        """`normalize` makes two texts alike before they are compared."""
        self.decode = decode
        self.normalize = normalize or str

    def encoder(self, model: nn.Module) -> nn.Module:
        """What hears the recording."""
        writer: Any = model
        found: nn.Module = writer.get_encoder()
        return found

    def encoded(self, model: nn.Module, inputs: Inputs) -> Inputs:
        """What the encoder hears [B, frames, D], beside the text; computed once for everything that is asked of a model."""
        if HEARD in inputs:
            return inputs
        sound = (tensor for name, tensor in inputs.items() if name not in self.given)
        read = {name: tensor for name, tensor in inputs.items() if name in self.given}
        return {HEARD: self.encoder(model)(*sound).last_hidden_state, **read}

    def outputs(self, model: nn.Module, inputs: Inputs) -> Tensor:
        """With the text as it should be behind every token; nothing is kept for a next call.

        The decoder needs no mask: it does not look ahead, and what stands behind a text reaches none of its tokens.
        """
        kept = {n: (tensor,) if n == HEARD else tensor for n, tensor in inputs.items() if n != GIVEN_MASK}
        logits: Tensor = model(**kept, use_cache=False).logits
        return logits

    def texts(self, model: nn.Module, inputs: Inputs, targets: Tensor) -> Sequence[str]:
        """What the model writes by itself after the special tokens with which the wanted texts begin: greedily, with a cache.

        By the bare logits: what a generation_config.json suppresses or forces is no property of the weights. No longer than twice
        the wanted text and eight tokens more: a model that has lost its way repeats itself up to the end of its positions. A text
        that has ended takes no more time: the others go on without it.
        """
        writer: Any = model
        given_BL = inputs[GIVEN]
        start = min(self._leading(row) for row in given_BL)
        places_L = torch.arange(1, targets.shape[1] + 1, device=targets.device)
        lengths_B = ((targets != IGNORED) * places_L).amax(1)
        limits_B = (2 * lengths_B + 8).clamp_max(int(writer.config.max_target_positions))
        # One token ends a text, one of several, or none.
        said = writer.config.eos_token_id
        ends = torch.tensor([] if said is None else said, dtype=torch.long, device=given_BL.device)
        heard_BTD = self.encoded(model, inputs)[HEARD]
        written = [row[:start] for row in given_BL]
        going_G = torch.arange(len(given_BL), device=given_BL.device)
        text_GL, cache = given_BL[:, :start], None
        while len(going_G):
            latest_GL = text_GL if cache is None else text_GL[:, -1:]
            output = writer(
                encoder_outputs=(heard_BTD[going_G],),
                decoder_input_ids=latest_GL,
                past_key_values=cache,
                use_cache=True,
            )
            next_G, cache = output.logits[:, -1].argmax(-1), output.past_key_values
            text_GL = torch.cat([text_GL, next_G[:, None]], 1)
            ended_G = torch.isin(next_G, ends) | (text_GL.shape[1] >= limits_B[going_G])
            if not bool(ended_G.any()):
                continue
            for place in ended_G.nonzero()[:, 0].tolist():
                written[int(going_G[place])] = text_GL[place]
            left = (~ended_G).nonzero()[:, 0]
            going_G, text_GL = going_G[left], text_GL[left]
            if len(left):
                cache.batch_select_indices(left)
        return [text_of(row, self.decode) for row in written]

    def _leading(self, ids_L: Tensor) -> int:
        """Tokens at the start that are no part of the text, one at least."""
        ids = ids_L.tolist()
        return next((place for place in range(1, len(ids)) if self.decode(ids[: place + 1])), len(ids))

    def accumulator(self) -> MetricAccumulator:
        return _SequenceAccumulator(self)


class _SequenceAccumulator(MetricAccumulator):
    def __init__(self, task: SequenceToSequence) -> None:
        super().__init__()
        self._task = task
        self._losses: list[Tensor] = []
        self._given: list[str] = []
        """Empty if free generation was not requested."""
        self._wanted: list[Tensor] = []

    def _keep(
        self,
        answers: Tensor,
        targets: Tensor,
        texts: Sequence[str] | None,
        real: Tensor | None,  # noqa: ARG002
    ) -> None:
        self._losses.append(self._task.measured_loss(answers, targets))
        self._given += texts or []
        self._wanted.append(targets)

    def _scores(self, order: Tensor) -> Scores:
        losses = torch.cat(self._losses).cpu()[order]
        loss = float(losses.mean())
        if not self._given:
            return Scores(samples=len(losses), cross_entropy=loss)
        wanted = texts_of(self._wanted, self._task.decode)
        given, wanted = ([self._task.normalize(text) for text in texts] for texts in (self._given, wanted))
        return Scores(samples=len(losses), cross_entropy=loss, **error_rates(given, wanted))
