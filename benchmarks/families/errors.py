"""Whether a cut is right: against zeros in the stock model, and against what a fresh process makes of the files."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.families.examples import Example
from benchmarks.families.fresh_process import Packaged, load_in_fresh_process
from benchmarks.families.reference import answer, cut_by, distance, keeps, masked
from worker.engine.checkpoint.load import load_original
from worker.engine.checkpoint.save import save_checkpoint

SAMPLES = 3
CUT = "heads and channels"
"""Of reference.keeps: a head gone in every attention, the others narrower and the feed-forward blocks too, all by their own
number."""


@dataclass(frozen=True)
class Errors:
    """Of one model, shares of max(1, its largest absolute answer)."""

    masked: float
    """Cut against the stock dense model with zeros where something was cut."""
    changed: float
    """What the cut changes at all, stock dense against cut: an error far below it means something."""
    round_trip: float
    """What a fresh process answers, without a line of ours but what travels with the files, against the engine."""
    seconds: float
    """Of making, cutting, comparing and saving; loading afresh is one process for all models, and not in it."""


def errors(examples: Sequence[Example], scratch: Path) -> list[Errors]:
    """Of every model, cut in attention and in feed-forward blocks, unequally. Raises AssertionError where files do not load."""
    packages, found = [], []
    for number, example in enumerate(examples):
        start = time.monotonic()
        original = example.save(example.stock(), scratch / f"original {number}")
        loaded, inputs = load_original(original), example.inputs(SAMPLES)
        kept = keeps(loaded.widths)[CUT]
        smaller = cut_by(loaded, kept)
        stock = example.stock()
        with torch.inference_mode():
            dense, cut = answer(stock, inputs), answer(smaller.model, inputs)
            with masked(example.model_spec, stock, kept) as reference:
                expected = answer(reference, inputs)
        folder = scratch / f"cut {number}"
        save_checkpoint(folder, smaller, original)
        auto_class = example.model_spec.family.architectures[example.name].auto_class
        packages.append(Packaged(folder, auto_class, inputs, cut))
        found.append((distance(cut, expected), distance(dense, cut), time.monotonic() - start))
    loaded_again = load_in_fresh_process(packages, scratch)
    return [
        Errors(masked=error, changed=changed, round_trip=loaded_again[str(package.folder)]["error"], seconds=seconds)
        for package, (error, changed, seconds) in zip(packages, found, strict=True)
    ]
