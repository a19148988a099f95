"""A job by the engine alone, on one thread: seconds of wall and of processor by phase."""

import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from api_schemas.results.events import ENGINE_EVENT, DataReady, Failed, PhaseChanged
from api_schemas.spec.job import EngineSpec

OUTSIDE = "outside"
"""What lies before the first phase and behind the last."""


@dataclass(frozen=True)
class Spent:
    """Seconds, of a job or of a part of it."""

    wall: float
    processor: float


@dataclass(frozen=True)
class JobRun:
    """What a job took, by phase, and how many samples its splits had."""

    phases: dict[str, Spent]
    samples: dict[str, int]

    @property
    def total(self) -> Spent:
        of_phases = list(self.phases.values())
        return Spent(sum(each.wall for each in of_phases), sum(each.processor for each in of_phases))


def run(folder: Path, model: Path, data: Path, spec: EngineSpec) -> JobRun:
    """The engine as a program of its own. Raises RuntimeError where it fails."""
    folder.mkdir(parents=True)
    (folder / "spec.json").write_text(spec.model_dump_json())
    command = [sys.executable, "-m", "worker.engine", "--model", str(model.absolute()), "--data", str(data.absolute())]
    command += ["--spec", str(folder / "spec.json"), "--out", str(folder / "out"), "--device", "cpu", "--threads", "1"]
    phases: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    samples: dict[str, int] = {}
    with (folder / "engine.log").open("w") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        assert process.stdout is not None
        clock = _Clock(psutil.Process(process.pid))
        before, phase, last = (time.monotonic(), 0.0), OUTSIDE, None
        for line in process.stdout:
            last = ENGINE_EVENT.validate_json(line)
            if isinstance(last, DataReady):
                samples = dict(last.data.windows or last.data.samples)
            if isinstance(last, PhaseChanged):
                before = _add(phases[phase], before, clock.now())
                phase = last.phase.value
        _add(phases[phase], before, clock.now())
        process.wait()
    if process.returncode or isinstance(last, Failed):
        raise RuntimeError(f"the engine failed: {last or (folder / 'engine.log').read_text()[-2000:]}")
    return JobRun({name: Spent(*spent) for name, spent in phases.items()}, samples)


def _add(spent: list[float], before: tuple[float, float], now: tuple[float, float]) -> tuple[float, float]:
    spent[0] += now[0] - before[0]
    spent[1] += now[1] - before[1]
    return now


class _Clock:
    """Wall and processor seconds of a process and what it started; what has ended meanwhile keeps what it was last seen with."""

    def __init__(self, root: psutil.Process) -> None:
        self._root = root
        self._seen: dict[int, float] = {}

    def now(self) -> tuple[float, float]:
        for process in self._all():
            with suppress(psutil.Error):
                times = process.cpu_times()
                self._seen[process.pid] = times.user + times.system + times.children_user + times.children_system
        return time.monotonic(), sum(self._seen.values())

    def _all(self) -> Iterator[psutil.Process]:
        with suppress(psutil.Error):
            yield self._root
            yield from self._root.children(recursive=True)
