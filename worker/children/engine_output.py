"""Parses the engine's output. The engine runs on untrusted files, so its output is checked like they are."""

import json
import signal
from contextlib import suppress

from pydantic import ValidationError

from api_schemas.api.resources import JobError
from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.results.events import ENGINE_EVENT, EngineEvent, Failed, Finished
from api_schemas.results.metrics import JobResult

# Trying again may help with these; every other code that an engine reports is about the job's own input.
RETRIED = frozenset(
    {
        ErrorCode.ENGINE_CRASHED,
        ErrorCode.ENGINE_ERROR,
        ErrorCode.OUT_OF_MEMORY,
        ErrorCode.INTERNAL,
        ErrorCode.UNAVAILABLE,
        ErrorCode.SCRATCH_FULL,
        ErrorCode.STORAGE_FULL,
        ErrorCode.STORAGE_UNAVAILABLE,
    }
)
DETAIL_LENGTH = 2000


class Crashed(Exception):
    """The engine ended unexpectedly; the job may be retried."""

    def __init__(self, code: ErrorCode, detail: str) -> None:
        super().__init__(detail)
        self.error = JobError(code=code, detail=detail[:DETAIL_LENGTH])


class OutOfMemory(Exception):
    """The engine needed more memory than there was, with at most `samples` in one pass."""

    def __init__(self, detail: str, samples: int) -> None:
        super().__init__(detail)
        self.samples = samples

    def error(self, advice: str) -> JobError:
        """What the job says about it, with what happens now."""
        return JobError(code=ErrorCode.OUT_OF_MEMORY, detail=f"{self} {advice}"[:DETAIL_LENGTH])


def parse_event(line: str) -> EngineEvent:
    """One line of the engine's output. Raises Crashed for a line that is no event, or has a NaN (which is no JSON)."""
    try:
        event = ENGINE_EVENT.validate_json(line)
        json.dumps(ENGINE_EVENT.dump_python(event, mode="json"), allow_nan=False)
    except (ValidationError, ValueError) as error:
        raise Crashed(ErrorCode.ENGINE_ERROR, f"The engine wrote an event that cannot be read: {error}") from error
    return event


def committed_result(event: Finished, last_step: int) -> JobResult | None:
    """What the job comes to. Raises Crashed where the engine names a step that was never committed."""
    if event.result is not None and not 0 <= event.result.step <= last_step:
        raise Crashed(
            ErrorCode.ENGINE_ERROR, f"The engine's result is step {event.result.step}; the last one is {last_step}."
        )
    return event.result


def verdict(event: Failed) -> Exception:
    """What an engine's own failure means for the job: a crash to be tried again, or an error that would come again."""
    if event.code in RETRIED:
        return Crashed(event.code, event.detail)
    return SecateurError(event.code, event.detail, event.errors)


def obituary(status: int | None, log_tail: str) -> str:
    """How an engine ended that did not say so itself."""
    if status is None:
        how = "closed its output but did not end"
    elif status < 0:
        name = str(-status)
        with suppress(ValueError):
            name = signal.Signals(-status).name
        how = f"was ended by {name}" + (" (often too little memory)" if -status == signal.SIGKILL else "")
    else:
        how = f"ended with status {status} before it had finished"
    return f"The engine {how}." + (f" The end of its log:\n{log_tail}" if log_tail else "")
