"""What trains a cut model best in one epoch: adapters or all weights, and how much of it from the original.

Cut once by the preset `best`, then one epoch as a job trains it, three seeds: of calibration samples, order, augmentation and
adapters. Learning rates are chosen on VALIDATION with the first seed (`--rates`); `--test` measures TEST as well, for once.
Every run is kept in FOLDER/recovery.json, and only those that are missing are made; the page is written from all of them.

    python -m benchmarks.recovery --model CHECKPOINT --data DATA --cache FOLDER --out FOLDER [--rates] [--test]
                                   [--cuts …] [--weights …]
"""

import argparse
import copy
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from api_schemas.enums import FinetuneMethod, Split
from api_schemas.spec.presets import PRESETS
from api_schemas.spec.recovery import Distill, Finetune
from benchmarks.neurons import Row, cut, load
from benchmarks.race.evaluation import Predictions, measure
from benchmarks.race.machine import describe
from benchmarks.race.recovery import recover
from benchmarks.race.results.bootstrap import paired
from benchmarks.race.setup import Setup, Unit
from worker.engine.checkpoint.load import LoadedModel

SEEDS = 3
REFIT = {"refit_samples": PRESETS["best"]["calibration"]["refit_samples"]}
CUTS: dict[str, dict[str, float]] = {"attention 93.75%": {"attention_sparsity": 0.9375}, "FLOPs 75%": {"flops": 0.75}}
RATES = {FinetuneMethod.LORA: (3e-4, 1e-3, 3e-3), FinetuneMethod.FULL: (1e-4, 3e-4, 1e-3)}
WEIGHTS = (0.0, 0.5, 1.0)
TRIED = tuple((method, weight) for method in FinetuneMethod for weight in WEIGHTS)
"""How it is trained, and the weight of the original's answers."""
FIRST = (FinetuneMethod.LORA, 0.5)
"""What the preset does, with which the others are compared."""


def _settings(method: FinetuneMethod, weight: float, rate: float) -> Finetune:
    distill = Distill(weight=weight) if weight else None
    return Finetune(method=method, epochs=1, learning_rate=rate, distill=distill)


def _name(label: str, method: FinetuneMethod, weight: float, rate: float, seed: int) -> str:
    return f"{label}, {method.value}, {weight:g}, {rate:g}, seed {seed}"


class Runs:
    """Every run there is, by name: what a model says on validation and, where asked, on test."""

    def __init__(self, file: Path, setup: Setup, *, test: bool) -> None:
        self.file, self.setup = file, setup
        self.roles = (Split.VALIDATION, Split.TEST) if test else (Split.VALIDATION,)
        self.kept: dict[str, Row] = json.loads(file.read_text()) if file.exists() else {}

    def of_cut(self, label: str, seed: int, wanted: list[tuple[FinetuneMethod, float, float]]) -> None:
        """Make what is missing of one cut with one seed."""
        names = [f"{label}, as cut, seed {seed}", *(_name(label, *how, seed) for how in wanted)]
        missing = [name for name in names if any(role.value not in self.kept.get(name, {}) for role in self.roles)]
        if not missing:
            return
        smaller = cut(self.setup, {"target": CUTS[label], "calibration": REFIT}, seed)
        for name, how in zip(names, (None, *wanted), strict=True):
            if name not in missing:
                continue
            model = smaller
            if how is not None:
                # What is trained is changed in place, and what is cut decides what gets adapters.
                spare = replace(smaller, model=copy.deepcopy(smaller.model))
                unit = Unit.FLOPS if "flops" in CUTS[label] else Unit.ATTENTION
                model = recover(replace(self.setup, unit=unit), spare, seed, _settings(*how))
            self.kept[name] = {role.value: self._said(model, role) for role in self.roles}
            print(name, {role: row["accuracy"] for role, row in self.kept[name].items()}, flush=True)
            self.file.write_text(json.dumps(self.kept, indent=1) + "\n")

    def _said(self, loaded: LoadedModel, role: Split) -> Row:
        found = measure(self.setup, loaded.model, role)
        assert isinstance(found, Predictions)
        return found.model_dump()

    def accuracy(self, name: str, role: Split) -> float:
        return float(self.kept[name][role.value]["accuracy"])

    def by_sample(self, names: list[str], role: Split) -> NDArray[np.float64]:
        """Mean over seeds."""
        seeds = [Predictions.model_validate(self.kept[name][role.value]).by_sample() for name in names]
        mean: NDArray[np.float64] = np.mean(seeds, axis=0)
        return mean


