"""What least squares on more samples and a searched division between the parts bring to the preset `best`, one cut, no training.

Three arms on an audio classifier and on a sentence encoder, with the same calibration samples by seed: as the preset was, ranked
and refitted on the samples that are scored; refitted on as many as the preset takes; and with the division between attention and
neurons searched for, which is the preset. Decided on VALIDATION; `--test` measures TEST as well, for once. Writes
FOLDER/best.json, and the page from everything in it.

    python -m benchmarks.best ast --model CHECKPOINT --data DATA --cache FOLDER --out FOLDER [--test] [--draws 3]
    python -m benchmarks.best minilm --out FOLDER [--test]             # needs the package of benchmarks.race.minilm
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

TARGETS: dict[str, dict[str, dict[str, float]]] = {
    "ast": {
        "attention 50%": {"attention_sparsity": 0.5},
        "attention 75%": {"attention_sparsity": 0.75},
        **{f"FLOPs {share:.0%}": {"flops": share} for share in (0.5, 0.75, 0.8)},
    },
    "minilm": {
        "attention 50%": {"attention_sparsity": 0.5},
        **{f"FLOPs {share:.0%}": {"flops": share} for share in (0.25, 0.5)},
    },
}
TITLES = {"ast": "ast-asc (accuracy, %)", "minilm": "all-MiniLM-L6-v2 (cosine to the original's embedding, × 100)"}
MORE: int = PRESETS["best"]["calibration"]["refit_samples"]
ARMS: dict[str, dict[str, Any]] = {
    f"refit on {SAMPLES}": {"part_shares": "ranked", "calibration": {"refit_samples": None}},
    f"refit on up to {MORE:,}": {"part_shares": "ranked", "calibration": {"refit_samples": MORE}},
    "and shares searched": {"part_shares": "searched", "calibration": {"refit_samples": MORE}},
}
"""What each asks of the preset; of attention alone the last two are one."""


def compare(setup: Setup, targets: dict[str, dict[str, float]], draws: int, *, test: bool) -> Iterator[Row]:
    """By target and split, every arm, and what each brings beyond the first."""
    roles = (Split.VALIDATION, Split.TEST) if test else (Split.VALIDATION,)
    for label, target in targets.items():
        arms = list(ARMS)[: 3 if "flops" in target else 2]
        values: dict[tuple[Split, str], list[NDArray[np.float64]]] = {}
        for seed in range(draws):
            for arm in arms:
                model = cut(setup, {"target": target, **ARMS[arm]}, seed).model
                for role in roles:
                    values.setdefault((role, arm), []).append(measure(setup, model, role).by_sample())
        for role in roles:
            means = {arm: np.mean(values[role, arm], axis=0) for arm in arms}
            row: Row = {"target": label, "split": role.value, "draws": draws}
            row["arms"] = {arm: 100 * float(each.mean()) for arm, each in means.items()}
            row["beyond"] = {}
            for arm in arms[1:]:
                found = paired(means[arm], means[arms[0]])
                row["beyond"][arm] = (found.points, found.low, found.high)
            yield row


def page(results: Row) -> str:
    """The page, of everything that was measured."""
    first, *others = ARMS
    lines = [
        "# Two improvements of the preset `best`",
        "",
        f"The first improvement: least squares uses up to {MORE:,} samples, instead of the {SAMPLES} that are scored",
        "(`calibration.refit_samples`, [ADR 42](../adr/0042-samples-of-least-squares.md)). The second: a search decides how",
        "the cut is divided between attention and neurons (`part_shares`, [ADR 45](../adr/0045-shares-of-the-parts.md)). One",
        "cut, no training. In brackets: the difference from the first column in points, with its 95% interval (paired",
        "bootstrap over samples). Decisions were made on validation. Written by `python -m benchmarks.best`.",
    ]
    for name, title in TITLES.items():
        if name not in results:
            continue
        found = results[name]
        dense = ", ".join(f"{role} {value:.2f}" for role, value in found["dense"].items())
        machine = ", ".join(f"{part} {value}" for part, value in found["machine"].items())
        lines += [
            "",
            f"## {title}",
            "",
            f"Dense: {dense}. Train has {found['train']:,} samples. Machine: {machine}.",
            "",
        ]
        lines += [
            f"| removed | split | draws | {first} | {' | '.join(others)} |",
            f"|---|---|---:|---:|{'---:|' * len(others)}",
        ]
        for row in found["rows"]:
            cells = [row["target"], row["split"], str(row["draws"]), f"{row['arms'][first]:.2f}"]
            for arm in others:
                points = row["beyond"].get(arm)
                said = "" if points is None else "{:+.2f}, {:+.2f} to {:+.2f}".format(*points)
                cells.append(f"{row['arms'][arm]:.2f} ({said})" if points else "")
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def main() -> None:
    """Measure one model, and write what there is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=tuple(TARGETS))
    parser.add_argument("--model", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--cache", type=Path, help="where features are kept, from run to run")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--draws", type=int, default=1, help="of calibration samples")
    parser.add_argument("--only", nargs="+", help="targets")
    parser.add_argument("--test", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    setup = load(arguments.what, arguments.model, arguments.data, arguments.cache)
    arguments.out.mkdir(parents=True, exist_ok=True)
    file = arguments.out / "best.json"
    results: Row = json.loads(file.read_text()) if file.exists() else {}
    found: dict[str, Any] = {
        "dense": {
            role.value: 100 * measure(setup, setup.dense.model, role).score for role in (Split.VALIDATION, Split.TEST)
        },
        "train": len(setup.split(Split.TRAIN)),
        "machine": describe(setup.device),
        "rows": [],
    }
    targets = {
        label: target for label, target in TARGETS[arguments.what].items() if label in (arguments.only or [label])
    }
    for row in compare(setup, targets, arguments.draws, test=arguments.test):
        print(row, flush=True)
        found["rows"].append(row)
        file.write_text(json.dumps({**results, arguments.what: found}, indent=1) + "\n")
    (arguments.out / "best.md").write_text(page(json.loads(file.read_text())))


if __name__ == "__main__":
    main()
