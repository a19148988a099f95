"""The results as one picture: test accuracy over the share removed, one line a contender."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

from benchmarks.race.cells import Stage, Status
from benchmarks.race.results.summary import Entry
from benchmarks.race.runner import BEST, DENSE

COLOURS = {
    "ours": "#c1272d", "paper": "#0000a7", "torch-pruning": "#008176", "kwon": "#eecc16", "corp": "#7b3294", "a3": "#e66101",
    "control": "#b3b3b3",
}  # fmt: skip
"""By family, in the order of the tables."""


def draw(path: Path, entries: Sequence[Entry], title: str) -> None:
    """One panel a stage. All arms thin, each family's best on validation (ours: `best`) thick."""
    stages = [
        stage for stage in (Stage.ONE_SHOT, Stage.RECOVERED) if any(e.stage is stage for e in entries if e.arm != DENSE)
    ]
    if not stages:
        return
    dense = next((entry.test for entry in entries if entry.arm == DENSE), None)
    plt.rcParams["svg.hashsalt"] = "race"  # the same cells give the same file
    figure, panels = plt.subplots(1, len(stages), figsize=(6.5 * len(stages), 4.5), sharey=True, squeeze=False)
    for axes, stage in zip(panels[0], stages, strict=True):
        shown: set[str] = set()
        for family, arm in sorted(
            {(e.family, e.arm) for e in entries if e.stage is stage and e.arm != DENSE},
            key=lambda pair: (list(COLOURS).index(pair[0]), pair[1]),
        ):
            line = sorted(
                (e.achieved, e.test)
                for e in entries
                if e.stage is stage
                and e.arm == arm
                and e.status is Status.DONE
                and e.achieved is not None
                and e.test is not None
            )
            leads = arm == _leader(entries, stage, family)
            label = arm if leads else None
            axes.plot(
                [100 * x for x, _ in line], [100 * y for _, y in line], color=COLOURS[family], label=label,
                linewidth=2.2 if leads else 0.6, alpha=1.0 if leads else 0.45, marker="o" if leads else None, markersize=4,
            )  # fmt: skip
            shown.add(family)
        if dense is not None:
            axes.axhline(100 * dense, color="#000000", linewidth=0.8, linestyle=":")
        axes.set_title({Stage.ONE_SHOT: "one cut, no recovery", Stage.RECOVERED: "after one epoch of LoRA"}[stage])
        axes.set_xlabel("attention parameters removed, %")
        axes.legend(fontsize=7, loc="lower left")
    panels[0][0].set_ylabel("test accuracy, %")
    figure.suptitle(title)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _leader(entries: Sequence[Entry], stage: Stage, family: str) -> str | None:
    """The arm to draw thick: by validation, summed over the targets it reached."""
    if family == "ours":
        return BEST
    totals: dict[str, float] = {}
    for entry in entries:
        if entry.stage is stage and entry.family == family and entry.validation is not None:
            totals[entry.arm] = totals.get(entry.arm, 0.0) + entry.validation
    return max(totals, key=lambda arm: totals[arm], default=None)
