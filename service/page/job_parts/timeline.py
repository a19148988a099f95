"""The finished, current and remaining phases of a running job, by step, from its phase events."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from api_schemas.api.resources import JobResource
from api_schemas.enums import JobState, Phase
from api_schemas.results.events import JobEvent, PhaseChanged
from api_schemas.spec.job import JobRequest

KINDS = ("phase", "state")
MOST_EVENTS = 300
NAMES = {
    Phase.STARTING: "Starting",
    Phase.PREPARING: "Preparing data",
    Phase.SCORING: "Scoring",
    Phase.ANALYSING: "Analysing layers",
    Phase.PRUNING: "Pruning",
    Phase.FINETUNING: "Fine-tuning",
    Phase.EVALUATING: "Evaluating",
    Phase.PACKAGING: "Packaging",
}
_OF_ORIGINAL = (Phase.STARTING, Phase.PREPARING, Phase.EVALUATING)
_OF_STEP = (Phase.SCORING, Phase.PRUNING, Phase.FINETUNING, Phase.PACKAGING, Phase.EVALUATING)
"""In the engine's order; with recovery it also evaluates between pruning and fine-tuning."""


@dataclass(frozen=True)
class Piece:
    """A phase of a step. `seconds` is None of what is still to come."""

    name: str
    state: Literal["done", "now", "next"]
    seconds: float | None = None


@dataclass(frozen=True)
class Row:
    """A step's pieces in order; step 0 is the original."""

    step: int
    state: Literal["done", "now", "next"]
    pieces: tuple[Piece, ...]

    @property
    def title(self) -> str:
        """`Original` or `Step 2`."""
        return f"Step {self.step}" if self.step else "Original"

    @property
    def seconds(self) -> float:
        """Of what was done."""
        return sum(piece.seconds or 0.0 for piece in self.pieces)


def timeline(job: JobResource, events: Sequence[JobEvent], now: datetime) -> tuple[Row, ...]:
    """A row a step. `events` are of `KINDS`, in order; nothing where none are kept."""
    spans = _spans(events, now)
    if not spans:
        return ()
    steps = max((event.body.steps for event in events if isinstance(event.body, PhaseChanged)), default=0)
    current = spans[-1][0] if job.state in (JobState.RUNNING, JobState.CANCELLING) else None
    done = {step.step for step in job.metrics}
    rows = []
    for step in range(steps + 1):
        own = [(phase, seconds) for at, phase, seconds in spans if at == step]
        if not own and step in done:
            continue
        rows.append(_row(step, own, job.request, running=step == current, done=step in done))
    return tuple(rows)


def _spans(events: Sequence[JobEvent], now: datetime) -> list[tuple[int, Phase, float]]:
    """Step, phase and seconds of each that has begun; a state that is not `running` ends one, and a wait is no phase."""
    found: list[tuple[int, Phase, float]] = []
    for event, after in zip(events, [*events[1:], None], strict=True):
        if isinstance(event.body, PhaseChanged):
            end = now if after is None else after.created_at
            found.append((event.body.step, event.body.phase, max(0.0, (end - event.created_at).total_seconds())))
    return found


def _row(step: int, own: Sequence[tuple[Phase, float]], request: JobRequest, *, running: bool, done: bool) -> Row:
    pieces = [Piece(NAMES[phase], "done", seconds) for phase, seconds in _together(own)]
    if running and pieces:
        last = pieces.pop()
        pieces.append(Piece(last.name, "now", last.seconds))
    if not done:
        pieces += [Piece(NAMES[phase], "next") for phase in _coming(step, own, request)]
    return Row(step, "now" if running else "done" if done else "next", tuple(pieces))


def _together(own: Sequence[tuple[Phase, float]]) -> list[tuple[Phase, float]]:
    """The same phase twice in a row, after a restart say, as one."""
    found: list[tuple[Phase, float]] = []
    for phase, seconds in own:
        if found and found[-1][0] is phase:
            found[-1] = (phase, found[-1][1] + seconds)
        else:
            found.append((phase, seconds))
    return found


def _coming(step: int, own: Sequence[tuple[Phase, float]], request: JobRequest) -> Sequence[Phase]:
    """What is left of the step's order, after the last of it that has begun. An evaluation before fine-tuning is not the last."""
    order = _OF_STEP if step else _OF_ORIGINAL
    begun = [phase for phase, _ in own if phase in order]
    if step and begun and begun[-1] is Phase.EVALUATING and Phase.PACKAGING not in begun:
        begun.pop()
    at = order.index(begun[-1]) + 1 if begun else 0
    if step == 0 and own and own[-1][0] in (Phase.SCORING, Phase.ANALYSING):
        return ()
    return [phase for phase in order[at:] if phase is not Phase.FINETUNING or request.finetune is not None]
