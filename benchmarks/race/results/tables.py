"""The results as Markdown and JSON."""

import json
from collections.abc import Sequence
from dataclasses import asdict

from benchmarks.race.cells import Stage, Status
from benchmarks.race.results.bootstrap import Difference
from benchmarks.race.results.summary import Entry
from benchmarks.race.runner import DENSE
from benchmarks.race.spectrum import LayerSpectrum

FAMILIES = ("ours", "paper", "torch-pruning", "kwon", "corp", "a3", "control")


def _points(difference: Difference | None) -> str:
    if difference is None:
        return ""
    text = f"{difference.points:+.1f} [{difference.low:+.1f}, {difference.high:+.1f}]"
    return f"**{text}**" if difference.significant else text


def _accuracy(entry: Entry) -> str:
    if entry.status is not Status.DONE or entry.test is None:
        return entry.status.value.replace("_", " ")
    off = "" if entry.matched or entry.achieved is None else f" at {entry.achieved:.1%}"
    return f"{entry.test:.1%}{off} {_points(entry.versus_dense)}".replace("**", "")


def _behind(entry: Entry) -> str:
    if entry.status is not Status.DONE:
        return entry.status.value.replace("_", " ")
    off = "" if entry.matched or entry.achieved is None else f" at {entry.achieved:.1%}"
    return f"{_points(entry.best_minus)}{off}"


def _table(entries: Sequence[Entry], cell: str) -> list[str]:
    """Arms down, targets across."""
    write = {"accuracy": _accuracy, "behind": _behind}[cell]
    targets = sorted({entry.target for entry in entries})
    found = {(entry.arm, entry.target): entry for entry in entries}
    order = sorted(
        {(FAMILIES.index(e.family) if e.family in FAMILIES else len(FAMILIES), e.arm) for e in entries},
        key=lambda pair: (pair[0], pair[1]),
    )
    lines = ["| arm | draws | " + " | ".join(f"{target:.4g}%" for target in (100 * t for t in targets)) + " |"]
    lines.append("|---|---|" + "---|" * len(targets))
    for _, arm in order:
        row = [write(found[arm, target]) if (arm, target) in found else "" for target in targets]
        lines.append(f"| {arm} | {draws([e for e in entries if e.arm == arm])} | " + " | ".join(row) + " |")
    return lines


def draws(entries: Sequence[Entry]) -> str:
    """How many calibration draws were measured; a dash where nothing is drawn."""
    counts = sorted({entry.draws for entry in entries if entry.status is Status.DONE})
    return "–".join(str(count) for count in dict.fromkeys((counts[0], counts[-1]))) if counts and counts[-1] else "-"


def markdown(
    entries: Sequence[Entry], spectrum: Sequence[LayerSpectrum], *, title: str, loud: str, command: str,
    machine: dict[str, str | int], clips: int, calibration: int, picture: str = "",
) -> str:  # fmt: skip
    """The whole page. `picture`: the plot's file name."""
    dense = next((entry for entry in entries if entry.arm == DENSE), None)
    lines = [f"# {title}", ""]
    if loud:
        lines += [f"> **{loud}**", ""]
    lines += ["```bash", command, "```", ""]
    lines += ["- " + ", ".join(f"{name} {value}" for name, value in machine.items()) + "."]
    if dense is not None and dense.test is not None and dense.validation is not None:
        lines += [f"- Dense: {dense.test:.2%} on test, {dense.validation:.2%} on validation."]
    lines += [
        f"- In each draw, all arms get the same {calibration} training samples. Arms that use no samples are cut once (-).",
        f"- Cells: accuracy on {clips} test clips, the mean over draws; then the difference from the dense model in points, with "
        "its 95% interval (paired bootstrap over clips). “at x%” is the share that was removed, if it is more than a point off "
        "the target.",
        "",
    ]
    if picture:
        lines += [f"![Accuracy over the share of attention parameters removed]({picture})", ""]
    for stage, heading in (
        (Stage.ONE_SHOT, "One cut, no recovery"),
        (Stage.RECOVERED, "After one epoch of LoRA"),
        (Stage.ITERATIVE, "The paper's job: five cuts, three epochs of LoRA after each"),
    ):
        of_stage = [entry for entry in entries if entry.stage is stage and entry.arm != DENSE]
        if not of_stage:
            continue
        lines += [f"## {heading}", "", *_table(of_stage, "accuracy"), ""]
        if any(entry.best_minus for entry in of_stage):
            lines += ["`ours/best` minus the arm, in points; bold if the interval does not contain zero:", ""]
            lines += [*_table([entry for entry in of_stage if entry.arm != "ours/best"], "behind"), ""]
    failed = sorted({(entry.arm, entry.detail) for entry in entries if entry.status is Status.NOT_RUNNABLE})
    if failed:
        lines += ["## Not runnable", "", *(f"- {arm}: {detail}" for arm, detail in failed), ""]
    if spectrum:
        lines += spectrum_lines(spectrum)
    return "\n".join(lines)


def spectrum_lines(layers: Sequence[LayerSpectrum]) -> list[str]:
    """The ranks of every layer, as a section of a page."""
    lines = ["## Energy spectrum of the dense model", ""]
    lines += [
        "The number of ranks that contain 99% of a head's energy: the mean over heads, then every head in order.",
        "",
    ]
    lines += ["| layer | width | QK | VO |", "|---|---|---|---|"]
    for layer in layers:
        qk, vo = (f"{sum(side) / len(side):.1f} ({', '.join(map(str, side))})" for side in (layer.qk, layer.vo))
        lines.append(f"| {layer.layer} | {layer.width} | {qk} | {vo} |")
    return [*lines, ""]


def as_json(entries: Sequence[Entry], spectrum: Sequence[LayerSpectrum], header: dict[str, object]) -> str:
    """Everything the tables show, and the accuracies by draw; the clips themselves stay in the cells."""
    rows = [entry.row() for entry in entries]
    return json.dumps({**header, "entries": rows, "spectrum": [asdict(layer) for layer in spectrum]}, indent=1) + "\n"
