"""A job by the engine alone, on one thread: seconds of wall and of processor by phase, and how busy the machine was meanwhile.

A processor that others use as well does less in a second, whoever's second it is: caches and execution units are shared. So a
small piece of work is done again and again beside the job, and how much longer it takes than at its fastest is the load.
"""

import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import psutil
import torch

from api_schemas.results.events import ENGINE_EVENT, DataReady, Failed, PhaseChanged
from api_schemas.spec.job import EngineSpec
from worker.engine.runtime.device_speed import SIZES, layer_calls

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
    load: float = 1.0
    """How many times as long the piece of work beside it took as at its fastest: a mean over the job."""

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
        clock, load = _Clock(psutil.Process(process.pid)), Load()
        load.start()
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
        slowed = load.stop()
    if process.returncode or isinstance(last, Failed):
        raise RuntimeError(f"the engine failed: {last or (folder / 'engine.log').read_text()[-2000:]}")
    return JobRun({name: Spent(*spent) for name, spent in phases.items()}, samples, slowed)


def _add(spent: list[float], before: tuple[float, float], now: tuple[float, float]) -> tuple[float, float]:
    spent[0] += now[0] - before[0]
    spent[1] += now[1] - before[1]
    return now


class Load:
    """A thread that does the same small piece of work every second, and times it by its own processor time."""

    EVERY_SECONDS = 1.0
    FASTEST: ClassVar[list[float]] = []
    """Of all that was done by this process."""

    def __init__(self) -> None:
        self._work = layer_calls(*SIZES["cpu"][1], torch.device("cpu"))[1]
        self._times: list[float] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def start(self) -> None:
        """Begin, after some pieces of which only the fastest counts."""
        self.FASTEST.append(min(self._timed() for _ in range(100)))
        self._thread.start()

    def stop(self) -> float:
        """How many times as long as the fastest a piece took, in the mean."""
        self._ended.set()
        self._thread.join()
        return sum(self._times) / len(self._times) / min(*self.FASTEST, *self._times)

    def _watch(self) -> None:
        while True:
            self._timed()
            # The first after a pause finds its caches cold, as a job does not.
            self._times.append(self._timed())
            if self._ended.wait(self.EVERY_SECONDS):
                return

    def _timed(self) -> float:
        begun = time.thread_time()
        self._work()
        return time.thread_time() - begun


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
