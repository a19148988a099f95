"""What a cut Whisper is worth: wrong words by clip, with intervals, and how fast its encoder is beside the original's."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from worker.engine.data.split import FeatureSplit, Inputs
from worker.engine.evaluate.scores import run_over
from worker.engine.latency.paired import median_interval
from worker.engine.latency.timing import time_in_turn, timing_mode
from worker.engine.tasks.metrics import edit_distance, text_of
from worker.engine.tasks.sequences import SequenceToSequence

RESAMPLES = 10_000
BATCH = 16
WINDOW = 30.0
"""Seconds of sound that one pass of the encoder takes, however long the clip is."""
ROUNDS = 8


@dataclass(frozen=True)
class Words:
    """By clip [N]: edits of words, and words wanted."""

    edits: NDArray[np.int64]
    wanted: NDArray[np.int64]

    @property
    def rate(self) -> float:
        """Word error rate of all clips together, in percent."""
        return 100.0 * float(self.edits.sum() / self.wanted.sum())

    def as_json(self) -> dict[str, list[int]]:
        """So that a run can be gone on with."""
        return {"edits": self.edits.tolist(), "wanted": self.wanted.tolist()}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> "Words":
        """What as_json gave."""
        return cls(np.array(found["edits"], np.int64), np.array(found["wanted"], np.int64))


def words(model: nn.Module, split: FeatureSplit, task: SequenceToSequence) -> Words:
    """What the model writes by itself, greedily, against the transcripts; both normalized as Whisper's authors do."""
    edits, wanted = np.zeros(len(split), np.int64), np.zeros(len(split), np.int64)

    def see(numbers: Tensor, inputs: Inputs, _answers: Tensor, targets: Tensor, _real: Tensor | None) -> None:
        given = task.texts(model, inputs, targets)
        for number, text, row in zip(numbers.tolist(), given, targets, strict=True):
            right = task.normalize(text_of(row, task.decode)).split()
            edits[number] = edit_distance(task.normalize(text).split(), right)
            wanted[number] = len(right)

    run_over(model, split, task, see, batch_size=BATCH, device=torch.device("cpu"))
    return Words(edits, wanted)


def _resampled(clips: int, seed: int) -> NDArray[np.int64]:
    """How often each of RESAMPLES resamples drew each clip, [R, N]."""
    drawn: NDArray[np.int64] = np.random.default_rng(seed).multinomial(
        clips, np.full(clips, 1.0 / clips), size=RESAMPLES
    )
    return drawn


def _interval(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def rate_interval(found: Words, seed: int = 0) -> tuple[float, float]:
    """95% percentile bootstrap over clips of the word error rate (Bisani and Ney, ICASSP 2004), in percent."""
    drawn = _resampled(len(found.wanted), seed)
    return _interval(100.0 * (drawn @ found.edits) / (drawn @ found.wanted))


def difference(first: Words, second: Words, seed: int = 0) -> tuple[float, float, float]:
    """`first` minus `second` on the same clips, in points, and its 95% interval, clips drawn alike for both."""
    drawn = _resampled(len(first.wanted), seed)
    points = 100.0 * (drawn @ (first.edits - second.edits)) / (drawn @ first.wanted)
    return (first.rate - second.rate, *_interval(points))


def encoder_parameters(model: nn.Module, task: SequenceToSequence) -> int:
    """Parameters of the encoder, without its positions, which are sinusoids that nobody learned."""
    named = task.encoder(model).named_parameters()
    return sum(parameter.numel() for name, parameter in named if "embed_positions" not in name)


@dataclass(frozen=True)
class Speed:
    """Of one encoder beside the original's, on one thread."""

    seconds: float
    """Of sound, in 30 s windows, that it takes in a second of processor time."""
    ratio: float
    """To the original's in the same rounds, the median."""
    low: float
    high: float


def speed(dense: nn.Module, cut: nn.Module, features: Tensor, task: SequenceToSequence) -> Speed:
    """Both encoders in turn on one window [1, mels, frames]. By the processor's time: others may want the cores."""
    encoders = task.encoder(dense), task.encoder(cut)
    with timing_mode(dense, cut):
        passes = [lambda encoder=encoder: encoder(features) for encoder in encoders]
        times = time_in_turn(passes, ROUNDS, clock=time.process_time)
    ratios = times[:, 0] / times[:, 1]
    return Speed(1000.0 * WINDOW / float(np.median(times[:, 1])), float(np.median(ratios)), *median_interval(ratios))
