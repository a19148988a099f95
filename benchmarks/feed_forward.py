"""Feed-forward pruning on a real model: accuracy after one cut and no recovery, and what the cut buys in time.

Four tables, all decided on VALIDATION: every criterion with every compensation, of feed-forward blocks alone; the ridge of the
least squares, where neurons were cut and where attention was not; a share of all parameters or FLOPs taken out of attention, of
feed-forward blocks, of both in one ranking and of both in equal parts; latency against what FLOPs promise, dense and cut in turn.
With `--test`, what is recommended is measured on TEST as well.

    python -m benchmarks.feed_forward --model CHECKPOINT --data DATA --cache FOLDER [--clips 1200] [--only criteria ridge …]
"""

import argparse
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from api_schemas.enums import Compensation, Criterion, Split
from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.spec.job import EngineSpec
from benchmarks.latency import timed
from benchmarks.race.machine import describe
from benchmarks.race.setup import Setup, load_setup
from checkpoints.planning.feasibility import check_feasible
from checkpoints.planning.settled import settled
from checkpoints.sizes import accounting
from worker.engine.checkpoint.load import LoadedModel
from worker.engine.evaluate import evaluate
from worker.engine.latency.timing import inputs_of
from worker.engine.pruning import calibration
from worker.engine.pruning.compensation import RIDGE, UNPRUNED_RIDGE, Ridges, refit_outputs
from worker.engine.pruning.cutting import Cutting, ScoredModel
from worker.engine.pruning.targets import selection_for
from worker.engine.runtime.progress import Reporter

SHARES = (0.25, 0.5, 0.75, 0.9)
COMPENSATIONS = (Compensation.NONE, Compensation.BIAS, Compensation.LEAST_SQUARES)
RIDGES = (1e-4, 1e-3, 1e-2, 1e-1)
DRAWS = 3
"""Of the random control; their mean is printed."""
BOTH = ("attention", "feed_forward")
FORMER = {"granularity": "head_and_channel", "neuron_selection": "ranked"}
"""What the preset was: heads of any width, neurons in the ranking of channels."""
TIMED: dict[str, dict[str, Any]] = {
    "attention 50%": {"target": {"attention_sparsity": 0.5}},
    "attention 50%, former": {"target": {"attention_sparsity": 0.5}, **FORMER},
    "attention 75%": {"target": {"attention_sparsity": 0.75}},
    "attention 75%, former": {"target": {"attention_sparsity": 0.75}, **FORMER},
    "feed-forward 50%": {"target": {"ffn_sparsity": 0.5}},
    "FLOPs 50%, both": {"target": {"flops": 0.5}, "parts": BOTH},
    "FLOPs 50%, both, former": {"target": {"flops": 0.5}, "parts": BOTH, **FORMER},
    "FLOPs 75%, both": {"target": {"flops": 0.75}, "parts": BOTH},
    "FLOPs 75%, both, former": {"target": {"flops": 0.75}, "parts": BOTH, **FORMER},
}
RECOMMENDED = "FLOPs 50%, both"
OF = ("attention", "feed_forward", "parameters", "flops")
Row = dict[str, Any]


