"""What a cut of every family buys in time, beside what its FLOPs promise: dense and cut in turn."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from api_schemas.results.widths import AttentionWidths
from api_schemas.spec.pruning import Pruning
from benchmarks.families.examples import Example
from benchmarks.families.reference import dense, shape_of
from benchmarks.latency import timed, uneven_scores
from checkpoints.sizes import accounting
from worker.engine.pruning.surgery import cut
from worker.engine.pruning.targets import selection_for
from worker.engine.scoring import LayerScores, NeuronScores

EQUAL = {"granularity": "per_head", "scope": "local", "balance": "equal"}
CUTS: Mapping[str, Mapping[str, Any]] = {
    "attention 50%, equal widths": {**EQUAL, "target": {"attention_sparsity": 0.5}},
    "attention 50%, heads and channels": {"target": {"attention_sparsity": 0.5}},
    "attention and feed-forward 50%": {**EQUAL, "target": {"attention_sparsity": 0.5, "ffn_sparsity": 0.5}},
}
SECONDS = 10.0
"""Of timing, a model."""


@dataclass(frozen=True)
class Speed:
    """One cut of one model."""

    name: str
    promise: float
    """FLOPs of the dense model over those of the cut one, at the length that is timed."""
    measured: float
    """The same of milliseconds, median over rounds: with one thread the process's own, which neighbours disturb less; else the
    clock's."""

    @property
    def ratio(self) -> float:
        return self.measured / self.promise


def uneven_neurons(widths: AttentionWidths, seed: int) -> tuple[NeuronScores, ...]:
    """As benchmarks.latency.uneven_scores: exponential draws, times a scale of each block."""
    draw = np.random.default_rng(seed)
    vectors = [math.exp(draw.normal(scale=0.25)) * draw.exponential(size=neurons) for neurons in widths.feed_forward]
    return tuple(NeuronScores(LayerScores((), (torch.from_numpy(vector),))) for vector in vectors)


def speeds(example: Example) -> tuple[float, list[Speed]]:
    """Milliseconds of the stock dense model on one input of the nominal length, for which FLOPs are counted, and every cut."""
    stock, inputs = example.stock(), example.nominal()
    shape, whole = shape_of(example.model_spec, stock), dense(example.model_spec, stock)
    flops = accounting.total_flops(shape, whole.widths)
    models, promises = [], []
    for asked in CUTS.values():
        pruning = Pruning.model_validate({"criterion": "random", "basis": "native", **asked})
        kept = selection_for(
            uneven_scores(whole.widths, 0), whole.widths, shape, pruning,
            share=pruning.target.share, neurons=uneven_neurons(whole.widths, 0),
        )  # fmt: skip
        models.append(cut(whole.model, whole.model_spec, whole.widths, kept.heads, kept.neurons))
        promises.append(flops / accounting.total_flops(shape, kept.widths(whole.widths)))
    times = timed([stock, *models], inputs, SECONDS)[..., 1 if torch.get_num_threads() == 1 else 0]
    measured = np.median(times[:, :1] / times[:, 1:], axis=0)
    found = [Speed(name, p, float(m)) for name, p, m in zip(CUTS, promises, measured, strict=True)]
    return float(np.median(times[:, 0])), found
