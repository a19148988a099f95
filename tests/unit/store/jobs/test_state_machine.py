"""Random histories of a queue: workers that freeze and wake up late, users, the sweeper, and time, in any order.

Every move is made twice, through store/jobs/transitions.py and on a model (tests/support/jobs/job_model.py), and after each
one all rows must be what the model says. TEST_EXAMPLES says how many histories, more in `make test-faults` than in `make test`; a
failure prints how to repeat it.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from api_schemas.enums import TERMINAL_STATES, DeviceKind, JobState, Phase
from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.results.events import Loss
from store.database.clock import now
from store.database.connection import Database
from store.database.tables import Base, Job, TrainingFile
from store.jobs import logs, preemption, transitions
from store.jobs.preemption import Rules
from store.jobs.transitions import Lease, LeaseLost
from store.jobs.workers import live_workers
from store.jobs.workers.capabilities import ANY, Capability, Needs
from store.jobs.workers.live_workers import Announcement
from tests.support.gate import number
from tests.support.jobs.job_model import HELD, JobModel, next_to_claim
from tests.support.jobs.job_rows import assert_as_modelled
from tests.support.jobs.job_transitions import CAP, CRASH, LEASE_SECONDS, claim, hand_back, submit, sweep
from tests.support.jobs.records import step_file, step_metrics

SETTINGS = settings(
    max_examples=number("TEST_EXAMPLES", gate=6, whole=200),
    stateful_step_count=60,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
MOST_JOBS = 4
RUNNING, CANCELLING = JobState.RUNNING, JobState.CANCELLING
TENANTS = ("a", "b")
WORKERS = {"x": ANY, "y": Capability(DeviceKind.CPU, 8), "z": Capability(DeviceKind.CUDA, 16)}
NEEDS = st.sampled_from(
    [
        *[Needs()] * 3,
        *(Needs(DeviceKind.CPU), Needs(DeviceKind.CUDA)),
        *(Needs(cpu_bytes=9), Needs(gpu_bytes=17), Needs(cpu_bytes=8, gpu_bytes=16)),
    ]
)
T = TypeVar("T")
Action = Callable[[Session, Lease], T]
MOVES: list[st.SearchStrategy[tuple[str, dict[str, Any]]]] = []


def move(often: int = 1, **arguments: st.SearchStrategy[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """One of the moves that a history is made of. Not a rule of its own: of those, every example leaves many out."""

    def register(method: Callable[..., None]) -> Callable[..., None]:
        MOVES.extend([st.tuples(st.just(method.__name__), st.fixed_dictionaries(arguments))] * often)
        return method

    return register


class Queue(RuleBasedStateMachine):
    """A worker is a job and how many claims ago it got it: 0 is the newest, all others must not write any more."""

    PICK = st.sampled_from(range(240))
    LATE = st.sampled_from([*[0] * 14, 1, 2])
    AHEAD = st.sampled_from([*[0] * 12, 1, -1])

    def __init__(self, database: Database) -> None:
        super().__init__()
        self.database = database
        self.models: dict[str, JobModel] = {}
        self.before: dict[str, Job] = {}
        with database.write() as session:
            for table in reversed(Base.metadata.sorted_tables):
                session.execute(delete(table))
        self.announces(WORKERS)

    def announces(self, names: Iterable[str]) -> None:
        with self.database.write() as session:
            for name in names:
                has = WORKERS[name]
                who = Announcement(name, name, name, has.device, None, has.memory_bytes, has.memory_bytes or 0)
                live_workers.announce(session, who, LEASE_SECONDS)

    # --- the service

    @initialize(tenants=st.lists(st.sampled_from(TENANTS), min_size=1, max_size=3))
    def first(self, tenants: list[str]) -> None:
        for tenant in tenants:
            self.submits(tenant, 0, Needs())
            self.claims("x")

    @move(2, tenant=st.sampled_from(TENANTS), priority=st.sampled_from([0, 0, 1, 2]), needs=NEEDS)
    def submits(self, tenant: str, priority: int, needs: Needs) -> None:
        if sum(not job.ended for job in self.models.values()) >= MOST_JOBS:
            return
        job_id = submit(self.database, tenant, priority, needs)
        self.models[job_id] = JobModel(job_id, tenant, priority, CAP, self.row(job_id).created_at, needs)

    def picked(self, number: int) -> JobModel:
        """Any job; more often one that lives, and more often still one that a worker holds."""
        everybody = list(self.models.values())
        living = [job for job in everybody if not job.ended]
        held = [job for job in living if job.state in HELD]
        choices = [*held, *held, *living, *everybody]
        return choices[number % len(choices)]

    @move(
        3, pick=PICK, wish=st.sampled_from(["cancel", "pause", "pause", "pause", "pause", "resume", "resume", "resume"])
    )
    def asks(self, pick: int, wish: str) -> None:
        job = self.picked(pick)
        if job.ended or (job.state is CANCELLING and wish != "cancel"):
            self.is_refused(ErrorCode.CONFLICT, wish, job.id, job.tenant)
            return
        with self.database.write() as session:
            getattr(transitions, wish)(session, job.tenant, job.id)
        {"cancel": job.cancelled, "pause": job.paused, "resume": job.resumed}[wish]()

    @move(pick=PICK, wish=st.sampled_from(["cancel", "pause", "resume"]))
    def asks_about_anothers(self, pick: int, wish: str) -> None:
        job = self.picked(pick)
        self.is_refused(ErrorCode.NOT_FOUND, wish, job.id, "b" if job.tenant == "a" else "a")

    def is_refused(self, code: ErrorCode, wish: str, job_id: str, tenant: str) -> None:
        with pytest.raises(SecateurError) as error, self.database.write() as session:
            getattr(transitions, wish)(session, tenant, job_id)
        assert error.value.code is code

    # --- the workers

    @move(4, worker=st.sampled_from("xyz"))
    def claims(self, worker: str) -> None:
        expected = next_to_claim(self.models.values(), WORKERS[worker])
        lease = claim(self.database, worker, WORKERS[worker])
        assert (lease and lease.job_id) == (expected and expected.id)
        if lease is not None:
            row, job = self.row(lease.job_id), self.models[lease.job_id]
            assert row.claimed_at is not None
            assert all(other.begun is None or other.begun <= row.claimed_at for other in self.models.values())
            assert (row.worker, row.phase, row.progress) == (worker, Phase.STARTING, None)
            job.claimed(row.claimed_at, worker)
            assert lease.epoch == job.epoch

    def at_work_on(self, number: int) -> JobModel:
        """A job that a worker holds, mostly, and now and then any; who has nothing to do looks for work first."""
        if not any(job.state in HELD for job in self.models.values()):
            self.claims("x")
        held = [job for job in self.models.values() if job.state in HELD]
        return held[number % len(held)] if held and number % 8 else self.picked(number)

    def write(
        self, job: JobModel, late: int, states: Sequence[JobState], action: Action[T], fits: bool = True
    ) -> list[T]:
        """What `action` returned, if it was taken; where it must be refused, it is, and changes no row of any table."""
        lease = Lease(job.id, job.epoch - late)
        if fits and job.obeys(lease, *states):
            with self.database.write() as session:
                return [action(session, lease)]
        before = self.all_rows()
        with pytest.raises(LeaseLost), self.database.write() as session:
            action(session, lease)
        assert self.all_rows() == before
        return []

    @move(pick=PICK, late=LATE)
    def renews(self, pick: int, late: int) -> None:
        job = self.at_work_on(pick)
        for state in self.write(job, late, HELD, lambda s, lease: transitions.renew(s, lease, LEASE_SECONDS)):
            assert state is job.state
            job.lease_ran_out = False

    @move(pick=PICK, late=LATE, text=st.sampled_from(["line\n", "größer\n"]))
    def speaks(self, pick: int, late: int, text: str) -> None:
        job = self.at_work_on(pick)
        start = len(job.logs.get(job.epoch - late, "").encode())
        events = [Loss(step=1, epoch=epoch, epochs=2, train_loss=0.5) for epoch in (1, 2)]
        for _ in self.write(job, late, HELD, lambda s, lease: logs.append(s, lease, start, text, 2**20)):
            job.logs[job.epoch] = job.logs.get(job.epoch, "") + text
        for _ in self.write(job, late, HELD, lambda s, lease: transitions.record(s, lease, events)):
            job.events.extend(events)

    @move(2, pick=PICK, late=LATE, ahead=AHEAD)
    def saves_training(self, pick: int, late: int, ahead: int) -> None:
        job = self.at_work_on(pick)
        step = max(1, len(job.steps) + ahead)
        training = TrainingFile(step=step, epoch=1, key=f"{job.id}/{step}", size=1, sha256="ab" * 32)
        fits = step == len(job.steps)
        for _ in self.write(job, late, [RUNNING], lambda s, at: transitions.save_training(s, at, training), fits):
            job.training = training

    @move(3, pick=PICK, late=LATE, ahead=AHEAD)
    def commits(self, pick: int, late: int, ahead: int) -> None:
        job = self.at_work_on(pick)
        step = max(0, len(job.steps) + ahead)
        events = [Loss(step=step, epoch=1, epochs=1, train_loss=0.5)]

        def commit(session: Session, lease: Lease) -> Job:
            files = [step_file(job.id, step)]
            return transitions.commit_step(session, lease, step_metrics(step), files, downloadable=True, events=events)

        for row in self.write(job, late, [RUNNING], commit, fits=step == len(job.steps)):
            assert row.pause_requested is job.pause_requested
            job.committed(events)

    @move(
        2,
        pick=PICK,
        late=LATE,
        delay=st.sampled_from([0.0, 0.0, LEASE_SECONDS]),
        microbatch=st.sampled_from([None, 4, 2]),
    )
    def crashes(self, pick: int, late: int, delay: float, microbatch: int | None) -> None:
        job = self.at_work_on(pick)
        more: Any = {"failure_cap": CAP, "retry_delay_seconds": delay, "microbatch": microbatch}
        for state in self.write(job, late, HELD, lambda s, lease: transitions.crash(s, lease, CRASH, **more)):
            job.crashed(CRASH, microbatch, waits=delay > 0)
            assert state is job.state

    @move(2, pick=PICK, late=LATE, preempted=st.booleans())
    def releases(self, pick: int, late: int, preempted: bool) -> None:
        job = self.at_work_on(pick)
        for state in self.write(job, late, HELD, lambda s, at: transitions.release(s, at, preempted=preempted)):
            job.released(preempted)
            assert state is job.state

    @move(2, workers=st.sets(st.sampled_from("xyz"), min_size=1), planned=st.booleans())
    def hands_back(self, workers: set[str], planned: bool) -> None:
        """Somebody who knows that these workers are gone, or one of them that lost its lease; it may even live and go on."""
        held = [job for job in self.models.values() if job.state in HELD and job.worker in workers]
        for job in held:
            job.handed_back(planned)
        assert hand_back(self.database, sorted(workers), planned=planned) == len(held)

    @move(pick=PICK, late=LATE, how=st.sampled_from([JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED]))
    def ends(self, pick: int, late: int, how: JobState) -> None:
        job = self.at_work_on(pick)
        actions: dict[JobState, Action[None]] = {
            JobState.SUCCEEDED: transitions.succeed,
            JobState.FAILED: lambda session, lease: transitions.fail(session, lease, CRASH),
            JobState.CANCELLED: transitions.confirm_cancel,
        }
        for _ in self.write(job, late, [CANCELLING if how is JobState.CANCELLED else RUNNING], actions[how]):
            job.error = CRASH if how is JobState.FAILED else None
            job.become(how)

    @move(3)
    def who_was_asked_hands_back(self) -> None:
        for job in [job for job in self.models.values() if job.state is RUNNING and job.yields_to]:
            [state] = self.write(job, 0, HELD, lambda s, lease: transitions.release(s, lease, preempted=True))
            job.released(preempted=True)
            assert state is job.state

    @move(pick=PICK)
    def everybody_who_ever_claimed_it_tries_to_write(self, pick: int) -> None:
        job = self.at_work_on(pick)
        accepted = [late for late in range(job.epoch) if self.write(job, late, HELD, transitions.hold)]
        assert accepted == ([0] if job.state in HELD else [])

    # --- maintenance, and time

    @move(2)
    def sweeps(self) -> None:
        assert sweep(self.database) == sum([job.swept() for job in self.models.values()])

    @move(
        4,
        across=st.booleans(),
        most=st.sampled_from([1, 2]),
        bound=st.sampled_from([None, None, 1]),
        idle_there=st.sampled_from([True, False, False]),
        urgent=st.sampled_from([None, *TENANTS, *TENANTS]),
    )
    def high_priorities_ask(
        self, across: bool, most: int, bound: int | None, idle_there: bool, urgent: str | None
    ) -> None:
        """Which jobs are asked is not modelled a second time; that each may be, and has to be, is."""
        if urgent is not None:
            self.claims("x")
            self.submits(urgent, 3, Needs())
        busy = {job.worker for job in self.models.values() if job.busy}
        running = Counter(job.tenant for job in self.models.values() if job.busy)
        idle = [name for name in WORKERS if name not in busy]
        with self.database.write() as session:
            live_workers.forget(session, () if idle_there else idle)
            asked = dict(preemption.arrange(session, Rules(across, most, bound)))
        self.announces(idle)
        for job in self.models.values():
            if job.state is not RUNNING or (other := self.row(job.id).yields_to) == job.yields_to:
                continue
            assert (job.yields_to is None and other is not None) == (job.id in asked)
            job.asked(other)
        for asked_one, high in ((self.models[one], self.models[other]) for one, other in asked.items()):
            assert (asked_one.busy, high.state, high.waits) == (True, JobState.QUEUED, False)
            assert asked_one.priority < high.priority
            assert asked_one.preemptions < most
            assert asked_one.worker is not None
            assert high.fits(WORKERS[asked_one.worker])
            assert across or asked_one.tenant == high.tenant
            if len(asked) == 1 and asked_one.tenant != high.tenant:
                assert running[asked_one.tenant] > running[high.tenant]
            if bound is None and idle_there and "x" in idle:
                # It takes anything, and so somebody else's job of at least this priority.
                others = [each for each in self.models.values() if each.state is JobState.QUEUED and each is not high]
                assert any(each.priority >= high.priority for each in others)

    @move(3, pick=PICK)
    def hours_pass_without_a_word(self, pick: int) -> None:
        """From the worker of this job; those of the others speak."""
        job = self.picked(pick)
        past: Any = now(plus=-2 * LEASE_SECONDS)
        with self.database.write() as session:
            this = update(Job).where(Job.id == job.id)
            session.execute(this.where(Job.lease_until.is_not(None)).values(lease_until=past))
            session.execute(this.where(Job.available_at.is_not(None)).values(available_at=past))
        job.waits, job.lease_ran_out = False, job.state in HELD

    # --- what must hold

    @rule(move=st.deferred(lambda: st.one_of(MOVES)))
    def somebody(self, move: tuple[str, dict[str, Any]]) -> None:
        name, arguments = move
        getattr(self, name)(**arguments)

    @invariant()
    def every_row_is_what_it_must_be(self) -> None:
        rows = assert_as_modelled(self.database, self.models)
        for row in rows.values():
            held, ended = row.state in HELD, row.state in TERMINAL_STATES
            assert (row.lease_until is not None, row.phase is not None, row.finished_at is not None) == (
                held,
                held,
                ended,
            )
            assert row.failures <= CAP
            assert held or not row.pause_requested
            assert row.yields_to is None or row.state in (RUNNING, JobState.QUEUED)
            if (old := self.before.get(row.id)) is not None:
                assert old.state not in TERMINAL_STATES or row.state is old.state
                assert row.epoch == old.epoch or (
                    row.epoch == old.epoch + 1 and old.state in (JobState.QUEUED, RUNNING)
                )
        self.before = rows

    def row(self, job_id: str) -> Job:
        with self.database.read() as session:
            return session.get_one(Job, job_id)

    def all_rows(self) -> list[Sequence[Any]]:
        with self.database.read() as session:
            return [session.execute(select(table)).all() for table in Base.metadata.sorted_tables]


def test_no_history_leads_where_it_should_not(database: Database) -> None:
    class OnThisDatabase(Queue):
        def __init__(self) -> None:
            super().__init__(database)

    run_state_machine_as_test(OnThisDatabase, settings=SETTINGS)