@dataclass
class Bench:
    """The model, the data, and what is scored once and cut many times."""

    setup: Setup
    clips: int | None
    """Of validation; None: all."""

    def cutting(self, pruning: Mapping[str, Any], seed: int = 0) -> Cutting:
        """By the preset `best` in one step, but for what `pruning` says."""
        values = {"schedule": {"steps": 1}, **pruning}
        values["calibration"] = {"samples": self.setup.calibration_samples, **values.get("calibration", {})}
        if values.get("criterion") is Criterion.TAYLOR:
            values["calibration"] |= {"labels": "data"}
        setup = self.setup
        spec = EngineSpec.model_validate({"pruning": values, "finetune": None, "seed": seed})
        spec = settled(spec, setup.described.shape, setup.dense.widths, setup.described.architecture.head)
        check_feasible(setup.described.shape, setup.dense.widths, spec.pruning)
        quiet = Reporter(lambda _event: None, 1, {})
        return Cutting(spec, setup.described, setup.data, setup.task, setup.device, quiet)

    def scored(self, cutting: Cutting) -> ScoredModel:
        """Once for all targets that cut the same parts: a share changes nothing in a score."""
        pruning = cutting.spec.pruning
        by = (
            pruning.criterion,
            pruning.basis,
            tuple(sorted(pruning.scored_parts)),
            pruning.compensation,
            cutting.spec.seed,
        )
        return self.setup.once(by, lambda: cutting.score(self.setup.dense, 1))

    def cut(self, pruning: Mapping[str, Any], seed: int = 0) -> LoadedModel:
        """One cut at the target's whole share."""
        cutting = self.cutting(pruning, seed)
        return cutting.prune(self.scored(cutting), cutting.spec.pruning.target.share)[0]

    def accuracy(self, loaded: LoadedModel, role: Split = Split.VALIDATION) -> float:
        """On the clips that are looked at; TEST is whole."""
        split = self.setup.split(role)
        if role is Split.VALIDATION and self.clips is not None:
            split = split.random_subset(self.clips, 0)
        return evaluate(loaded.model, split, self.setup.task, batch_size=32, device=self.setup.device).metric or 0.0

    def gone(self, loaded: LoadedModel) -> Row:
        """Shares of the original that have gone, by what they are of."""
        shape, widths = self.setup.described.shape, loaded.widths
        dense = shape.dense
        shares = (
            accounting.attention_sparsity(shape, widths),
            accounting.feed_forward_sparsity(shape, widths),
            1 - accounting.total_parameters(shape, widths) / accounting.total_parameters(shape, dense),
            1 - accounting.total_flops(shape, widths) / accounting.total_flops(shape, dense),
        )
        return dict(zip(OF, shares, strict=True))


def by_criterion(bench: Bench) -> Iterator[Row]:
    """Feed-forward blocks alone: criterion × compensation × share."""
    for criterion in Criterion:
        seeds = range(DRAWS if criterion is Criterion.RANDOM else 1)
        for how in COMPENSATIONS:
            row: Row = {"criterion": criterion.value, "compensation": how.value}
            for share in SHARES:
                target = {"ffn_sparsity": share}
                asked = {"criterion": criterion, "target": target, "compensation": how}
                scorer = {**asked, "compensation": COMPENSATIONS[-1]}  # which observes what all of them need
                found = []
                for seed in seeds:
                    cutting = bench.cutting(asked, seed)
                    scored = bench.scored(bench.cutting(scorer, seed))
                    found.append(bench.accuracy(cutting.prune(scored, share)[0]))
                row[f"{share:.0%}"] = sum(found) / len(found)
            yield row


def by_ridge(bench: Bench) -> Iterator[Row]:
    """Ridges of both kinds of map, where neurons alone were cut and where channels were too."""
    targets: dict[str, dict[str, Any]] = {
        "feed-forward 75%": {"target": {"ffn_sparsity": 0.75}},
        "feed-forward 90%": {"target": {"ffn_sparsity": 0.9}},
        "FLOPs 80%, both": {"target": {"flops": 0.8}, "parts": BOTH},
    }
    for ridges in (*(Ridges(RIDGE, ridge) for ridge in RIDGES), Ridges(UNPRUNED_RIDGE, RIDGE), Ridges(None, RIDGE)):
        row: Row = {"W_o": ridges.attention, "second": ridges.feed_forward}
        for name, asked in targets.items():
            cutting = bench.cutting({**asked, "neuron_selection": "ranked"})
            scored, pruning = bench.scored(cutting), cutting.spec.pruning
            assert scored.samples is not None
            widths, shape = scored.loaded.widths, bench.setup.described.shape
            kept = selection_for(
                scored.scores, widths, shape, pruning, share=pruning.target.share, neurons=scored.neurons
            )
            smaller = cutting.apply(scored, kept, refit=False)
            batches = calibration.Batches(scored.samples, bench.setup.device)
            refit_outputs(scored.loaded, smaller, calibration.InputsOf(batches), ridges)
            row[name] = bench.accuracy(smaller)
        yield row


