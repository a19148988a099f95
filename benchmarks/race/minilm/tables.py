"""The results of a race between encoders: how near each arm's embeddings stay to the dense model's, as Markdown and JSON."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.race.cells import Status
from benchmarks.race.results.summary import Entry
from benchmarks.race.results.tables import draws, spectrum_lines
from benchmarks.race.spectrum import LayerSpectrum

FAMILIES = ("ours", "plain", "paper", "control")
BY_HAND = "<!-- below: by hand -->"
"""What stands behind this line of a page is kept when the page is written anew."""


@dataclass(frozen=True)
class Header:
    """Where, with what and on what: the commands, the machine, and the encoder by name and in words."""

    name: str
    encoder: str
    commands: Sequence[str]
    machine: Mapping[str, str | int]
    calibration: int
    samples: Mapping[str, int]


def _cell(entry: Entry | None) -> str:
    if entry is None:
        return ""
    if entry.status is not Status.DONE or entry.test is None or entry.correlation is None:
        return entry.status.value.replace("_", " ")
    off = "" if entry.matched or entry.achieved is None else f" at {entry.achieved:.1%}"
    return f"{entry.test:.3f} / {entry.correlation:.3f}{off}"


def _validated(entry: Entry | None) -> str:
    return "" if entry is None or entry.validation is None else f"{entry.validation:.3f}"


def _behind(entry: Entry | None) -> str:
    difference = None if entry is None else entry.best_minus
    if difference is None:
        return ""
    return f"{difference.points / 100:+.3f} [{difference.low / 100:+.3f}, {difference.high / 100:+.3f}]"


def markdown(entries: Sequence[Entry], layers: Sequence[LayerSpectrum], header: Header) -> str:
    """The whole page, but for what is written by hand."""
    targets = sorted({entry.target for entry in entries})
    found = {(entry.arm, entry.target): entry for entry in entries}
    arms = sorted({(FAMILIES.index(entry.family), entry.arm) for entry in entries})
    counts = ", ".join(f"{count} {role}" for role, count in header.samples.items())
    columns = " | ".join(f"{100 * target:.4g}%" for target in targets)
    lines = [
        f"# Comparison of pruning methods on {header.name}",
        "",
        "<!-- not run: a benchmark of minutes to hours -->",
        "```bash",
        *header.commands,
        "```",
        "",
        "- " + ", ".join(f"{name} {value}" for name, value in header.machine.items()) + ".",
        f"- Model: {header.encoder}, a sentence encoder. The embedding is the mean of the last hidden states over all tokens, "
        "normalised to length 1.",
        f"- Data: sentences of the Python standard library's documentation; no module or topic is in two splits: {counts}. All "
        f"arms score, rotate and refit on the same {header.calibration} sentences of train. No labels are used, and nothing is "
        "trained.",
        "- Cells: mean cosine similarity to the dense model's embedding / Spearman correlation of the similarities of all pairs, "
        "on test, the mean over calibration draws. “at x%” is the share that was removed, if it is more than a point off the "
        "target.",
        "",
        "## One cut, no recovery",
        "",
        f"| arm | draws | {columns} |",
        "|---|---|" + "---|" * len(targets),
    ]
    for _, arm in arms:
        row = [found.get((arm, target)) for target in targets]
        lines.append(f"| {arm} | {draws([entry for entry in row if entry])} | {' | '.join(map(_cell, row))} |")
    lines += [
        "",
        "Cosine on validation, where decisions were made; then `ours/best` minus the arm on test, with its 95% interval ",
    ]
    lines[-1] += "(paired bootstrap over sentences):"
    lines += ["", f"| arm | {columns} | {columns} |", "|---|" + "---|" * (2 * len(targets))]
    for _, arm in arms:
        row = [found.get((arm, target)) for target in targets]
        lines.append(f"| {arm} | {' | '.join([*map(_validated, row), *map(_behind, row)])} |")
    return "\n".join([*lines, "", *spectrum_lines(layers)])


def write(page: Path, entries: Sequence[Entry], layers: Sequence[LayerSpectrum], header: Header) -> None:
    """The page, what was added to it by hand kept, and the same numbers as JSON beside it."""
    kept = page.read_text().partition(BY_HAND)[2] if page.is_file() else "\n"
    page.write_text(f"{markdown(entries, layers, header)}\n{BY_HAND}{kept}")
    rows = [entry.row() for entry in entries]
    content = {**asdict(header), "entries": rows, "spectrum": [asdict(layer) for layer in layers]}
    page.with_suffix(".json").write_text(json.dumps(content, indent=1) + "\n")
