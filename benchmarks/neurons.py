"""Which neurons go: those that score least, or those that the others make up for best (`neuron_selection`).

One cut by the preset `best`, no training, on an audio classifier of the race and on its sentence encoder, everything else
alike: the same calibration samples by seed, the same split of a target of FLOPs between attention and neurons. Decided on
VALIDATION; `--test` measures TEST as well, for once. Writes FOLDER/neurons.json, and the page from everything that is in it.

    python -m benchmarks.neurons ast --model CHECKPOINT --data DATA --cache FOLDER --out FOLDER [--test]
    python -m benchmarks.neurons minilm --out FOLDER [--test]          # needs the packages of benchmarks.race.minilm
    python -m benchmarks.neurons cost --out FOLDER                     # of choosing, at the size of an AST-base
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from api_schemas.enums import NeuronSelection, Split
from api_schemas.spec.job import EngineSpec
from benchmarks.race.evaluation import measure
from benchmarks.race.machine import describe
from benchmarks.race.minilm import sentences
from benchmarks.race.minilm.benchmark import checkpoint
from benchmarks.race.minilm.benchmark import load_setup as load_encoder
from benchmarks.race.results.bootstrap import paired
from benchmarks.race.setup import Setup, load_setup
from checkpoints.planning.settled import settled
from worker.engine.checkpoint.load import LoadedModel
from worker.engine.pruning.compensation import RIDGE
from worker.engine.pruning.cutting import Cutting
from worker.engine.pruning.regression import RidgeRegression
from worker.engine.runtime.progress import Reporter

DRAWS = 3
"""Of calibration samples; a sample's result is its mean over them."""
SAMPLES = 512
TARGETS: dict[str, dict[str, dict[str, float]]] = {
    "ast": {
        **{f"neurons {share:.0%}": {"ffn_sparsity": share} for share in (0.5, 0.75, 0.9)},
        **{f"FLOPs {share:.0%}": {"flops": share} for share in (0.5, 0.75, 0.8)},
    },
    "minilm": {
        **{f"neurons {share:.0%}": {"ffn_sparsity": share} for share in (0.25, 0.5, 0.75)},
        **{f"FLOPs {share:.0%}": {"flops": share} for share in (0.25, 0.5)},
    },
}
MODELS = {"ast": "ast-asc (accuracy, %)", "minilm": "all-MiniLM-L6-v2 (cosine to the original's embedding, × 100)"}
WIDE = (3072, 768)
Row = dict[str, Any]


def load(name: str, model: Path | None, data: Path | None, cache: Path | None) -> Setup:
    """The audio classifier at `model` with its data, or the packaged sentence encoder. ValueError where a path is missing."""
    if name == "minilm":
        return load_encoder(checkpoint(), sentences.drawn(), SAMPLES)
    if model is None or data is None or cache is None:
        raise ValueError("an audio classifier needs --model, --data and --cache")
    return load_setup(model, data, cache, device="cpu", calibration_samples=SAMPLES, measured_samples=None)


def cut(setup: Setup, asked: dict[str, Any], seed: int) -> LoadedModel:
    """Cut once by the preset `best`, but for what `asked` says of `pruning`; a target of FLOPs cuts both parts."""
    pruning: dict[str, Any] = {"schedule": {"steps": 1}, **asked}
    pruning |= {"parts": ("attention", "feed_forward")} if "flops" in pruning["target"] else {}
    pruning["calibration"] = {"samples": setup.calibration_samples, **asked.get("calibration", {})}
    spec = EngineSpec.model_validate({"pruning": pruning, "finetune": None, "seed": seed})
    spec = settled(spec, setup.described.shape, setup.dense.widths, setup.described.architecture.head)
    quiet = Reporter(lambda _event: None, 1, {})
    cutting = Cutting(spec, setup.described, setup.data, setup.task, setup.device, quiet)
    by = (tuple(sorted(spec.pruning.scored_parts)), spec.pruning.calibration.model_dump_json(), seed)
    scored = setup.once(by, lambda: cutting.score(setup.dense, 1))
    return cutting.prune(scored, spec.pruning.target.share)[0]


