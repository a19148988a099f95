"""Times, sizes, states and targets in a few words."""

from datetime import UTC, datetime

from rich.filesize import decimal
from rich.text import Text

from api_schemas.api.resources import JobResource
from api_schemas.enums import JobState, TargetKind, UploadState
from api_schemas.formatting import points
from api_schemas.spec.pruning import Target
from secateur.terminal.consoles import clean
from secateur.terminal.metrics import percent

_SIGNS = {
    JobState.QUEUED: ("○", "cyan"),
    JobState.RUNNING: ("●", "blue"),
    JobState.CANCELLING: ("◌", "yellow"),
    JobState.PAUSED: ("‖", "yellow"),
    JobState.SUCCEEDED: ("✓", "green"),
    JobState.FAILED: ("✗", "red"),
    JobState.CANCELLED: ("–", "yellow"),
}
_UPLOAD_SIGNS = {
    UploadState.OPEN: ("○", "yellow"),
    UploadState.CHECKING: ("…", "yellow"),
    UploadState.READY: ("✓", "green"),
    UploadState.EXPIRED: ("–", "dim"),
    UploadState.DELETED: ("–", "dim"),
}
_TARGETS = {
    TargetKind.ATTENTION_SPARSITY: "attention",
    TargetKind.FFN_SPARSITY: "feed-forward",
    TargetKind.PARAMETERS: "parameters",
    TargetKind.FLOPS: "FLOPs",
    TargetKind.LATENCY: "latency",
}
_UNITS = ((86400, "d"), (3600, "h"), (60, "min"))
_LONG_AGO = 30 * 86400


def ago(moment: datetime | None, now: datetime | None = None) -> str:
    """`2 min ago`, `in 3 h`; the day where it is more than a month away; nothing for no moment."""
    if moment is None:
        return ""
    seconds = ((now or datetime.now(UTC)) - moment).total_seconds()
    if abs(seconds) > _LONG_AGO:
        return moment.astimezone().strftime("%Y-%m-%d")
    for size, unit in _UNITS:
        if abs(seconds) >= size:
            amount = f"{int(abs(seconds) // size)} {unit}"
            return f"{amount} ago" if seconds > 0 else f"in {amount}"
    return "just now" if seconds >= 0 else "in a minute"


def clock(when: datetime | None) -> str:
    """`2026-01-05 14:03 CET`, by the clock of this machine."""
    return "" if when is None else f"{when.astimezone():%Y-%m-%d %H:%M %Z}"


def moment(when: datetime | None) -> str:
    """`2026-01-05 14:03 CET (2 min ago)`, by the clock of this machine."""
    said, told = clock(when), ago(when)
    return said if said.startswith(told) else f"{said} ({told})"


def size(number: float) -> str:
    """Bytes: `12.3 MB`."""
    return decimal(round(number))


def memory(number: int | None) -> str:
    """Bytes as GiB, as memory is sold."""
    return "" if number is None else f"{number / 2**30:.1f} GiB"


def job_state(job: JobResource) -> Text:
    """A sign and the word, with the share that is done."""
    share = f" {job.progress.fraction:.0%}" if job.progress and job.state is JobState.RUNNING else ""
    return state_sign(job.state).append(share)


def state_sign(state: JobState) -> Text:
    """A sign and the word."""
    sign, colour = _SIGNS[state]
    return Text(f"{sign} {state.value}", colour)


def upload_state(state: UploadState) -> Text:
    """A sign and the word."""
    sign, colour = _UPLOAD_SIGNS[state]
    return Text(f"{sign} {state.value}", colour)


def target(wanted: Target) -> str:
    """`attention 50%`; with a bound `FLOPs, at most 1 point lost`."""
    if wanted.max_drop is not None:
        return f"{_TARGETS[wanted.kind]}, at most {points(wanted.max_drop)} lost"
    return ", ".join(f"{_TARGETS[kind]} {percent(share)}".replace(".0%", "%") for kind, share in wanted.goals)


def named(job: JobResource) -> str:
    """Its name, or its shortened id if it has none."""
    return clean(job.name) if job.name else job.id[:12]
