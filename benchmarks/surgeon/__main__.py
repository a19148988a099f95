"""Measure both on VALIDATION, one cut by `best`, no training, beside what `best` does. Writes FOLDER/surgeon.json, a row a cut.

python -m benchmarks.surgeon ast --model CHECKPOINT --data DATA --cache FOLDER --out FOLDER --targets 0.5 0.75 0.8
python -m benchmarks.surgeon minilm --out FOLDER --targets 0.5     # needs the package of benchmarks.race.minilm
"""

import argparse
import json
import time
from collections.abc import Iterator
from math import exp
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from api_schemas.enums import Head, Part, Split
from api_schemas.spec.job import EngineSpec
from benchmarks.best import MORE
from benchmarks.neurons import SAMPLES, Row, load
from benchmarks.race.evaluation import BATCH
from benchmarks.race.results.bootstrap import paired
from benchmarks.race.setup import Setup
from benchmarks.surgeon import layers
from benchmarks.surgeon.refit import Order, Refitter
from checkpoints.planning.settled import settled
from checkpoints.sizes.cost_unit import CostUnit
from worker.engine.checkpoint.load import LoadedModel
from worker.engine.evaluate import answers_of
from worker.engine.pruning.cutting import Cutting, ridges
from worker.engine.pruning.part_shares import best_shift
from worker.engine.pruning.selection import KeptHeads, Ranking, Selection
from worker.engine.runtime.progress import Reporter

ARMS = ("even", "any", "turned", "by cost", "neurons searched", "both searched")


def cutting_for(setup: Setup, share: float, seed: int) -> Cutting:
    """As a job of the preset `best` cuts that share of the FLOPs at once."""
    pruning: dict[str, Any] = {"schedule": {"steps": 1}, "target": {"flops": share}}
    pruning |= {"parts": ("attention", "feed_forward"), "calibration": {"samples": SAMPLES, "refit_samples": MORE}}
    spec = EngineSpec.model_validate({"pruning": pruning, "finetune": None, "seed": seed})
    spec = settled(spec, setup.described.shape, setup.dense.widths, setup.described.architecture.head)
    return Cutting(spec, setup.described, setup.data, setup.task, setup.device, Reporter(lambda _event: None, 1, {}))


class Comparison:
    """One target and draw: what `best` cuts, and the same FLOPs gone in other ways."""

    def __init__(
        self, setup: Setup, refitter: Refitter, final: Refitter, judged: Tensor, share: float, *, search: bool
    ) -> None:
        """`refitter` is what is searched with, `final` what is measured."""
        self.setup, self.refitter, self.final, self.judged = setup, refitter, final, judged
        self.cutting, self.scored = refitter.cutting, refitter.scored
        self.pruning = self.cutting.spec.pruning
        self.unit = CostUnit.of(setup.described.shape, self.pruning.target.kind)
        self.most = setup.described.shape.dense.feed_forward
        self.shift = 0.0
        if search:
            self.shift = best_shift(lambda shift: self._divided(share, shift / share), 6) / share
        kept = self.cutting._select(self.scored, share, self.shift)
        self.heads, self.counts = kept.heads, [len(neurons) for neurons in kept.neurons]
        self.orders: list[Order] = []
        self.tried = 0
        """Cuts that a search has judged."""
        self.searched = refitter.cut(self.heads, self.counts, orders=self.orders)

    def _divided(self, share: float, shift: float) -> float:
        kept = self.cutting._select(self.scored, share, shift)
        return self.divergence(self.refitter.cut(kept.heads, [len(neurons) for neurons in kept.neurons]))

    def divergence(self, model: LoadedModel) -> float:
        """On samples of train that no refit has seen: what a job may judge by."""
        return self.cutting._divergence(self.scored.loaded, model, self.judged)

    def attention_gone(self, heads: KeptHeads) -> int:
        """What attention gives up with these heads, in the unit of the target."""
        neurons = tuple(tuple(range(count)) for count in self.counts)
        widths = Selection(heads, neurons).widths(self.scored.loaded.widths)
        return self.unit.removed(widths, range(len(self.unit.qk)))

    def _loss(self, heads: KeptHeads, counts: list[int]) -> float:
        self.tried += 1
        return self.divergence(self.refitter.cut(heads, counts, known=self.orders))

    def searched_neurons(self) -> list[int]:
        """Neurons by block, attention as it is."""

        def counts(weights: layers.Weights) -> list[int]:
            return layers.weighted(self.counts, weights, sum(self.counts), self.most, self.pruning.multiple)

        return counts(layers.downhill(lambda weights: self._loss(self.heads, counts(weights)), len(self.counts)))

    def searched_heads(self, neurons: list[int]) -> tuple[KeptHeads, list[int]]:
        """Attention by layer, from the neurons that were found; these take up what its structures leave."""
        alone = self.pruning.model_copy(update={"parts": (Part.ATTENTION,)})
        widths = self.scored.loaded.widths
        ranking = Ranking(self.scored.scores, widths, self.setup.described.shape, alone, self.pruning.target.kind)
        assert ranking._mixed is not None
        goal, mixed = self.attention_gone(self.heads), ranking._mixed

        def both(weights: layers.Weights) -> tuple[KeptHeads, list[int]]:
            mixed.scale = [exp(-weight) for weight in weights]
            heads = ranking.heads(goal / self.unit.total)
            total = sum(neurons) + round((self.attention_gone(heads) - goal) / self.unit.neuron[0])
            return heads, layers.spread(neurons, total, self.most, self.pruning.multiple)

        return both(layers.downhill(lambda weights: self._loss(*both(weights)), len(widths.layers)))

    def cuts(self, arms: tuple[str, ...]) -> Iterator[tuple[str, LoadedModel, Row]]:
        """By arm the model, and of what it is made."""
        best = self.searched if self.final is self.refitter else self.final.cut(self.heads, self.counts)
        yield "best", best, self._made(self.heads, self.counts)
        for arm in ("even", "any", "turned"):
            if arm in arms:
                yield arm, self.final.cut(self.heads, self.counts, arm), {}
        if "by cost" in arms:
            counts = layers.by_cost(self.orders, sum(self.counts), self.most, self.pruning.multiple)
            yield "by cost", self.final.cut(self.heads, counts), self._made(self.heads, counts)
        if "neurons searched" in arms:
            self.tried = 0
            counts = self.searched_neurons()
            yield "neurons searched", self.final.cut(self.heads, counts), self._made(self.heads, counts)
            if "both searched" in arms:
                heads, counts = self.searched_heads(counts)
                yield "both searched", self.final.cut(heads, counts), self._made(heads, counts)

    def _made(self, heads: KeptHeads, counts: list[int]) -> Row:
        widths = [(len(layer), len(layer[0].qk), len(layer[0].vo)) if layer else (0, 0, 0) for layer in heads]
        return {"heads": widths, "neurons": counts, "tried": self.tried}