def compare(setup: Setup, name: str, draws: int, *, test: bool) -> Row:
    """By target and split, both choices and their difference, seed by seed on the same calibration samples."""
    roles = (Split.VALIDATION, Split.TEST) if test else (Split.VALIDATION,)
    found: Row = {
        "draws": draws,
        "dense": {role.value: 100 * measure(setup, setup.dense.model, role).score for role in roles},
    }
    by_sample: dict[tuple[str, str, str], list[NDArray[np.float64]]] = {}
    for seed in range(draws):
        for label, target in TARGETS[name].items():
            for selection in NeuronSelection:
                model = cut(setup, {"target": target, "neuron_selection": selection}, seed).model
                for role in roles:
                    values = measure(setup, model, role).by_sample()
                    by_sample.setdefault((label, role.value, selection.value), []).append(values)
                    print(seed, label, selection.value, role.value, f"{100 * values.mean():.2f}", flush=True)
    found["rows"] = []
    for label in TARGETS[name]:
        for role in roles:
            means = {each: np.mean(by_sample[label, role.value, each.value], axis=0) for each in NeuronSelection}
            difference = paired(means[NeuronSelection.BRAIN_SURGEON], means[NeuronSelection.RANKED])
            row: Row = {"target": label, "split": role.value}
            row |= {each.value: 100 * float(values.mean()) for each, values in means.items()}
            found["rows"].append(row | {"points": difference.points, "low": difference.low, "high": difference.high})
    return found


def cost() -> list[Row]:
    """Processor seconds of choosing in one block that is as wide as an AST-base's, after the sums."""
    neurons, width = WIDE
    torch.manual_seed(0)
    regression = RidgeRegression(nn.Linear(neurons, width), torch.float32)
    for _ in range(4):
        active = torch.randn(1, 2048, neurons).relu()
        regression.add(active, torch.randn(1, 2048, width))
    rows = []
    for share in (0.5, 0.75, 0.9):
        start = time.process_time()
        regression.most_needed(RIDGE, round(neurons * (1 - share)))
        rows.append({"share": share, "seconds": time.process_time() - start})
    return rows


def page(results: Row) -> str:
    """The page, of everything that was measured."""
    lines = [
        "# Which neurons to remove",
        "",
        "Two values of `neuron_selection` are compared. `ranked` removes the neurons with the lowest scores, in one ranking",
        "of the whole model. `brain_surgeon` removes the same share of every block, one neuron at a time: always the one that",
        "the remaining neurons can best replace ([method](../method.md#feed-forward-blocks)). One cut by the preset `best`,",
        f"without training, with {SAMPLES} calibration samples. Differences are in points, with their 95% interval (paired",
        "bootstrap over samples). Decisions were made on validation. Written by `python -m benchmarks.neurons`.",
    ]
    for name, title in MODELS.items():
        if name not in results:
            continue
        dense = results[name]["dense"]
        told = ", ".join(f"{role} {value:.2f}" for role, value in dense.items())
        machine = ", ".join(f"{part} {value}" for part, value in results[name]["machine"].items())
        lines += [
            "",
            f"## {title}",
            "",
            f"Dense: {told}. Draws of calibration samples (numbers are means over them): {results[name]['draws']}. "
            f"Machine: {machine}.",
            "",
        ]
        lines += ["| removed | split | `ranked` | `brain_surgeon` | difference |", "|---|---|---:|---:|---:|"]
        for row in results[name]["rows"]:
            interval = f"{row['points']:+.2f} ({row['low']:+.2f} to {row['high']:+.2f})"
            cells = (row["target"], row["split"], f"{row['ranked']:.2f}", f"{row['brain_surgeon']:.2f}", interval)
            lines.append(f"| {' | '.join(cells)} |")
    if "cost" in results:
        lines += [
            "",
            "## What the selection costs",
            "",
            f"For a block of {WIDE[0]} neurons and width {WIDE[1]}, on one thread, after the sums over samples have been",
            "computed.",
            "",
        ]
        lines += ["| removed | processor seconds |", "|---|---:|"]
        lines += [f"| {row['share']:.0%} | {row['seconds']:.1f} |" for row in results["cost"]]
    return "\n".join([*lines, ""])


def main() -> None:
    """Measure one model or the cost, and write what there is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=(*TARGETS, "cost"))
    parser.add_argument("--model", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--cache", type=Path, help="where features are kept, from run to run")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--draws", type=int, default=DRAWS, help="of calibration samples")
    parser.add_argument("--test", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    file = arguments.out / "neurons.json"
    results: Row = json.loads(file.read_text()) if file.exists() else {}
    if arguments.what == "cost":
        results["cost"] = cost()
    else:
        setup = load(arguments.what, arguments.model, arguments.data, arguments.cache)
        found = compare(setup, arguments.what, arguments.draws, test=arguments.test)
        results[arguments.what] = {**found, "machine": describe(setup.device)}
    arguments.out.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(results, indent=1) + "\n")
    (arguments.out / "neurons.md").write_text(page(results))


if __name__ == "__main__":
    main()
