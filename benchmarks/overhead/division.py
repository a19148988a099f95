"""How the wall time of a run divides, from the moments of its events and the phases' seconds in its steps' metrics.

The same for a job of the service (wall from submitting to `succeeded`) and for the engine alone (from starting the process to its
end). The parts add up to the wall.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from api_schemas.results.events import JobEventBody, PhaseChanged, Started, StateChanged, StepDone

STARTING = "starting"
"""A phase before the engine's own ones; not there in every version."""
Moment = tuple[float, JobEventBody]
"""An event, and how many seconds after the beginning it came."""


@dataclass(frozen=True)
class Run:
    """What was seen of a run."""

    moments: Sequence[Moment]
    wall: float
    gates: float
    """Seconds in which a process lived that loads a step's folder afresh (the reload gate)."""
    stored: Sequence[float] = ()
    """Seconds between a step's first stored file and its event, by step; none of the engine alone."""


@dataclass(frozen=True)
class Division:
    """Seconds; `parts` add up to `wall`."""

    wall: float
    parts: dict[str, float]
    phases: dict[str, float]
    """Of all steps, `starting` included where there is one."""
    gates: float
    stored: float

    @property
    def own(self) -> float:
        """The engine's own work: its phases without `starting`, and without the time in which it waits for a gate's process."""
        return sum(spent for phase, spent in self.phases.items() if phase != STARTING) - self.gates

    @property
    def overhead(self) -> float:
        """Share of the wall that is not the engine's own work."""
        return 1 - self.own / self.wall

    @property
    def covered(self) -> float:
        """Share of the wall that lies in phases."""
        return sum(self.phases.values()) / self.wall

    def as_json(self) -> dict[str, Any]:
        """Rounded to milliseconds."""
        return {
            "wall": round(self.wall, 3),
            "parts": _rounded(self.parts),
            "phases": _rounded(self.phases),
            "gates": round(self.gates, 3),
            "stored": round(self.stored, 3),
            "own": round(self.own, 3),
            "overhead": round(self.overhead, 4),
            "covered": round(self.covered, 4),
        }


def divide(run: Run) -> Division:
    """Raises ValueError where the run has no step, or did not begin."""
    steps = [(at, body) for at, body in run.moments if isinstance(body, StepDone)]
    phases: dict[str, float] = {}
    for _, step in steps:
        for phase, spent in step.metrics.seconds.items():
            phases[phase] = phases.get(phase, 0.0) + spent
    work = {phase: spent for phase, spent in phases.items() if phase != STARTING}
    in_service = any(isinstance(body, StateChanged) for _, body in run.moments)
    claimed = first_sign(run.moments) if in_service else 0.0
    spoke = _first(at for at, body in run.moments if isinstance(body, Started))
    began = _first(at for at, body in run.moments if isinstance(body, PhaseChanged) and body.phase in work)
    last = steps[-1][0]
    stored = run.stored[-1] if run.stored else 0.0
    parts = {
        "submission to first event": claimed,
        "first event to the engine's first output": spoke - claimed,
        "engine's first output to first phase": began - spoke,
        **{f"phase {phase}": spent for phase, spent in work.items()},
        "between phases": last - began - sum(work.values()) - stored,
        "storing the last step": stored,
        "last step to end": run.wall - last,
    }
    return Division(run.wall, parts, phases, run.gates, sum(run.stored))


def first_sign(moments: Iterable[Moment]) -> float:
    """When the first event came that says that somebody works on the job. Raises ValueError where none did."""
    return _first(at for at, body in moments if not _waits(body))


def _waits(body: JobEventBody) -> bool:
    return isinstance(body, StateChanged) and body.state == "queued"


def _first(times: Iterable[float]) -> float:
    for at in times:
        return at
    raise ValueError("the run did not come that far")


def _rounded(seconds: dict[str, float]) -> dict[str, float]:
    return {name: round(spent, 3) for name, spent in seconds.items()}
