"""Measuring a model so that two can be compared clip by clip: which clips it got right, in a few hundred bytes."""

import base64
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel
from torch import nn

from api_schemas.enums import Split
from benchmarks.race.track import TASK, Track
from worker.engine.evaluate import answers_of

BATCH = 32


class Predictions(BaseModel):
    """One model on one split. `correct` holds a bit a clip, in the split's order: packed, most significant first, base64."""

    samples: int
    accuracy: float
    cross_entropy: float
    correct: str

    @classmethod
    def of(cls, right_N: NDArray[np.bool_], cross_entropy: float) -> Self:
        packed = base64.b64encode(np.packbits(right_N).tobytes()).decode()
        return cls(samples=len(right_N), accuracy=float(right_N.mean()), cross_entropy=cross_entropy, correct=packed)

    def right(self) -> NDArray[np.bool_]:
        """By clip, whether the first class was the label."""
        packed = np.frombuffer(base64.b64decode(self.correct), dtype=np.uint8)
        return np.unpackbits(packed, count=self.samples).astype(bool)


def measure(track: Track, model: nn.Module, role: Split) -> Predictions:
    """The model on a whole split, in eval mode.

    Logits that are not finite count as wrong, whatever their argmax: a model that overflows has lost its clip.
    """
    split = track.split(role)
    targets_N = split.all_targets()
    logits_NC = answers_of(model, split, TASK, batch_size=BATCH, device=track.device)
    finite_N = logits_NC.isfinite().all(dim=1)
    right_N = (logits_NC.argmax(dim=1) == targets_N) & finite_N
    loss = float(track.loss(logits_NC.double(), targets_N).mean())
    return Predictions.of(right_N.numpy(), loss)
