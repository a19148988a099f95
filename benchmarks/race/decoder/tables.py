"""The page of the race of decoders, and its numbers as JSON."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from benchmarks.race.cells import Stage, Status
from benchmarks.race.minilm.tables import BY_HAND
from benchmarks.race.results.bootstrap import Difference
from benchmarks.race.results.summary import Entry
from benchmarks.race.results.tables import draws
from benchmarks.race.runner import BEST, DENSE
from checkpoints.sizes import accounting
from checkpoints.sizes.shape import ModelShape

if TYPE_CHECKING:
    from benchmarks.race.decoder.benchmark import Programme

PAGE = "race-decoder"
FAMILIES = ("ours", "llm-pruner", "flap", "slicegpt", "slimgpt")
HEADINGS = {Stage.ONE_SHOT: "One cut, no recovery", Stage.RECOVERED: "After one epoch of recovery"}


@dataclass(frozen=True)
class Parameters:
    """Of the dense model."""

    layers: int
    hidden: int
    attention: int
    feed_forward: int
    others: int
    """Embeddings, a map to the vocabulary that is not tied to them, and norms."""

    @classmethod
    def of(cls, shape: ModelShape) -> Self:
        attention = accounting.attention_parameters(shape, shape.dense)
        feed_forward = accounting.feed_forward_parameters(shape, shape.dense)
        others = accounting.total_parameters(shape, shape.dense) - attention - feed_forward
        return cls(shape.layers, shape.attention[0].hidden, attention, feed_forward, others)


@dataclass(frozen=True)
class Header:
    """Where and on what: the model, the machine, samples by split, and what was asked for."""

    name: str
    made: bool
    """By the race itself; else it is somebody's folder."""
    machine: Mapping[str, str | int]
    samples: Mapping[str, int]
    programme: "Programme"
    block: int
    parameters: Parameters
    frequencies: float
    """Perplexity on test by how often tokens are in train, and nothing else."""


def _cell(entry: Entry) -> str:
    if entry.status is not Status.DONE or entry.perplexity is None or entry.test is None:
        return entry.status.value.replace("_", " ")
    off = "" if entry.matched or entry.achieved is None else f" at {entry.achieved:.1%}"
    return f"{entry.perplexity:.2f} / {entry.test:.1%}{off}"


def _validated(entry: Entry) -> str:
    return "" if entry.validation_perplexity is None else f"{entry.validation_perplexity:.2f}"


def _ratio(entry: Entry) -> str:
    """Perplexity over that of `best`."""
    found = entry.nats_minus_best
    if found is None:
        return ""
    ratio, low, high = (math.exp(each / 100) for each in (found.points, found.low, found.high))
    return _marked(found, f"{ratio:.3f} [{low:.3f}, {high:.3f}]")


def _behind(entry: Entry) -> str:
    found = entry.best_minus
    if found is None:
        return ""
    return _marked(found, f"{found.points:+.1f} [{found.low:+.1f}, {found.high:+.1f}]")


def _marked(found: Difference, text: str) -> str:
    return f"**{text}**" if found.significant else text


def _table(entries: Sequence[Entry], write: Callable[[Entry], str], *, without_best: bool = False) -> list[str]:
    targets = sorted({entry.target for entry in entries})
    found = {(entry.arm, entry.target): entry for entry in entries}
    # Ours as they are listed, `best` first; others by name.
    arms = sorted({(FAMILIES.index(entry.family), entry.arm) for entry in entries})
    lines = ["| arm | draws | " + " | ".join(f"{100 * target:.4g}%" for target in targets) + " |"]
    lines.append("|---|---|" + "---|" * len(targets))
    for _, arm in arms:
        if without_best and arm == BEST:
            continue
        row = [found.get((arm, target)) for target in targets]
        cells = ["" if entry is None else write(entry) for entry in row]
        lines.append(f"| {arm} | {draws([entry for entry in row if entry])} | {' | '.join(cells)} |")
    return lines


