"""The runs that are measured: a job over HTTP on a stack of its own, the engine alone, and submits to an idle worker."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from api_schemas.enums import JobState
from api_schemas.results.events import ENGINE_EVENT, Failed
from api_schemas.spec.job import EngineSpec
from benchmarks.overhead.division import Moment, Run, first_sign
from secateur import Job, Secateur

LOOK_SECONDS = 0.05
POLL_SECONDS = 0.1
JOB_SECONDS = 1800.0
PAUSE_SECONDS = 1.0
"""A worker that has just ended a job is not idle yet."""


class GateWatch:
    """Adds up how long gates live below a process: what the server of the reload gate forks for each folder."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextmanager
    def of(self, root: int) -> Iterator[None]:
        """Watch whatever descends from `root` until the block ends."""
        ended = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(psutil.Process(root), ended), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()

    def _watch(self, root: psutil.Process, ended: threading.Event) -> None:
        before = time.monotonic()
        while not ended.wait(LOOK_SECONDS):
            now = time.monotonic()
            try:
                alive = [process for process in root.children(recursive=True) if _is_gate(process)]
            except psutil.Error:
                alive = []
            self.seconds += (now - before) if alive else 0.0
            before = now


def _is_gate(process: psutil.Process) -> bool:
    """Whether it loads a checkpoint for the reload gate: a child of the gate's server, which is there for the whole job."""
    try:
        parent = process.parent()
        return parent is not None and _is_reload(process) and _is_reload(parent)
    except psutil.Error:
        return False


def _is_reload(process: psutil.Process) -> bool:
    """By its name where it was forked from a template, by its program where it was not."""
    return "reload" in process.name() or any(part.endswith("reload.py") for part in process.cmdline())


def in_service(client: Secateur, folder: Path, model: str, data: str, fields: Mapping[str, Any]) -> tuple[Run, Job]:
    """A job from submitting to `succeeded`, by the stack whose files lie in `folder`."""
    gates = GateWatch()
    with gates.of(json.loads((folder / "ready.json").read_text())["pid"]):
        began = time.time()
        job = client.submit(model, data, **fields)
        job.wait(timeout=JOB_SECONDS)
    moments = [(event.created_at.timestamp() - began, event.body) for event in job.events(follow=False)]
    stored = []
    for at, body in moments:
        if body.type == "step":
            files = [
                file for file in folder.glob(f"data/artifacts/**/{job.id}/**/{body.folder}/**/*") if file.is_file()
            ]
            first = min((file.stat().st_mtime for file in files), default=began + at)
            stored.append(max(0.0, began + at - first))
    return Run(moments, moments[-1][0], gates.seconds, stored), job


def alone(folder: Path, model: Path, data: Path, spec: EngineSpec) -> Run:
    """The same work by the engine as a program, on one thread. Raises RuntimeError where it fails."""
    folder.mkdir()
    (folder / "spec.json").write_text(spec.model_dump_json())
    command = [sys.executable, "-m", "worker.engine", "--model", str(model.absolute()), "--data", str(data.absolute())]
    command += ["--spec", str(folder / "spec.json"), "--out", str(folder / "out"), "--device", "cpu", "--threads", "1"]
    moments: list[Moment] = []
    gates = GateWatch()
    with (folder / "engine.log").open("w") as log:
        began = time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        assert process.stdout is not None
        with gates.of(process.pid):
            for line in process.stdout:
                moments.append((time.monotonic() - began, ENGINE_EVENT.validate_json(line)))
            process.wait()
    wall = time.monotonic() - began
    last = moments[-1][1] if moments else None
    if process.returncode or isinstance(last, Failed):
        raise RuntimeError(f"the engine failed: {last or (folder / 'engine.log').read_text()[-2000:]}")
    return Run(moments, wall, gates.seconds)


def first_events(
    client: Secateur, model: str, data: str, fields: Mapping[str, Any], submits: int
) -> list[dict[str, float]]:
    """Seconds from a submit to an idle worker to the first event of its work: when it was recorded, and when it was seen on the
    job's stream. The job is cancelled then.
    """
    found = []
    for _ in range(submits):
        time.sleep(PAUSE_SECONDS)
        began = time.time()
        job = client.submit(model, data, **fields)
        for event in job.events():
            moment = (event.created_at.timestamp() - began, event.body)
            try:
                found.append({"recorded": first_sign([moment]), "seen": time.time() - began})
            except ValueError:
                continue
            break
        job.cancel()
        while job.refresh().state is not JobState.CANCELLED:
            time.sleep(POLL_SECONDS)
    return found
