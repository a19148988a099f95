"""A text from a recording by a decoder that reads its own words (Whisper): taught with the text, judged without.

Shapes: B samples, L tokens, V label ids. Targets int64 [B, L], -100 where nothing is asked; `decoder_input_ids` are the targets
one to the right, behind the token that starts a text.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from api_schemas.enums import Head
from api_schemas.results.metrics import Scores
from worker.engine.data.featurizers.normalizers import Normalize
from worker.engine.data.split import Inputs
from worker.engine.tasks.base import Decode, MetricAccumulator
from worker.engine.tasks.metrics import error_rates, text_of
from worker.engine.tasks.tokens import TokenTask

GIVEN = "decoder_input_ids"


class SequenceToSequence(TokenTask):
    """Logits [B, L, V], each token's given those before it in the text."""

    head = Head.SEQUENCE_TO_SEQUENCE

    def __init__(self, *, decode: Decode, normalize: Normalize | None = None) -> None:
        """`normalize` makes two texts alike before they are compared."""
        self.decode = decode
        self.normalize = normalize or str

    def outputs(self, model: nn.Module, inputs: Inputs) -> Tensor:
        """With the text as it should be behind every token; nothing is kept for a next call."""
        logits: Tensor = model(**inputs, use_cache=False).logits
        return logits

    def texts(self, model: nn.Module, inputs: Inputs) -> Sequence[str]:
        """What the model writes by itself after the special tokens with which the wanted texts begin: greedily, with a cache.

        By the bare logits: what a generation_config.json suppresses or forces is no property of the weights. No longer than twice
        the longest wanted text of the batch and eight tokens more: a model that has lost its way repeats itself up to the end of
        its positions.
        """
        writer: Any = model
        given_BL = inputs[GIVEN]
        start = min(self._leading(row) for row in given_BL)
        limit = min(2 * given_BL.shape[1] + 8, int(writer.config.max_target_positions))
        stop, filler = writer.config.eos_token_id, writer.config.pad_token_id
        heard = writer.get_encoder()(*(tensor for name, tensor in inputs.items() if name != GIVEN))
        text_BL, cache = given_BL[:, :start], None
        ended_B = torch.zeros(len(text_BL), dtype=torch.bool, device=text_BL.device)
        while text_BL.shape[1] < limit and not bool(ended_B.all()):
            latest_BL = text_BL if cache is None else text_BL[:, -1:]
            output = writer(encoder_outputs=heard, decoder_input_ids=latest_BL, past_key_values=cache, use_cache=True)
            next_B, cache = output.logits[:, -1].argmax(-1), output.past_key_values
            text_BL = torch.cat([text_BL, next_B.masked_fill(ended_B, filler)[:, None]], 1)
            ended_B |= next_B == stop
        return [text_of(row, self.decode) for row in text_BL.cpu()]

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
        self._wanted: list[Tensor] = []

    def _keep(self, answers: Tensor, targets: Tensor, texts: Sequence[str] | None) -> None:
        self._losses.append(self._task.measured_loss(answers, targets))
        self._given += texts or []
        self._wanted.append(targets)

    def _scores(self, order: Tensor) -> Scores:
        losses = torch.cat(self._losses).cpu()[order]
        wanted = [text_of(row, self._task.decode) for batch in self._wanted for row in batch.cpu()]
        given, wanted = ([self._task.normalize(text) for text in texts] for texts in (self._given, wanted))
        return Scores(samples=len(losses), cross_entropy=float(losses.mean()), **error_rates(given, wanted))
