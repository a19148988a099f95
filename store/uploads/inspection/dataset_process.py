"""Runs the dataset inspector in a separate process, in the sandbox (store/cage) and with limits on time and memory."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, Field

from api_schemas.api.resources import DatasetContents, JobError
from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.spec.inputs import Columns
from store.cage import Cage, read_report
from store.machine import yield_cpu
from store.uploads.inspection.found_samples import MOST_SAMPLES, FoundSample

OUTPUT_BYTES = 32 * 2**20
PROCESSES = 1024
"""And threads: a library starts some for every core."""
LOOK_SECONDS = 0.25
"""How often it is asked whether the answer is still wanted."""


class InspectionStopped(Exception):
    """Nobody wants the answer any more; the process was killed."""


@dataclass(frozen=True)
class Bounds:
    """What the reading of one dataset may take."""

    seconds: int
    memory_bytes: int
    rows: int
    unpacked_bytes: int


@dataclass(frozen=True)
class Inspected:
    """What a dataset holds, and the rows that are shown of it."""

    contents: DatasetContents
    samples: tuple[FoundSample, ...] = ()


class _Answer(BaseModel):
    contents: DatasetContents | None = None
    samples: tuple[FoundSample, ...] = Field((), max_length=MOST_SAMPLES)
    error: JobError | None = None


def inspect_in_process(
    folder: Path, columns: Columns, bounds: Bounds, wanted: Callable[[], bool] = lambda: True
) -> Inspected:
    """What `folder` holds. Raises the inspector's errors, DATASET_SCHEMA where it crashed or hit a bound, and
    InspectionStopped once the answer is not `wanted`."""
    command = [
        sys.executable,
        "-m",
        "store.uploads.inspection.dataset",
        str(folder),
        "--columns",
        columns.model_dump_json(),
        f"--rows={bounds.rows}",
        f"--bytes={bounds.unpacked_bytes}",
    ]
    # No credentials and no proxies: it needs the interpreter and one thread.
    environment = {"PATH": os.defpath, "OMP_NUM_THREADS": "1", "ARROW_DEFAULT_MEMORY_POOL": "system", "LANG": "C.UTF-8"}
    if "PYTHONPATH" in os.environ:
        environment["PYTHONPATH"] = os.environ["PYTHONPATH"]
    cage = Cage(
        read=(str(folder.resolve()),),
        memory_bytes=bounds.memory_bytes,
        cpu_seconds=bounds.seconds,
        processes=PROCESSES,
    )
    process = subprocess.Popen(
        cage.command(command),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        start_new_session=True,
        cwd=Path(__file__).parents[3],
    )
    yield_cpu(process.pid)  # Requests that share the machine come first.
    output, log = _answered(process, bounds.seconds, wanted)
    if process.returncode != 0 or len(output) > OUTPUT_BYTES:
        reason = f"signal {-process.returncode}" if process.returncode < 0 else _last_line(log)
        raise _stopped(f"the process that reads it ended with {reason}")
    try:
        report, _, answered = output.partition(b"\n")
        read_report(report)
        answer = _Answer.model_validate_json(answered)
    except ValueError:
        raise _stopped("the process that reads it returned no result") from None
    if answer.contents is None:
        error = answer.error or JobError(code=ErrorCode.DATASET_SCHEMA, detail="The dataset could not be read.")
        raise SecateurError(error.code, error.detail, error.errors)
    return Inspected(answer.contents, answer.samples)


def _answered(process: "subprocess.Popen[bytes]", seconds: float, wanted: Callable[[], bool]) -> tuple[bytes, bytes]:
    """What it wrote on stdout and stderr when it had ended; killed where it takes too long or is not `wanted`."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return process.communicate(timeout=max(0.0, min(LOOK_SECONDS, deadline - time.monotonic())))
        except subprocess.TimeoutExpired:
            over = time.monotonic() >= deadline
            if not over and wanted():
                continue
        process.kill()
        process.communicate()
        raise _stopped(f"it took longer than {seconds} seconds") if over else InspectionStopped


def _last_line(log: bytes) -> str:
    # The exception's type is enough; its text could quote our paths.
    lines = log.decode("utf-8", "replace").strip().splitlines()
    return lines[-1].split(":", 1)[0][:80] if lines else "no message"


def _stopped(reason: str) -> SecateurError:
    detail = f"The dataset could not be inspected: {reason}. Write smaller row groups and clips, and check the shards."
    return SecateurError(ErrorCode.DATASET_SCHEMA, detail)
