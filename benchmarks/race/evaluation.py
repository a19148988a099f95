"""Measuring a model so that two can be compared sample by sample, in a few hundred bytes or a few thousand."""

import base64
import math
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel
from torch import Tensor, nn
from torch.nn import functional as F

from api_schemas.enums import Head, Split
from benchmarks.race.setup import Setup
from worker.engine.data.split import IGNORED
from worker.engine.evaluate import answers_of
from worker.engine.evaluate.scores import run_over
from worker.engine.tasks.metrics import spearman

BATCH = 32
WORST = 100.0


class Predictions(BaseModel):
    """A classifier on one split. `correct` holds a bit a clip, in the split's order: packed, most significant first, base64."""

    samples: int
    accuracy: float
    cross_entropy: float
    correct: str

    @classmethod
    def of(cls, right_N: NDArray[np.bool_], cross_entropy: float) -> Self:
        packed = base64.b64encode(np.packbits(right_N).tobytes()).decode()
        return cls(samples=len(right_N), accuracy=float(right_N.mean()), cross_entropy=cross_entropy, correct=packed)

    @property
    def score(self) -> float:
        """What arms are compared by; higher is better."""
        return self.accuracy

    def right(self) -> NDArray[np.bool_]:
        """By clip, whether the first class was the label."""
        packed = np.frombuffer(base64.b64decode(self.correct), dtype=np.uint8)
        return np.unpackbits(packed, count=self.samples).astype(bool)

    def by_sample(self) -> NDArray[np.float64]:
        """`right`, as numbers."""
        return self.right().astype(np.float64)

    def __str__(self) -> str:
        return f"{self.accuracy:.1%}"


class EmbeddingSimilarity(BaseModel):
    """An encoder on one split, against the dense model's embeddings. `cosines`: float32, little-endian, base64, in order."""

    samples: int
    cosine: float
    """Mean cosine similarity of a sample's two embeddings."""
    correlation: float
    """Spearman's, of the similarities of all pairs of samples; 0 where all embeddings are one."""
    cosines: str

    @classmethod
    def of(cls, embeddings_ND: Tensor, originals_ND: Tensor) -> Self:
        """Of embeddings of length 1. One that is not finite counts as at right angles to everything."""
        ours_ND = torch.nan_to_num(embeddings_ND.double(), nan=0.0, posinf=0.0, neginf=0.0)
        theirs_ND = originals_ND.double()
        cosine_N = (ours_ND * theirs_ND).sum(-1)
        first, second = torch.triu_indices(len(ours_ND), len(ours_ND), offset=1)
        pairs = [(side_ND @ side_ND.mT)[first, second].numpy() for side_ND in (ours_ND, theirs_ND)]
        packed = base64.b64encode(cosine_N.numpy().astype("<f4").tobytes()).decode()
        return cls(
            samples=len(ours_ND), cosine=float(cosine_N.mean()), correlation=spearman(*pairs) or 0.0, cosines=packed
        )

    @property
    def score(self) -> float:
        """What arms are compared by; higher is better."""
        return self.cosine

    def by_sample(self) -> NDArray[np.float64]:
        """The cosine of every sample."""
        return np.frombuffer(base64.b64decode(self.cosines), dtype="<f4").astype(np.float64)

    def __str__(self) -> str:
        return f"cosine {self.cosine:.4f}, correlation {self.correlation:.3f}"


class NextTokens(BaseModel):
    """A decoder on one split of blocks, all of one length. `hits` and `nats`: of every block, the share of its tokens that were
    the likeliest next one and their mean cross entropy; float32, little-endian, base64, in order."""

    samples: int
    accuracy: float
    perplexity: float
    hits: str
    nats: str

    @classmethod
    def of(cls, hits_N: Tensor, nats_N: Tensor) -> Self:
        packed = [base64.b64encode(each.double().numpy().astype("<f4").tobytes()).decode() for each in (hits_N, nats_N)]
        accuracy, perplexity = float(hits_N.double().mean()), float(nats_N.double().mean().exp())
        return cls(samples=len(hits_N), accuracy=accuracy, perplexity=perplexity, hits=packed[0], nats=packed[1])

    @property
    def score(self) -> float:
        """What arms are compared by; higher is better."""
        return -math.log(self.perplexity)

    def by_sample(self) -> NDArray[np.float64]:
        """Of every block, the share of its tokens that were right."""
        return np.frombuffer(base64.b64decode(self.hits), dtype="<f4").astype(np.float64)

    def nats_by_sample(self) -> NDArray[np.float64]:
        """Of every block, the mean cross entropy of its tokens."""
        return np.frombuffer(base64.b64decode(self.nats), dtype="<f4").astype(np.float64)

    def __str__(self) -> str:
        return f"perplexity {self.perplexity:.2f}, {self.accuracy:.1%}"


Measured = Predictions | EmbeddingSimilarity | NextTokens


def measure(setup: Setup, model: nn.Module, role: Split) -> Measured:
    """The model on a whole split, in eval mode.

    Logits that are not finite count as wrong, whatever their argmax: a model that overflows has lost its clip.
    """
    split = setup.split(role)
    if setup.task.head is Head.CAUSAL_LM:
        return _next_tokens(setup, model, role)
    targets = split.all_targets()
    answers = answers_of(model, split, setup.task, batch_size=BATCH, device=setup.device)
    if setup.task.head is Head.EMBEDDING:
        return EmbeddingSimilarity.of(answers, targets)
    finite_N = answers.isfinite().all(dim=1)
    right_N = (answers.argmax(dim=1) == targets) & finite_N
    return Predictions.of(right_N.numpy(), float(setup.loss(answers.double(), targets).mean()))


def _next_tokens(setup: Setup, model: nn.Module, role: Split) -> NextTokens:
    """Batch by batch, whose logits alone would fill the memory. A token whose logits are not finite counts as WORST nats."""
    split = setup.split(role)
    numbers: list[Tensor] = []
    found: list[Tensor] = []

    def see(these: Tensor, _inputs: object, answers: Tensor, targets: Tensor, _real: object) -> None:
        asked_BT = targets != IGNORED
        by_token_BT = F.cross_entropy(answers.transpose(1, 2), targets, ignore_index=IGNORED, reduction="none")
        nats_BT = torch.nan_to_num(by_token_BT.double(), nan=WORST, posinf=WORST).clamp_max(WORST)
        right_BT = (answers.argmax(-1) == targets) & answers.isfinite().all(-1)
        sums = torch.stack([(each * asked_BT).sum(1) for each in (right_BT.double(), nats_BT)], 1)
        numbers.append(these)
        found.append((sums / asked_BT.sum(1, keepdim=True)).cpu())

    run_over(model, split, setup.task, see, batch_size=BATCH, device=setup.device)
    hits_N, nats_N = torch.cat(found)[torch.cat(numbers).argsort()].unbind(1)
    return NextTokens.of(hits_N, nats_N)
