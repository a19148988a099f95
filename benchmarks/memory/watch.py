"""A job by the engine as a program, watched: what it holds, by phase, and what is held by the fresh process that loads a step."""

import json
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from api_schemas.results.events import ENGINE_EVENT, Failed, Started, StepDone
from api_schemas.spec.job import EngineSpec

LOOK_SECONDS = 0.05
STARTING = "starting"


@dataclass
class Peaks:
    """By phase, in bytes: `held` is what no kernel can take back (anonymous pages and those of shared memory), `resident` all
    pages, those of mapped files among them; of the engine. `gate`: what its children hold together. `all`: engine and children.
    """

    held: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    resident: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    gate: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    all: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    processor: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Seconds of the engine and of its children that are there or have ended."""
    phase: str = STARTING

    def look(self, process: psutil.Process) -> None:
        """Note what the engine and its children hold now."""
        phase = self.phase
        held, resident = _pages(process.pid)
        children = sum(_pages(child.pid)[0] for child in process.children(recursive=True))
        for peaks, now in ((self.held, held), (self.resident, resident), (self.gate, children)):
            peaks[phase] = max(peaks[phase], now)
        self.all[phase] = max(self.all[phase], held + children)


def _pages(pid: int) -> tuple[int, int]:
    """(held, resident) bytes of a process; zeros of one that has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0, 0
    kinds = {line.split(":")[0]: 1024 * int(line.split()[1]) for line in status.splitlines() if line.startswith("Rss")}
    return kinds.get("RssAnon", 0) + kinds.get("RssShmem", 0), sum(kinds.values())


def _processor_seconds(process: psutil.Process) -> float:
    try:
        own = process.cpu_times()
        there = [child.cpu_times() for child in process.children(recursive=True)]
    except psutil.Error:
        return 0.0
    return float(sum(each.user + each.system + each.children_user + each.children_system for each in (own, *there)))


def watched(folder: Path, model: Path, data: Path, spec: EngineSpec) -> dict[str, Any]:
    """Run it on one thread. Raises RuntimeError where it fails."""
    folder.mkdir(parents=True)
    (folder / "spec.json").write_text(spec.model_dump_json())
    command = [sys.executable, "-m", "worker.engine", "--model", str(model), "--data", str(data), "--device", "cpu"]
    command += ["--threads", "1", "--spec", str(folder / "spec.json"), "--out", str(folder / "out")]
    peaks, ended = Peaks(), threading.Event()
    steps: list[dict[str, Any]] = []
    with (folder / "engine.log").open("w") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        seen = psutil.Process(process.pid)

        def watch() -> None:
            while not ended.wait(LOOK_SECONDS):
                try:
                    peaks.look(seen)
                except psutil.Error:
                    return

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        spent, failed = 0.0, None
        began: dict[str, Any] = {}
        assert process.stdout is not None
        for line in process.stdout:
            event = ENGINE_EVENT.validate_json(line)
            now = _processor_seconds(seen)
            peaks.processor[peaks.phase] += max(0.0, now - spent)
            spent = max(spent, now)
            if event.type == "phase":
                peaks.phase = event.phase.value
            if isinstance(event, StepDone):
                steps.append(json.loads(event.metrics.model_dump_json()))
            if isinstance(event, Started):
                began = {"base": event.memory.host if event.memory else None, "tensor_bytes": event.tensor_bytes}
            failed = event if isinstance(event, Failed) else failed
        process.wait()
        ended.set()
        watcher.join()
    if process.returncode or failed is not None:
        raise RuntimeError(f"the engine failed: {failed or (folder / 'engine.log').read_text()[-2000:]}")
    by_phase = {
        phase: {
            "held": peaks.held[phase],
            "resident": peaks.resident[phase],
            "children": peaks.gate[phase],
            "together": peaks.all[phase],
            "processor": round(peaks.processor[phase], 1),
        }
        for phase in peaks.held
    }
    return {"phases": by_phase, "said": steps[-1]["memory"], "sparsity": steps[-1]["achieved_sparsity"], **began}


def most(found: Mapping[str, Any], what: str) -> int:
    """The highest of all phases."""
    return max(int(phase[what]) for phase in found["phases"].values())
