"""Random histories of a queue: workers that freeze and wake up late, users, the sweeper, and time, in any order.

Every move is made twice, through store/transitions.py and on a model (tests/support/job_model.py), and after each one all
rows must be what the model says. TEST_EXAMPLES says how many histories; a failure prints how to repeat it.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from api_schemas.enums import TERMINAL_STATES, JobState, Phase
from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.events import Loss
from store import logs, transitions
from store.clock import now
from store.database import Database
from store.tables import Base, Job
from store.training import TrainingFile
from store.transitions import Lease, LeaseLost
from tests.support.job_model import HELD, JobModel, next_to_claim
from tests.support.job_rows import assert_as_modelled
from tests.support.moves import CAP, CRASH, LEASE_SECONDS, claim, submit, sweep
from tests.support.records import step_file, step_metrics

SETTINGS = settings(
    max_examples=int(os.environ.get("TEST_EXAMPLES", "15")),
    stateful_step_count=40,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
MOST_JOBS = 6
RUNNING, CANCELLING = JobState.RUNNING, JobState.CANCELLING
TENANTS = ("a", "b")
T = TypeVar("T")


class Queue(RuleBasedStateMachine):
    """A worker is a job and how many claims ago it got it: 0 is the newest, all others must not write any more."""

    jobs = Bundle("jobs")
    LATE = st.sampled_from([0, 0, 0, 0, 1, 2])

    def __init__(self, database: Database) -> None:
        super().__init__()
        self.database = database
        self.models: dict[str, JobModel] = {}
        self.before: dict[str, Job] = {}
        with database.write() as session:
            for table in reversed(Base.metadata.sorted_tables):
                session.execute(delete(table))

    # --- the service

    @initialize(target=jobs, tenant=st.sampled_from(TENANTS))
    def first(self, tenant: str) -> str:
        return self.submit(tenant, 0)

    @precondition(lambda self: len(self.models) < MOST_JOBS)
    @rule(target=jobs, tenant=st.sampled_from(TENANTS), priority=st.sampled_from([0, 0, 1]))
    def submitted(self, tenant: str, priority: int) -> str:
        return self.submit(tenant, priority)

    def submit(self, tenant: str, priority: int) -> str:
        job_id = submit(self.database, tenant, priority)
        self.models[job_id] = JobModel(job_id, tenant, priority, CAP, self.row(job_id).created_at)
        return job_id

    @rule(job_id=jobs, wish=st.sampled_from(["cancel", "pause", "pause", "resume", "resume"]))
    def asked(self, job_id: str, wish: str) -> None:
        job = self.models[job_id]
        if job.ended or (job.state is CANCELLING and wish != "cancel"):
            self.refused(ErrorCode.CONFLICT, wish, job_id, job.tenant)
            return
        with self.database.write() as session:
            getattr(transitions, wish)(session, job_id, job.tenant)
        {"cancel": job.cancelled, "pause": job.paused, "resume": job.resumed}[wish]()

    @rule(job_id=jobs, wish=st.sampled_from(["cancel", "pause", "resume"]))
    def asked_by_another(self, job_id: str, wish: str) -> None:
        other = "b" if self.models[job_id].tenant == "a" else "a"
        self.refused(ErrorCode.NOT_FOUND, wish, job_id, other)

    def refused(self, code: ErrorCode, wish: str, job_id: str, tenant: str) -> None:
        with pytest.raises(SecateurError) as error, self.database.write() as session:
            getattr(transitions, wish)(session, job_id, tenant)
        assert error.value.code is code

    # --- the workers

    @rule(worker=st.sampled_from("xyz"))
    def claims(self, worker: str) -> None:
        expected = next_to_claim(self.models.values())
        lease = claim(self.database, worker)
        assert (lease and lease.job_id) == (expected and expected.id)
        if lease is not None:
            row, job = self.row(lease.job_id), self.models[lease.job_id]
            assert row.claimed_at is not None
            assert all(other.begun is None or other.begun <= row.claimed_at for other in self.models.values())
            assert (row.worker, row.phase, row.progress) == (worker, Phase.PREPARING, None)
            job.claimed(row.claimed_at)
            assert lease.epoch == job.epoch

    def write(
        self,
        job_id: str,
        late: int,
        states: Sequence[JobState],
        action: Callable[[Session, Lease], T],
        fits: bool = True,
    ) -> tuple[JobModel, T] | None:
        """The job and what `action` returned; None where it had to be refused, and was, and changed no row anywhere."""
        job = self.models[job_id]
        lease = Lease(job_id, job.epoch - late)
        if fits and job.obeys(lease, *states):
            with self.database.write() as session:
                return job, action(session, lease)
        before = self.all_rows()
        with pytest.raises(LeaseLost), self.database.write() as session:
            action(session, lease)
        assert self.all_rows() == before
        return None

    @rule(job_id=jobs, late=LATE)
    def renews(self, job_id: str, late: int) -> None:
        if done := self.write(job_id, late, HELD, lambda s, lease: transitions.renew(s, lease, LEASE_SECONDS)):
            assert done[1] is done[0].state
            done[0].lease_ran_out = False

    @rule(job_id=jobs, late=LATE, count=st.integers(1, 3))
    def records(self, job_id: str, late: int, count: int) -> None:
        events = [Loss(step=1, epoch=epoch, epochs=count, train_loss=0.5) for epoch in range(count)]
        if done := self.write(job_id, late, HELD, lambda s, lease: transitions.record(s, lease, events)):
            done[0].events.extend(events)

    @rule(job_id=jobs, late=LATE, text=st.sampled_from(["line\n", "größer\n"]))
    def writes_its_log(self, job_id: str, late: int, text: str) -> None:
        said = self.models[job_id].logs
        start = len(said.get(self.models[job_id].epoch - late, "").encode())
        if done := self.write(job_id, late, HELD, lambda s, lease: logs.append(s, lease, start, text, 2**20)):
            said[done[0].epoch] = said.get(done[0].epoch, "") + text

    @rule(job_id=jobs, late=LATE, ahead=st.sampled_from([0, 0, 0, 1, -1]))
    def saves_training(self, job_id: str, late: int, ahead: int) -> None:
        after = len(self.models[job_id].steps)
        step = max(1, after + ahead)
        training = TrainingFile(step=step, epoch=1, key=f"{job_id}/{step}", size=1, sha256="ab" * 32)
        action: Callable[[Session, Lease], None] = lambda s, lease: transitions.save_training(s, lease, training)  # noqa: E731
        if done := self.write(job_id, late, [RUNNING], action, fits=step == after):
            done[0].training = training

    @rule(job_id=jobs, late=LATE, ahead=st.sampled_from([0, 0, 0, 1, -1]))
    def commits(self, job_id: str, late: int, ahead: int) -> None:
        after = len(self.models[job_id].steps)
        step = max(0, after + ahead)
        events = [Loss(step=step, epoch=1, epochs=1, train_loss=0.5)]

        def commit(session: Session, lease: Lease) -> bool:
            files = [step_file(job_id, step)]
            job = transitions.commit_step(session, lease, step_metrics(step), files, downloadable=True, events=events)
            return job.pause_requested

        if done := self.write(job_id, late, [RUNNING], commit, fits=step == after):
            assert done[1] is done[0].pause_requested
            done[0].committed(events)

    @rule(job_id=jobs, late=LATE, delay=st.sampled_from([0.0, LEASE_SECONDS]), microbatch=st.sampled_from([None, 4, 2]))
    def crashes(self, job_id: str, late: int, delay: float, microbatch: int | None) -> None:
        def crash(session: Session, lease: Lease) -> JobState:
            return transitions.crash(
                session, lease, CRASH, failure_cap=CAP, retry_delay_seconds=delay, microbatch=microbatch
            )

        if done := self.write(job_id, late, HELD, crash):
            done[0].crashed(CRASH, microbatch, waits=delay > 0)
            assert done[1] is done[0].state

    @rule(job_id=jobs, late=LATE)
    def releases(self, job_id: str, late: int) -> None:
        if done := self.write(job_id, late, HELD, transitions.release):
            done[0].released()
            assert done[1] is done[0].state

    @rule(job_id=jobs, late=LATE)
    def confirms_the_cancel(self, job_id: str, late: int) -> None:
        if done := self.write(job_id, late, [CANCELLING], transitions.confirm_cancel):
            done[0].become(JobState.CANCELLED)

    @rule(job_id=jobs, late=LATE, well=st.booleans())
    def ends(self, job_id: str, late: int, well: bool) -> None:
        def end(session: Session, lease: Lease) -> None:
            transitions.succeed(session, lease) if well else transitions.fail(session, lease, CRASH)

        if done := self.write(job_id, late, [RUNNING], end):
            done[0].error = None if well else CRASH
            done[0].become(JobState.SUCCEEDED if well else JobState.FAILED)

    @rule(job_id=jobs)
    def everybody_who_ever_claimed_it_tries_to_write(self, job_id: str) -> None:
        accepted = [
            late for late in range(self.models[job_id].epoch) if self.write(job_id, late, HELD, transitions.hold)
        ]
        assert accepted == ([0] if self.models[job_id].state in HELD else [])

    # --- maintenance, and time

    @rule()
    def swept(self) -> None:
        assert sweep(self.database) == sum([job.swept() for job in self.models.values()])

    @rule(job_id=jobs)
    def hours_pass_for(self, job_id: str) -> None:
        """Without a word from the job's worker, while the others speak."""
        past: Any = now(plus=-2 * LEASE_SECONDS)
        with self.database.write() as session:
            this = update(Job).where(Job.id == job_id)
            session.execute(this.where(Job.lease_until.is_not(None)).values(lease_until=past))
            session.execute(this.where(Job.available_at.is_not(None)).values(available_at=past))
        job = self.models[job_id]
        job.waits, job.lease_ran_out = False, job.state in HELD

    # --- what must hold

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
