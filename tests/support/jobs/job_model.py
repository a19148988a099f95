"""What docs/states.md says a job must look like after every move, written a second time, in plain Python.

Nothing here reads the database. tests/unit/store/jobs/test_state_machine.py makes the same moves on both and compares.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from api_schemas.api.resources import JobError
from api_schemas.enums import TERMINAL_STATES, DeviceKind, JobState
from api_schemas.results.events import JobEventBody, StateChanged, Warned
from store.database.tables import TrainingFile
from store.jobs.preemption import ASKED, NOT_ASKED
from store.jobs.transitions import HANDED_BACK, PREEMPTED, WORKER_LOST, Lease
from store.jobs.workers.capabilities import ANY, NOTHING, Capability, Needs

HELD = (JobState.RUNNING, JobState.CANCELLING)


@dataclass
class JobModel:
    """A job as it must be. `born` and `begun` are the database's: when it was submitted, and last claimed."""

    id: str
    tenant: str
    priority: int
    cap: int
    born: datetime
    needs: Needs = NOTHING
    begun: datetime | None = None
    state: JobState = JobState.QUEUED
    epoch: int = 0
    worker: str | None = None
    failures: int = 0
    pause_requested: bool = False
    yields_to: str | None = None
    preemptions: int = 0
    lease_ran_out: bool = False
    waits: bool = False
    """It crashed, and the wait is not over."""
    error: JobError | None = None
    microbatch: int | None = None
    training: TrainingFile | None = None
    steps: list[int] = field(default_factory=list)
    """The epoch under which each step was committed."""
    events: list[JobEventBody] = field(default_factory=lambda: [StateChanged(state=JobState.QUEUED)])
    logs: dict[int, str] = field(default_factory=dict)
    wakes: int = 1

    @property
    def ended(self) -> bool:
        return self.state in TERMINAL_STATES

    @property
    def last_step(self) -> int | None:
        return len(self.steps) - 1 if self.steps else None

    @property
    def busy(self) -> bool:
        """It occupies a worker that lives."""
        return self.state in HELD and not self.lease_ran_out

    @property
    def claimable(self) -> bool:
        if self.state is JobState.QUEUED:
            return not self.waits
        lost = self.state is JobState.RUNNING and self.lease_ran_out
        return lost and self.failures + 1 < self.cap and not self.pause_requested

    def fits(self, worker: Capability) -> bool:
        """Whether a worker that has this can hold it."""
        if worker.device is None:
            return True
        needed = self.needs.cpu_bytes if worker.device is DeviceKind.CPU else self.needs.gpu_bytes
        return self.needs.device in (None, worker.device) and (needed or 0) <= (worker.memory_bytes or 0)

    def obeys(self, lease: Lease, *states: JobState) -> bool:
        """Whether a write under this lease must be taken, in one of these states."""
        return lease.epoch == self.epoch and self.state in states

    def become(self, state: JobState, why: str | None = None) -> None:
        self.state = state
        self.events.append(StateChanged(state=state, detail=self.error.detail if self.error else why))
        if state not in HELD:
            self.lease_ran_out = self.pause_requested = False
            self.yields_to = None

    def claimed(self, at: datetime, worker: str) -> None:
        self.worker = worker
        self.failures += self.state is JobState.RUNNING
        self.epoch += 1
        self.begun = at
        self.lease_ran_out = self.waits = False
        self.yields_to = None
        self.become(JobState.RUNNING)

    def crashed(self, error: JobError, microbatch: int | None, waits: bool) -> None:
        self.events.append(Warned(code=error.code, detail=error.detail))
        self.failures += 1
        self.microbatch = microbatch or self.microbatch
        if self.state is JobState.CANCELLING:
            self.become(JobState.CANCELLED)
        elif self.failures >= self.cap:
            self.error = error
            self.become(JobState.FAILED)
        else:
            self.waits = waits
            self.become(JobState.PAUSED if self.pause_requested else JobState.QUEUED)

    def released(self, preempted: bool = False) -> None:
        why = PREEMPTED if preempted else None
        if self.state is JobState.CANCELLING:
            self.become(JobState.CANCELLED, why)
        elif self.pause_requested:
            self.become(JobState.PAUSED, why)
        else:
            gave_to = self.yields_to if preempted else None
            self.wakes += 1
            self.become(JobState.QUEUED, why)
            self.yields_to = gave_to
            self.preemptions += gave_to is not None

    def asked(self, other: str | None) -> None:
        """To hand its worker to another job, or None: no more."""
        if (self.yields_to is None) is not (other is None):
            self.become(JobState.RUNNING, NOT_ASKED if other is None else ASKED)
        self.yields_to = other

    def handed_back(self, planned: bool) -> None:
        if self.state is JobState.CANCELLING:
            self.become(JobState.CANCELLED, HANDED_BACK)
            return
        self.failures += not planned
        if not planned and self.failures >= self.cap:
            self.error = WORKER_LOST
            self.become(JobState.FAILED)
        elif self.pause_requested:
            self.become(JobState.PAUSED, HANDED_BACK)
        else:
            self.wakes += 1
            self.become(JobState.QUEUED, HANDED_BACK)

    def swept(self) -> bool:
        """Whether the sweeper had to do anything."""
        if self.state not in HELD or not self.lease_ran_out or self.claimable:
            return False
        if self.state is JobState.CANCELLING:
            self.become(JobState.CANCELLED)
            return True
        self.failures += 1
        if self.failures >= self.cap:
            self.error = WORKER_LOST
        self.become(JobState.FAILED if self.error else JobState.PAUSED)
        return True

    def cancelled(self) -> None:
        self.yields_to = None
        if self.state is JobState.RUNNING:
            self.become(JobState.CANCELLING)
        elif self.state is not JobState.CANCELLING:
            self.become(JobState.CANCELLED)

    def paused(self) -> None:
        if self.state is JobState.QUEUED:
            self.become(JobState.PAUSED, "pause requested")
        elif self.state is JobState.RUNNING and not self.pause_requested:
            self.pause_requested = True
            self.yields_to = None
            self.become(JobState.RUNNING, "pause requested")

    def resumed(self) -> None:
        if self.state is JobState.PAUSED:
            self.wakes += 1
            self.become(JobState.QUEUED, "resumed")
        elif self.state is JobState.RUNNING and self.pause_requested:
            self.pause_requested = False
            self.become(JobState.RUNNING, "resumed")

    def committed(self, events: Iterable[JobEventBody]) -> None:
        self.steps.append(self.epoch)
        self.failures = 0
        self.training = None
        self.events.extend(events)


def next_to_claim(jobs: Iterable[JobModel], worker: Capability = ANY) -> JobModel | None:
    """The job that has its turn with a worker: by priority, how many of its tenant's run, by its tenant's last turn, by age."""
    everybody = list(jobs)

    def turn(job: JobModel) -> tuple[int, int, bool, datetime, datetime, str]:
        running = sum(other.busy for other in everybody if other.tenant == job.tenant)
        turns = [other.begun for other in everybody if other.tenant == job.tenant and other.begun is not None]
        return -job.priority, running, bool(turns), max(turns, default=job.born), job.born, job.id

    return min((job for job in everybody if job.claimable and job.fits(worker)), key=turn, default=None)
