"""Runs the dataset inspector in a process of its own, in a cage (store/cage) and with limits on time and memory."""

import os
import subprocess
import sys
from pathlib import Path

from pydantic import BaseModel

from api_schemas.api.resources import DatasetContents, JobError
from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.spec.inputs import Columns
from store.cage import Cage, read_report

TIMEOUT_SECONDS = 900
MEMORY_BYTES = 4 * 2**30
OUTPUT_BYTES = 32 * 2**20


class _Answer(BaseModel):
    contents: DatasetContents | None = None
    error: JobError | None = None


def inspect_in_process(
    folder: Path, columns: Columns, timeout_seconds: int = TIMEOUT_SECONDS, memory_bytes: int = MEMORY_BYTES
) -> DatasetContents:
    """What `folder` holds. Raises the inspector's errors, and DATASET_SCHEMA where it crashed or hit a limit."""
    command = [
        sys.executable,
        "-m",
        "store.uploads.inspection.dataset",
        str(folder),
        "--columns",
        columns.model_dump_json(),
    ]
    # No credentials and no proxies: it needs the interpreter and one thread.
    environment = {"PATH": os.defpath, "OMP_NUM_THREADS": "1", "ARROW_DEFAULT_MEMORY_POOL": "system", "LANG": "C.UTF-8"}
    if "PYTHONPATH" in os.environ:
        environment["PYTHONPATH"] = os.environ["PYTHONPATH"]
    cage = Cage(read=(str(folder.resolve()),), memory_bytes=memory_bytes, cpu_seconds=timeout_seconds)
    process = subprocess.Popen(
        cage.command(command),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        start_new_session=True,
        cwd=Path(__file__).parents[3],
    )
    try:
        output, log = process.communicate(timeout=timeout_seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise _stopped(f"it took longer than {timeout_seconds} seconds") from None
    if process.returncode != 0 or len(output) > OUTPUT_BYTES:
        reason = f"signal {-process.returncode}" if process.returncode < 0 else _last_line(log)
        raise _stopped(f"reading it ended with {reason}")
    try:
        report, _, answered = output.partition(b"\n")
        read_report(report)
        answer = _Answer.model_validate_json(answered)
    except ValueError:
        raise _stopped("reading it gave no answer") from None
    if answer.contents is None:
        error = answer.error or JobError(code=ErrorCode.DATASET_SCHEMA, detail="The dataset could not be read.")
        raise SecateurError(error.code, error.detail, error.errors)
    return answer.contents


def _last_line(log: bytes) -> str:
    # The exception's type is enough; its text could quote our paths.
    lines = log.decode("utf-8", "replace").strip().splitlines()
    return lines[-1].split(":", 1)[0][:80] if lines else "no message"


def _stopped(reason: str) -> SecateurError:
    detail = f"The dataset could not be inspected: {reason}. Write smaller row groups and clips, and check the shards."
    return SecateurError(ErrorCode.DATASET_SCHEMA, detail)