def _stage(entries: Sequence[Entry], heading: str) -> list[str]:
    return [
        f"## {heading}", "", "Perplexity per token / next token accuracy on test:", "",
        *_table(entries, _cell), "",
        "Perplexity of the arm divided by that of `ours/best` on test, with its 95% interval; bold if it does not contain "
        "1:", "",
        *_table(entries, _ratio, without_best=True), "",
        "`ours/best` minus the arm in points of accuracy, on test:", "",
        *_table(entries, _behind, without_best=True), "",
        "Perplexity on validation (first draw), where decisions were made:", "",
        *_table(entries, _validated), "",
    ]  # fmt: skip


def markdown(header: Header, entries: Sequence[Entry]) -> str:
    """The page, but for what is written by hand."""
    dense = next((entry for entry in entries if entry.arm == DENSE), None)
    counts = ", ".join(f"{count} {role}" for role, count in header.samples.items())
    own, asked = header.parameters, header.programme
    model = "trained for this benchmark (`benchmarks/race/decoder/trained.py`)" if header.made else "a folder"
    lines = [
        "# Comparison of pruning methods on a decoder",
        "",
        "<!-- not run: a benchmark of an hour -->",
        "```bash",
        "python -m benchmarks.race --decoder --model trained --out DIR"
        if header.made
        else f"python -m benchmarks.race --decoder --model FOLDER --name {header.name} --out DIR",
        "```",
        "",
        "- " + ", ".join(f"{key} {value}" for key, value in header.machine.items()) + ".",
        f"- Model: {header.name}, a Llama {model}: {own.layers} layers, {own.hidden} wide.",
        f"- Columns: the share that was removed of {own.attention + own.feed_forward:,} parameters: those of attention's q, k, v "
        f"and o ({own.attention:,}) and of the three maps of feed-forward blocks ({own.feed_forward:,}). The other "
        f"{own.others:,}, embeddings and norms, are neither cut nor counted. “at x%” is the share that was removed, if it is "
        "more than a point off the target.",
        "- Text: docstrings of the standard library and of numpy, and the language reference, in blocks of "
        f"{header.block} tokens; no module, file or topic is in two splits: {counts}. In each draw, all arms get the same "
        f"{asked.calibration} blocks of train.",
        "- Recovery is the same for every arm: one epoch over all blocks of train, LoRA with the dense model as teacher, batches "
        f"of {asked.batch}, learning rate {asked.learning_rate:g}.",
        "- Intervals: paired bootstrap over test blocks, treating blocks of one document as independent.",
        "- `llm-pruner`, `flap`, `slicegpt` and `slimgpt` are re-implementations, not their authors' code. The first lines of "
        "`taylor.py`, `flap.py`, `sliced_llama.py` and `slimgpt.py` in `benchmarks/race/arms` say what exactly is implemented.",
    ]
    if dense is not None and dense.perplexity is not None and dense.test is not None:
        lines.append(
            f"- Dense: perplexity {dense.perplexity:.2f} and {dense.test:.1%} on test, {_validated(dense)} on validation. "
            f"A model that knows only the token frequencies of train has a perplexity of {header.frequencies:.1f} on test."
        )
    lines.append("")
    for stage, heading in HEADINGS.items():
        raced = [entry for entry in entries if entry.stage is stage and entry.arm != DENSE]
        if raced:
            lines += _stage(raced, heading)
    return "\n".join(lines)


def write(folder: Path, header: Header, entries: Sequence[Entry]) -> Path:
    """The page, what was added to it by hand kept, and the same numbers as JSON beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / f"{PAGE}.md"
    kept = page.read_text().partition(BY_HAND)[2] if page.is_file() else "\n"
    page.write_text(f"{markdown(header, entries)}\n{BY_HAND}{kept}")
    content = {**asdict(header), "entries": [entry.row() for entry in entries]}
    page.with_suffix(".json").write_text(json.dumps(content, indent=1) + "\n")
    return page
