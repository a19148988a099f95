"""How a command ends: its exit status, and how it reports an error."""

from enum import IntEnum
from typing import Any

from pydantic_core import to_json
from rich.console import Console
from rich.text import Text

from secateur import errors
from secateur.documents import CommandError, Failure
from secateur.errors import SecateurError
from secateur.terminal.consoles import clean


class ExitStatus(IntEnum):
    """Exit statuses, for scripts; docs/cli.md lists them, and so does `secateur --help`."""

    SUCCEEDED = 0
    UNEXPECTED = 1
    REFUSED = 2
    FAILED = 3
    CANCELLED = 4
    TIMED_OUT = 5
    INTERRUPTED = 130


EXPLAINED = (
    "Exit status: 0 succeeded, 1 unexpected error (no connection, a server error), 2 wrong usage or a refused request, "
    "3 the job failed, 4 the job was cancelled, 5 `--timeout` expired, 130 interrupted."
)


_ADVICE = {
    "unauthenticated": "Set SECATEUR_API_KEY, give --api-key-file, or sign in once: secateur login --url URL",
    "no_result": "Name a step with --step, or take the last one with --partial.",
    "connection_failed": "Start one here with `secateur up`, or set the address with --url, SECATEUR_URL or `secateur login`.",
}
"""By an error's code, what to do about it at the command line, in place of the advice for Python."""


class Interrupted(SecateurError):
    """Ctrl-C while something could go on without this program."""


def exit_status_of(error: SecateurError) -> ExitStatus:
    """The exit status for an error of the client."""
    match error:
        case Interrupted():
            return ExitStatus.INTERRUPTED
        case errors.JobFailed():
            return ExitStatus.FAILED
        case errors.JobCancelled():
            return ExitStatus.CANCELLED
        case errors.WaitTimeout():
            return ExitStatus.TIMED_OUT
        case errors.InvalidRequest() | errors.NotFound() | errors.Conflict():
            return ExitStatus.REFUSED
    return ExitStatus.REFUSED if 400 <= (error.status or 0) < 500 else ExitStatus.UNEXPECTED


def say(error: SecateurError, console: Console, as_json: bool) -> None:
    """To standard error: a sentence, or with `--json` one document."""
    if as_json:
        write_json(document_of(error), console)
        return
    sign = () if isinstance(error, Interrupted) else (("error: ", "bold red"),)
    console.print(Text.assemble(*sign, clean(error.said(_ADVICE.get(error.code, "")))), soft_wrap=True)
    if error.request_id and exit_status_of(error) is ExitStatus.UNEXPECTED:
        console.print(f"Request id, for the operator: {clean(error.request_id)}", soft_wrap=True)


def document_of(error: SecateurError) -> Failure:
    """The error for programs."""
    said = CommandError(
        code=error.code or "unexpected",
        title=error.title,
        detail=error.detail,
        pointers=error.pointers,
        errors=error.items,
        job=error.job.id if isinstance(error, errors.JobFailed | errors.JobCancelled) and error.job else None,
        status=error.status,
        request_id=error.request_id,
        retry_after=error.retry_after,
        exit_status=exit_status_of(error),
    )
    return Failure(error=said)


def write_json(value: Any, console: Console, indent: int | None = 2) -> None:
    """One document. Models as the API has them; no NaN, which is no JSON."""
    console.file.write(to_json(value, indent=indent, inf_nan_mode="null").decode() + "\n")
    console.file.flush()