def measured(setup: Setup, model: LoadedModel) -> tuple[Tensor, float]:
    """By validation sample the score, and the mean divergence from the original's answers."""
    split = setup.split(Split.VALIDATION)

    def answers(of: LoadedModel) -> Tensor:
        return answers_of(of.model, split, setup.task, batch_size=BATCH, device=setup.device)

    ours, targets = answers(model), split.all_targets()
    dense = setup.once("answers", lambda: answers(setup.dense))
    if setup.task.head is Head.EMBEDDING:
        cosine_N = (ours * targets).sum(-1)
        return cosine_N, float(1 - cosine_N.mean())
    right_N = (ours.argmax(1) == targets).double()
    first, second = dense.log_softmax(-1), ours.log_softmax(-1)
    return right_N, float((first.exp() * (first - second)).sum(-1).mean())


def main() -> None:
    """Measure, and write a row after every cut."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("ast", "minilm"))
    parser.add_argument("--model", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--cache", type=Path, help="where features are kept, from run to run")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--targets", type=float, nargs="+", required=True, help="shares of the FLOPs")
    parser.add_argument("--draws", type=int, nargs="+", default=[0], help="of calibration samples, by number")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS)
    parser.add_argument(
        "--ranked", action="store_true", help="take the ranking's division between the parts, unsearched"
    )
    parser.add_argument("--full", action="store_true", help=f"refit on as many samples as a job, not on {SAMPLES}")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    setup = load(arguments.what, arguments.model, arguments.data, arguments.cache)
    arguments.out.mkdir(parents=True, exist_ok=True)
    file = arguments.out / "surgeon.json"
    found: list[Row] = json.loads(file.read_text()) if file.exists() else []
    scores: dict[tuple[float, str], list[Tensor]] = {}
    for seed in arguments.draws:
        cutting = cutting_for(setup, arguments.targets[0], seed)
        scored = cutting.score(setup.dense, 1)
        fit, judged = cutting._divided(scored)
        assert scored.refit_rows is not None
        refitter = final = Refitter(cutting, scored, fit, ridges(cutting.spec.pruning))
        if arguments.full:
            final = Refitter(cutting, scored, scored.refit_rows, ridges(cutting.spec.pruning))
        for share in arguments.targets:
            refitter.cutting = final.cutting = cutting_for(setup, share, seed)
            comparison = Comparison(setup, refitter, final, judged, share, search=not arguments.ranked)
            start = time.process_time()
            for arm, model, made in comparison.cuts(tuple(arguments.arms)):
                seconds = time.process_time() - start
                score_N, divergence = measured(setup, model)
                scores.setdefault((share, arm), []).append(score_N)
                mean, best = (torch.stack(scores[share, name]).double().mean(0).numpy() for name in (arm, "best"))
                difference = paired(mean, best)
                row: Row = {"model": arguments.what, "share": share, "draw": seed, "arm": arm, "samples": final.samples}
                row |= {"shift": comparison.shift * share, "score": 100 * float(score_N.double().mean())}
                row |= {"divergence": divergence, "on train": comparison.divergence(model), "seconds": seconds, **made}
                row["beyond best, draws so far"] = (difference.points, difference.low, difference.high)
                print(json.dumps(row), flush=True)
                found.append(row)
                start = time.process_time()
                file.write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