def by_part(bench: Bench) -> Iterator[Row]:
    """The same share of the whole model, taken where the spec allows it."""
    shape = bench.setup.described.shape
    dense = shape.dense
    for kind, share in ((kind, share) for kind in ("parameters", "flops") for share in (0.5, 0.65, 0.8)):
        inside = {
            "parameters": accounting.attention_parameters(shape, dense)
            + accounting.feed_forward_parameters(shape, dense),
            "flops": accounting.attention_flops(shape, dense) + accounting.feed_forward_flops(shape, dense),
        }[kind]
        whole = {"parameters": accounting.total_parameters, "flops": accounting.total_flops}[kind](shape, dense)
        each = share * whole / inside
        ways: dict[str, dict[str, Any]] = {
            "attention": {"target": {kind: share}, "parts": BOTH[:1]},
            "feed_forward": {"target": {kind: share}, "parts": BOTH[1:]},
            "both, one ranking": {"target": {kind: share}, "parts": BOTH},
            "both, equal shares": {"target": {"attention_sparsity": each, "ffn_sparsity": each}},
        }
        for name, asked in ways.items():
            row: Row = {"target": f"{kind} {share:.0%}", "parts": name}
            try:
                loaded = bench.cut(asked)
            except SecateurError as refused:
                if refused.code is not ErrorCode.SPARSITY_OUT_OF_REACH:
                    raise
                yield row | {"accuracy": refused.errors[0].detail, **dict.fromkeys(OF)}
                continue
            yield row | {"accuracy": bench.accuracy(loaded), **bench.gone(loaded)}


def by_latency(bench: Bench, seconds: float, test: bool) -> Iterator[Row]:
    """Dense and cut in turn, beside what FLOPs promise; with one thread in the process's own time: neighbours disturb it less."""
    setup, shape = bench.setup, bench.setup.described.shape
    models = {"dense": setup.dense, **{name: bench.cut(asked) for name, asked in TIMED.items()}}
    clock = 1 if torch.get_num_threads() == 1 else 0
    speedups = {}
    for size in (1, 8):
        inputs = inputs_of(setup.split(Split.VALIDATION), size, setup.dense.model, setup.device)
        times = timed([loaded.model for loaded in models.values()], inputs, seconds)[..., clock]
        speedups[size] = np.median(times[:, :1] / times, axis=0)
    for number, (name, loaded) in enumerate(models.items()):
        row = {"model": name, **bench.gone(loaded), "validation": bench.accuracy(loaded)}
        if test:
            row["test"] = bench.accuracy(loaded, Split.TEST) if name in ("dense", RECOMMENDED) else None
        row["promise"] = accounting.total_flops(shape, shape.dense) / accounting.total_flops(shape, loaded.widths)
        for size, found in speedups.items():
            row[f"speed-up, batch {size}"] = float(found[number])
            row[f"of promise, batch {size}"] = float(found[number]) / row["promise"]
        yield row


def _cell(name: str, value: Any) -> str:
    if not isinstance(value, float):
        return "—" if value is None else str(value)
    if name in ("W_o", "second"):
        return f"{value:g}"
    return f"{value:.2f}" if name == "promise" or "batch" in name else f"{value:.1%}"


def main() -> None:
    """Print a table a question, and everything as JSON on the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True, help="where features are kept, from run to run")
    parser.add_argument("--clips", type=int, help="of validation, drawn at random; all by default")
    parser.add_argument("--calibration", type=int, default=512)
    parser.add_argument("--seconds", type=float, default=60.0, help="of timing, a batch size")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--test", action="store_true", help=f"test accuracy, too, of {RECOMMENDED}")
    parser.add_argument("--only", nargs="+", default=["criteria", "ridge", "parts", "latency"])
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    setup = load_setup(
        arguments.model, arguments.data, arguments.cache, device="cpu",
        calibration_samples=arguments.calibration, measured_samples=None,
    )  # fmt: skip
    bench = Bench(setup, arguments.clips)
    looked_at = arguments.clips or len(setup.split(Split.VALIDATION))
    dense = bench.accuracy(setup.dense)
    print(f"validation, {looked_at} clips; dense: {dense:.1%}", flush=True)
    tables = {
        "criteria": partial(by_criterion, bench),
        "ridge": partial(by_ridge, bench),
        "parts": partial(by_part, bench),
        "latency": partial(by_latency, bench, arguments.seconds, arguments.test),
    }
    results: dict[str, Any] = {"clips": looked_at, "dense": dense, "machine": describe(setup.device)}
    for name in arguments.only:
        start = time.monotonic()
        rows: list[Row] = []
        for row in tables[name]():
            if not rows:
                print("\n| " + " | ".join(row) + " |\n|" + "---|" * len(row))
            rows.append(row)
            print("| " + " | ".join(_cell(key, value) for key, value in row.items()) + " |", flush=True)
        results[name], results[f"{name}_seconds"] = rows, round(time.monotonic() - start)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
