"""How many samples least squares are worth: as many as are scored, or as the preset takes.

One cut by the preset `best`, no training, on an audio classifier and on a sentence encoder, everything else alike: the same
calibration samples by seed and the same heads; least squares on those samples, and on as many as the preset takes. Decided on
VALIDATION; `--test` measures TEST as well, for once. Writes FOLDER/refit-samples.json, and the page from everything in it.

    python -m benchmarks.refit_samples ast --model CHECKPOINT --data DATA --cache FOLDER --out FOLDER [--test]
    python -m benchmarks.refit_samples minilm --out FOLDER [--test]    # needs the package of benchmarks.race.minilm
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from api_schemas.enums import Split
from api_schemas.spec.presets import PRESETS
from benchmarks.neurons import SAMPLES, Row, cut, load
from benchmarks.race.evaluation import measure
from benchmarks.race.machine import describe
from benchmarks.race.results.bootstrap import paired
from benchmarks.race.setup import Setup

DRAWS = {"ast": 3, "minilm": 1}
"""Of calibration samples; a sample's result is its mean over them."""
TARGETS: dict[str, dict[str, float]] = {
    "attention 50%": {"attention_sparsity": 0.5},
    "attention 75%": {"attention_sparsity": 0.75},
    "FLOPs 50%": {"flops": 0.5},
    "FLOPs 75%": {"flops": 0.75},
    "FLOPs 80%": {"flops": 0.8},
}
OF = {"ast": tuple(TARGETS), "minilm": ("attention 50%", "FLOPs 25%", "FLOPs 50%")}
TITLES = {"ast": "ast-asc (accuracy, %)", "minilm": "all-MiniLM-L6-v2 (cosine to the original's embedding, × 100)"}
MORE: int = PRESETS["best"]["calibration"]["refit_samples"]


def compare(setup: Setup, name: str, *, test: bool) -> Iterator[Row]:
    """By target and split, least squares on SAMPLES and on up to MORE."""
    roles = (Split.VALIDATION, Split.TEST) if test else (Split.VALIDATION,)
    for label in OF[name]:
        target = TARGETS.get(label, {"flops": 0.25})
        values: dict[tuple[Split, int | None], list[NDArray[np.float64]]] = {}
        for seed in range(DRAWS[name]):
            for most in (None, MORE):
                model = cut(setup, {"target": target, "calibration": {"refit_samples": most}}, seed).model
                for role in roles:
                    values.setdefault((role, most), []).append(measure(setup, model, role).by_sample())
        for role in roles:
            few, more = (np.mean(values[role, most], axis=0) for most in (None, MORE))
            difference = paired(more, few)
            row: Row = {"target": label, "split": role.value, "few": 100 * float(few.mean())}
            row |= {"more": 100 * float(more.mean()), "points": difference.points}
            yield row | {"low": difference.low, "high": difference.high}


def page(results: Row) -> str:
    """The page, of everything that was measured."""
    lines = [
        "# Samples of least squares",
        "",
        f"The preset scores on {SAMPLES} samples, and refits on up to {MORE:,}: `calibration.refit_samples`",
        "([why](../adr/0042-samples-of-least-squares.md)). One cut, no training; difference in points with its 95% interval",
        "(paired bootstrap over samples). Decided on validation. Written by `python -m benchmarks.refit_samples`.",
    ]
    for name, title in TITLES.items():
        if name not in results:
            continue
        found = results[name]
        dense = ", ".join(f"{role} {value:.2f}" for role, value in found["dense"].items())
        machine = ", ".join(f"{part} {value}" for part, value in found["machine"].items())
        lines += ["", f"## {title}", ""]
        lines += [f"Dense: {dense}. {found['train']:,} samples in train; {DRAWS[name]} draws. Machine: {machine}.", ""]
        lines += [
            f"| removed | split | refit on {SAMPLES} | on up to {MORE:,} | difference |",
            "|---|---|---:|---:|---:|",
        ]
        for row in found["rows"]:
            interval = f"{row['points']:+.2f} ({row['low']:+.2f} to {row['high']:+.2f})"
            cells = (row["target"], row["split"], f"{row['few']:.2f}", f"{row['more']:.2f}", interval)
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def main() -> None:
    """Measure one model, and write what there is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=tuple(OF))
    parser.add_argument("--model", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--cache", type=Path, help="where features are kept, from run to run")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--test", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    setup = load(arguments.what, arguments.model, arguments.data, arguments.cache)
    arguments.out.mkdir(parents=True, exist_ok=True)
    file = arguments.out / "refit-samples.json"
    results: Row = json.loads(file.read_text()) if file.exists() else {}
    found: dict[str, Any] = {
        "dense": {
            role.value: 100 * measure(setup, setup.dense.model, role).score for role in (Split.VALIDATION, Split.TEST)
        },
        "train": len(setup.split(Split.TRAIN)),
        "machine": describe(setup.device),
        "rows": [],
    }
    for row in compare(setup, arguments.what, test=arguments.test):
        print(row, flush=True)
        found["rows"].append(row)
        file.write_text(json.dumps({**results, arguments.what: found}, indent=1) + "\n")
    (arguments.out / "refit-samples.md").write_text(page(json.loads(file.read_text())))


if __name__ == "__main__":
    main()