def tried(runs: Runs, label: str) -> list[FinetuneMethod]:
    """The methods with rates that were run after a cut."""
    return [
        method
        for method in FinetuneMethod
        if any(_name(label, method, 0.5, rate, 0) in runs.kept for rate in RATES[method])
    ]


def best_rate(runs: Runs, label: str, method: FinetuneMethod) -> float:
    """Of RATES, by validation with the first seed, at the weight 0.5; of those that were run. ValueError where none was."""
    there = [rate for rate in RATES[method] if _name(label, method, 0.5, rate, 0) in runs.kept]
    if not there:
        raise ValueError(f"no rate of {method.value} was tried after {label}: run with --rates first")
    return max(there, key=lambda rate: runs.accuracy(_name(label, method, 0.5, rate, 0), Split.VALIDATION))


def page(runs: Runs) -> str:
    """The page, of every run that is there."""
    machine = ", ".join(f"{part} {value}" for part, value in describe(runs.setup.device).items())
    lines = [
        "# Adapters or all weights",
        "",
        "One cut by the preset `best`, then one epoch on train: with LoRA on the projections that were cut (and the",
        "classifier), or on all weights (`finetune.method`). *Distillation* is the weight of the original's outputs relative",
        "to the labels. Accuracy is in %, the mean over seeds. *Points* is the difference from LoRA with distillation 0.5 on",
        "the same clips, with its 95% interval (paired bootstrap over clips of the means over seeds). Learning rates were",
        "chosen on validation. Written by `python -m benchmarks.recovery`.",
        "",
        f"Machine: {machine}.",
    ]
    for label in (label for label in CUTS if FIRST[0] in tried(runs, label)):
        lines += [
            "",
            f"## {label}",
            "",
            "| trained | distillation | learning rate | seeds | validation | points | test | points |",
        ]
        lines.append("|---|---:|---:|---:|---:|---:|---:|---:|")
        rates = {method: best_rate(runs, label, method) for method in tried(runs, label)}
        cells: dict[tuple[str, float], list[str]] = {
            (method.value, weight): [
                name
                for seed in range(SEEDS)
                if (name := _name(label, method, weight, rates[method], seed)) in runs.kept
            ]
            for method, weight in TRIED
            if method in rates
        }
        cells = {("as cut", 0.0): [name for name in runs.kept if name.startswith(f"{label}, as cut")], **cells}
        first = cells[FIRST[0].value, FIRST[1]]
        for (how, weight), names in cells.items():
            if not names:
                continue
            settings = ("", "") if how == "as cut" else (f"{weight:g}", f"{rates[FinetuneMethod(how)]:g}")
            line = [how, *settings, str(len(names))]
            for role in (Split.VALIDATION, Split.TEST):
                there = all(role.value in runs.kept[name] for name in (*names, *first))
                line.append(f"{100 * runs.by_sample(names, role).mean():.2f}" if there else "")
                if not there or len(names) != len(first) or names == first:
                    line.append("")
                    continue
                difference = paired(runs.by_sample(names, role), runs.by_sample(first, role))
                line.append(f"{difference.points:+.2f} ({difference.low:+.2f} to {difference.high:+.2f})")
            lines.append(f"| {' | '.join(line)} |")
        of_rates = [
            f"{method.value} {rate:g}: {100 * runs.accuracy(name, Split.VALIDATION):.2f}"
            for method in FinetuneMethod
            for rate in RATES[method]
            if (name := _name(label, method, 0.5, rate, 0)) in runs.kept
        ]
        lines += ["", f"Learning rates on validation, first seed, distillation 0.5: {'; '.join(of_rates)}."]
    return "\n".join([*lines, ""])


def main() -> None:
    """Make what is missing, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model", "data", "cache", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--rates", action="store_true", help="all learning rates, first seed, and nothing else")
    parser.add_argument("--test", action="store_true")
    parser.add_argument("--cuts", nargs="+", choices=tuple(CUTS), default=tuple(CUTS))
    parser.add_argument("--weights", nargs="+", type=float, choices=WEIGHTS, default=WEIGHTS, help="of distillation")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    setup = load("ast", arguments.model, arguments.data, arguments.cache)
    runs = Runs(arguments.out / "recovery.json", setup, test=arguments.test)
    for label in arguments.cuts:
        if arguments.rates:
            runs.of_cut(label, 0, [(method, 0.5, rate) for method in FinetuneMethod for rate in RATES[method]])
            continue
        for seed in range(SEEDS):
            wanted = [(*how, best_rate(runs, label, how[0])) for how in TRIED if how[1] in arguments.weights]
            runs.of_cut(label, seed, wanted)
    (arguments.out / "recovery.md").write_text(page(runs))


if __name__ == "__main__":
    main()
