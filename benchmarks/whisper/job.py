"""A whole job by the engine as `secateur prune` starts it: what it costs, by phase, and what it says is left of it.

A job of a Whisper writes no exports: its answer is a loop, and no single graph.
"""

import os
import resource
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from api_schemas.enums import Split
from api_schemas.results.events import Progress, StepDone
from api_schemas.spec.job import EngineSpec
from benchmarks.overhead.division import Moment
from benchmarks.overhead.runs import alone
from benchmarks.whisper import speech

SPEC: Mapping[str, Any] = {"pruning": {"target": {"attention_sparsity": 0.25}}, "finetune": None}
"""The preset, one-shot."""
MINUTES = 10.0
CORES = 2


def splits(clips: int) -> dict[Split, int]:
    """A fifth each to validate and to test on."""
    held = clips // 5
    return {Split.TRAIN: clips - 2 * held, Split.VALIDATION: held, Split.TEST: held}


def measure(model: Path, fortunes: Path, out: Path, clips: int) -> dict[str, Any]:
    """A job on so many synthesised clips, on one thread. Raises RuntimeError where it fails."""
    data, folder = out / f"job-{clips}", out / "job"
    speech.synthesise(data, fortunes, splits(clips))
    shutil.rmtree(folder, ignore_errors=True)
    load, before = os.getloadavg()[0], _processor_seconds()
    run = alone(folder, model, data, EngineSpec.model_validate(SPEC))
    phases: dict[str, float] = {}
    for _, event in run.moments:
        if isinstance(event, StepDone):
            for phase, spent in event.metrics.seconds.items():
                phases[phase] = round(phases.get(phase, 0.0) + spent, 1)
    return {
        "clips": {split.value: count for split, count in splits(clips).items()},
        "processor": round(_processor_seconds() - before, 1),
        "wall": round(run.wall, 1),
        "phases": phases,
        "estimates": estimates(run.moments, run.wall),
        "load": round(load, 1),
    }


def estimates(moments: Sequence[Moment], wall: float) -> list[dict[str, float | str]]:
    """Of every phase, the first estimate of the time that is left, and what was left, in seconds."""
    found: list[dict[str, float | str]] = []
    seen: set[tuple[str, int]] = set()
    for at, event in moments:
        if isinstance(event, Progress) and event.eta_seconds is not None and (event.phase, event.step) not in seen:
            seen.add((event.phase, event.step))
            said = {"at": at, "said": event.eta_seconds, "left": wall - at}
            found.append({"phase": event.phase.value, **{name: round(value, 1) for name, value in said.items()}})
    return found


def _processor_seconds() -> float:
    """Of all children that have ended, and theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
