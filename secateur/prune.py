"""`secateur prune`: runs the engine as a child process, offline: local folders in, step folders out, no server."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError
from rich.console import Console

from api_schemas.errors import ErrorCode
from api_schemas.results import parts
from api_schemas.results.events import (
    ENGINE_EVENT,
    DataReady,
    EngineEvent,
    Failed,
    Finished,
    Loss,
    Started,
    StepDone,
    Warned,
)
from api_schemas.results.events import Progress as ProgressEvent
from api_schemas.results.metrics import JobResult, StepMetrics
from api_schemas.spec.job import EngineSpec
from secateur.errors import InvalidRequest, JobFailed, MissingDependency
from secateur.local_server import installed
from secateur.terminal.job_bar import JobBar
from secateur.terminal.metrics import percent, quality, with_test

STOP_SECONDS = 10.0


@dataclass(frozen=True)
class Pruned:
    """What a run has come to: a folder `step-N` in `out` for each of `steps`, the first of which is the original."""

    out: Path
    steps: tuple[StepMetrics, ...]
    result: JobResult | None


def prune(
    model: Path,
    data: Path,
    out: Path,
    spec: EngineSpec,
    device: str,
    threads: int,
    console: Console,
    processes: int = 1,
) -> Pruned:
    """Run the engine; `console` shows how it goes. `threads`: of all its `processes` together.

    Raises MissingDependency without an engine, InvalidRequest where `out` holds steps, JobFailed with the engine's own code.
    """
    if (lacking := installed.not_installed(installed.ENGINE, "server,worker")) is not None:
        raise MissingDependency(f"This needs the engine. {lacking}", code="missing_dependency")
    if next(out.glob("step-*"), None) is not None:
        detail = f"{out} already contains steps of an earlier run. Give an empty folder."
        raise InvalidRequest(detail, code="invalid_request")
    out.mkdir(parents=True, exist_ok=True)
    spec_file = out / "spec.json"
    spec_file.write_text(spec.model_dump_json(indent=2) + "\n")
    command = [sys.executable, "-m", "worker.engine", "--model", str(model), "--data", str(data), "--out", str(out)]
    threads = max(1, threads // processes)
    command += ["--spec", str(spec_file), "--device", device, "--threads", str(threads), "--watch-stdin"]
    command += ["--processes", str(processes)]
    with _engine(command, out / "engine.log", threads) as process, JobBar(console) as bar:
        steps, end = _follow(process, bar)
        status = process.wait()
    if isinstance(end, Finished) and status == 0:
        return Pruned(out, tuple(steps if end.result is None else with_test(steps, end.result)), end.result)
    log = f"Log: {out / 'engine.log'}"
    if isinstance(end, Failed):
        raise JobFailed(f"{end.code.value}: {end.detail} {log}", code=end.code.value, items=end.errors)
    raise JobFailed(
        f"engine_crashed: the engine exited with status {status}. {log}", code=ErrorCode.ENGINE_CRASHED.value
    )


def _follow(process: subprocess.Popen[str], bar: JobBar) -> tuple[list[StepMetrics], EngineEvent | None]:
    """Read events to the end of the output; returns the finished steps and the last event that ends a run, if any."""
    steps: list[StepMetrics] = []
    end: EngineEvent | None = None
    assert process.stdout is not None
    for line in process.stdout:
        try:
            event = ENGINE_EVENT.validate_json(line)
        except ValidationError:
            bar.note(line.rstrip())
            continue
        match event:
            case Started():
                bar.note(f"engine on {event.device}, {event.threads} threads, {event.steps} steps")
            case DataReady():
                bar.note("data: " + ", ".join(f"{count} {role}" for role, count in event.data.samples.items()))
                for found in event.data.warnings:
                    bar.note(f"warning: {found.detail}")
            case ProgressEvent():
                bar.update(event)
            case Loss():
                bar.note(f"step {event.step}: epoch {event.epoch}/{event.epochs}, training loss {event.train_loss:.3f}")
            case StepDone():
                steps.append(event.metrics)
                if event.metrics.search is not None:
                    bar.note(parts.found_in_words(event.metrics.search))
                bar.note(_step_line(event.metrics))
            case Warned():
                bar.note(f"warning: {event.detail}")
            case Failed() | Finished():
                end = event
            case _:
                pass
    return steps, end


def say_result(result: JobResult | None, out: Path, last: int, console: Console) -> None:
    """Where the checkpoint is, and why the job ended where it did."""
    report = out / f"step-{last}" / "report.html"
    if result is not None and result.stopped is not None:
        console.print("Stopped. ", style="bold yellow", end="")
        console.print(result.detail, markup=False, highlight=False, soft_wrap=True)
    else:
        console.print("Done. ", style="bold green", end="")
    step = last if result is None else result.step
    if step:
        console.print(
            f"The pruned checkpoint is in {out / f'step-{step}'}; open {report} for the figures.", soft_wrap=True
        )
    else:
        console.print(
            f"Every step is kept, for example {out / 'step-1'}; open {report} for the figures.", soft_wrap=True
        )


def _step_line(step: StepMetrics) -> str:
    return f"step {step.step}: {percent(step.achieved_sparsity)} of attention removed, {quality(step.validation)} on validation"


@contextmanager
def _engine(command: list[str], log_file: Path, threads: int) -> Iterator[subprocess.Popen[str]]:
    """The running engine. It ends with this process: orderly here, otherwise by the end of its standard input."""
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "OMP_NUM_THREADS": str(threads),
        "PYTHONSAFEPATH": "1",
    }
    with log_file.open("w") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
