"""The engine's reports while it works: events, throttled progress, and an estimate of the remaining time."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from api_schemas.enums import Phase
from api_schemas.results.events import EngineEvent, PhaseChanged, Progress
from api_schemas.results.metrics import UnfinishedEpoch

log = logging.getLogger(__name__)

Emit = Callable[[EngineEvent], None]
LEAST_MEASURED = 0.01
"""Of all work as it is guessed: a time left that is drawn from less says little more than how busy the machine is. The features
of 100 clips for a Whisper are a thousandth, and an hour was foretold from them where nine minutes were left."""


@dataclass
class _Kind:
    """One kind of work: how many pieces are planned and done, and the seconds those took. A piece may be partly done."""

    guess: float
    """Relative cost of a piece, used until one has been measured."""
    planned: int
    before: float = 0.0
    """Done by an earlier attempt: not left, and not measured here."""
    done: float = 0.0
    seconds: float = 0.0


@dataclass
class Reporter:
    """Emits phases and progress. `plan` gives, by phase, how many pieces the job has and the relative cost of one."""

    emit: Emit
    steps: int
    plan: Mapping[Phase, tuple[int, float]]
    interval: float = 0.5
    clock: Callable[[], float] = time.monotonic
    seconds: dict[str, float] = field(default_factory=dict)
    """Wall time by phase since the last `restart`, for the step's metrics."""
    training: UnfinishedEpoch | None = None
    """What progress says of the epoch of recovery that goes on, until the phase ends."""

    def __post_init__(self) -> None:
        self._kinds = {phase: _Kind(guess, planned) for phase, (planned, guess) in self.plan.items()}
        self._phase: Phase | None = None
        self._step = 0
        self._began = self.clock()
        self._said = float("-inf")
        self._worked = self._began
        """Since when the current piece's time counts for its speed."""
        self._skipped = 0.0
        """Share of the current piece that was done before."""
        self._bounds = [0.0, 1.0]
        """Where the parts of the current piece begin and end; the first two are of the part that is under way."""

    def rounded_seconds(self) -> dict[str, float]:
        """Wall time by phase since the last `restart`, in milliseconds' precision."""
        return {phase: round(spent, 3) for phase, spent in self.seconds.items()}

    def restart(self) -> None:
        """A new step: its wall times start from nothing."""
        self.seconds = {}
        self._phase = None

    def phase(self, phase: Phase, step: int) -> None:
        """The previous piece of work ends, one of `phase` begins."""
        self.close()
        self._phase, self._step, self._began = phase, step, self.clock()
        self._worked = self._began
        self._said, self._skipped, self._bounds = float("-inf"), 0.0, [0.0, 1.0]
        self.training = None
        log.info("step %d of %d: %s", step, self.steps, phase.value)
        self.emit(PhaseChanged(phase=phase, step=step, steps=self.steps))

    def close(self) -> None:
        """The current piece, if any, ends; its wall time is kept."""
        if self._phase is None:
            return
        spent = self.clock() - self._began
        kind = self._kinds.get(self._phase)
        if kind is not None:
            kind.done += 1 - self._skipped
            kind.seconds += self.clock() - self._worked
        self.seconds[self._phase.value] = self.seconds.get(self._phase.value, 0.0) + spent
        self._phase = None

    def replan(self, plan: Mapping[Phase, tuple[int, float]]) -> None:
        """A better plan; what is done and measured stays."""
        for phase, (planned, guess) in plan.items():
            self._kinds[phase].planned, self._kinds[phase].guess = planned, guess

    def skip(self, phase: Phase, pieces: int) -> None:
        """Pieces that an earlier attempt has done."""
        self._kinds[phase].before += pieces

    def work_begins(self) -> None:
        """What the current piece took so far, loading libraries say, does not grow with its work: it says nothing of speed."""
        self._worked = self.clock()

    def skip_part(self, done: int, total: int) -> None:
        """`done` of `total` units of the current piece, which an earlier attempt has done: they took no time here."""
        if self._phase is None:
            return
        self._skipped = done / total
        self._kinds[self._phase].before += self._skipped

    def divide(self, *work: float) -> None:
        """The current piece has parts, each with its own count from 0 in `progress`, that take about so much work."""
        whole = sum(work) or 1.0
        self._bounds = [sum(work[:number]) / whole for number in range(len(work) + 1)]

    def next_part(self) -> None:
        """A part of the current piece ends, the next one begins."""
        self._bounds = self._bounds[1:] if len(self._bounds) > 2 else [1.0, 1.0]

    def progress(self, done: int, total: int) -> None:
        """`done` of `total` units of the current piece, or of its part that is under way. Said at most twice a second, and at the
        end.
        """
        now = self.clock()
        if self._phase is None or (now - self._said < self.interval and done < total):
            return
        self._said = now
        start, end = self._bounds[:2]
        part = start + (end - start) * (done / total if total else 1.0)
        fraction, left = self._estimate(part - self._skipped, now - self._worked)
        self.emit(
            Progress(
                phase=self._phase,
                step=self._step,
                steps=self.steps,
                done=done,
                total=total,
                fraction=fraction,
                eta_seconds=left,
                training=self.training,
            )
        )

    def _estimate(self, part: float, spent: float) -> tuple[float, float | None]:
        """(share of the job done, seconds left), from measured speed where there is one and the plan's guess elsewhere.

        No seconds left before LEAST_MEASURED of the work is done.
        """
        now = {
            phase: (kind.done + part, kind.seconds + spent) if phase is self._phase else (kind.done, kind.seconds)
            for phase, kind in self._kinds.items()
        }
        seconds = sum(took for _, took in now.values())
        work = sum(now[phase][0] * kind.guess for phase, kind in self._kinds.items())
        if not work or not seconds:
            return 0.0, None
        left, whole, guessed = 0.0, 0.0, 0.0
        for phase, kind in self._kinds.items():
            done, took = now[phase]
            rate = took / done if done else kind.guess * seconds / work
            left += max(0.0, kind.planned - kind.before - done) * rate
            whole += max(kind.planned, kind.before + done) * rate
            guessed += max(kind.planned - kind.before, done) * kind.guess
        return min(1.0, 1.0 - left / whole), left if work >= LEAST_MEASURED * guessed else None
