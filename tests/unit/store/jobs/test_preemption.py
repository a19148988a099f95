"""Which jobs are asked to hand their workers back, for which, and when that is taken back."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import update

from api_schemas.api.resources import JobProgress
from api_schemas.api.sweeps import PlannedJob, SweepPlan
from api_schemas.enums import DeviceKind, JobState, Phase
from store.database.connection import Database
from store.database.tables import Job
from store.database.tenancy import DEFAULT_TENANT
from store.jobs import jobs, preemption, sweeps, transitions
from store.jobs.preemption import Held, Rules, Waiting, plan
from store.jobs.transitions import Lease
from store.jobs.workers import live_workers
from store.jobs.workers.capabilities import ANY, Capability, Needs
from store.jobs.workers.live_workers import Announcement
from tests.support.jobs.job_transitions import LEASE_SECONDS, cancel, claim, load, pause, submit
from tests.support.jobs.records import job_request

CPU, CUDA = DeviceKind.CPU, DeviceKind.CUDA
SMALL, LARGE = Capability(CUDA, 16), Capability(CUDA, 80)
LARGER = Needs(CUDA, gpu_bytes=20)
"""Than the small one has."""
OWN, ALL = Rules(across_tenants=False, most=3), Rules(across_tenants=True, most=3)
START = datetime(2026, 1, 1, tzinfo=UTC)


def held(name: str, priority: int = 0, tenant: str = "a", worker: Capability | None = ANY, **more: Any) -> Held:
    """A job under way; the names' last letters say in which order they were claimed."""
    age = {
        "leaves": False,
        "asked": False,
        "can_be_asked": True,
        "preemptions": 0,
        "claimed_at": START + timedelta(seconds=ord(name[-1])),
    }
    return Held(name, tenant, priority, worker, **age | more)


def waiting(name: str, priority: int = 1, tenant: str = "a", needs: Needs | None = None) -> Waiting:
    return Waiting(name, tenant, priority, needs or Needs())


@pytest.mark.parametrize(
    ("what", "who", "runs", "free", "rules", "handed"),
    [
        ("strictly lower", [waiting("h", 1)], [held("l", 1)], [], OWN, {}),
        ("the lowest", [waiting("h", 3)], [held("m", 1), held("l", 0), held("k", 2)], [], OWN, {"l": "h"}),
        ("claimed last", [waiting("h")], [held("l1"), held("l3"), held("l2")], [], OWN, {"l3": "h"}),
        ("asked least", [waiting("h")], [held("l1"), held("l3", preemptions=1)], [], OWN, {"l1": "h"}),
        ("asked too often", [waiting("h")], [held("l", preemptions=3)], [], OWN, {}),
        ("near its end", [waiting("h")], [held("l", can_be_asked=False)], [], OWN, {}),
        ("unknown worker", [waiting("h")], [held("l", worker=None)], [], OWN, {}),
        ("a free worker", [waiting("h")], [held("l")], [ANY], OWN, {}),
        ("one is free, two wait", [waiting("h"), waiting("i")], [held("l")], [ANY], OWN, {"l": "i"}),
        ("two for two", [waiting("h"), waiting("i")], [held("l1"), held("l2")], [], OWN, {"l2": "h", "l1": "i"}),
        ("asked already", [waiting("h", 3)], [held("l", 1), held("m", 2, asked=True)], [], OWN, {"m": "h"}),
        ("asked for one that is gone: no lower", [waiting("h", 3)], [held("m", 3, asked=True), held("l", 3)], [], OWN, {}),
        ("asked for one that is gone: another's", [waiting("h", tenant="b")], [held("l", asked=True)], [], OWN, {}),
        ("asked for one that is gone: near its end", [waiting("h")], [held("l", asked=True, can_be_asked=False)], [], OWN, {}),
        ("leaves anyway", [waiting("h")], [held("l"), held("p", leaves=True)], [], OWN, {"p": "h"}),
        ("free one too small", [waiting("h", needs=LARGER)], [held("s", worker=SMALL), held("l", worker=LARGE)], [SMALL], OWN,
         {"l": "h"}),
        ("none can hold it", [waiting("h", needs=Needs(gpu_bytes=99))], [held("l", worker=LARGE)], [], OWN, {}),
        ("the small one to the small job", [waiting("h"), waiting("i", needs=LARGER)], [held("l", worker=LARGE)],
         [LARGE, SMALL], OWN, {}),
        ("another's", [waiting("h", tenant="b")], [held("l")], [], OWN, {}),
        ("another's who runs more", [waiting("h", tenant="b")], [held("l")], [], ALL, {"l": "h"}),
        ("another's who runs no more", [waiting("h", tenant="b")], [held("l"), held("m", 5, "b")], [], ALL, {}),
        ("of him who runs most", [waiting("h", tenant="b")], [held("l", tenant="c"), held("k1"), held("k2")], [], ALL,
         {"k2": "h"}),
        ("only until both run as many", [waiting("h", tenant="b"), waiting("i", tenant="b")], [held("k1"), held("k2")], [],
         ALL, {"k2": "h"}),
        ("full: its own, though one is free", [waiting("h")], [held("l")], [ANY], Rules(True, 3, 1), {"l": "h"}),
        ("full: none of another's", [waiting("h", tenant="b")], [held("l"), held("k"), held("m", 5, "b")], [],
         Rules(True, 3, 1), {}),
    ],
)  # fmt: skip
def test_who_makes_way_for_whom(
    what: str, who: list[Waiting], runs: list[Held], free: list[Capability], rules: Rules, handed: dict[str, str]
) -> None:
    assert plan(who, runs, free, rules) == handed, what


def announce(database: Database, name: str, has: Capability) -> None:
    with database.write() as session:
        who = Announcement(name, name, name, has.device, None, has.memory_bytes, has.memory_bytes or 0)
        live_workers.announce(session, who, LEASE_SECONDS)


def arrange(database: Database, rules: Rules = OWN) -> dict[str, str]:
    with database.write() as session:
        return dict(preemption.arrange(session, rules))


def must_yield(database: Database, job_id: str) -> bool:
    with database.read() as session:
        return preemption.must_yield(session, session.get_one(Job, job_id))


def under_way(database: Database, worker: str = "w") -> Lease:
    submit(database)
    announce(database, worker, Capability(CPU, 8))
    lease = claim(database, worker)
    assert lease is not None
    return lease


def test_what_is_read_of_the_database_is_what_is_planned_with(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preemption, "LOOKED_AT", 1)  # What no worker can hold takes nobody's place.
    lease = under_way(database)
    assert arrange(database) == {}
    equal = submit(database)
    too_large = submit(database, priority=2, needs=Needs(cpu_bytes=9))
    assert arrange(database) == {}
    high = submit(database, priority=1)
    announce(database, "idle", Capability(CPU, 8))
    assert arrange(database) == {}, "a worker is free"
    with database.write() as session:
        live_workers.forget(session, ["idle"])
    with database.write() as session:
        near = JobProgress(phase=Phase.FINETUNING, step=3, steps=3, done=1, total=2, fraction=0.9, eta_seconds=9)
        transitions.renew(session, lease, LEASE_SECONDS, near)
    assert arrange(database) == {}, "it is near its end"
    with database.write() as session:
        transitions.renew(session, lease, LEASE_SECONDS, near.model_copy(update={"fraction": 0.89}))
    assert not must_yield(database, lease.job_id)
    assert arrange(database) == {lease.job_id: high}
    assert must_yield(database, lease.job_id)
    with database.write() as session:
        assert transitions.release(session, lease, preempted=True) is JobState.QUEUED
    taken = claim(database, "w", Capability(CPU, 8))
    assert taken is not None
    assert taken.job_id == high
    assert arrange(database) == {}, "who made way does not come back for it"
    assert load(database, lease.job_id).yields_to == high
    assert {equal, too_large}.isdisjoint({load(database, lease.job_id).yields_to})


def test_another_for_whom_it_was_asked_takes_the_place_of_the_first(database: Database) -> None:
    lease = under_way(database)
    first, second = submit(database, priority=1), submit(database, priority=1)
    assert arrange(database) == {lease.job_id: first}
    cancel(database, first)
    assert not must_yield(database, lease.job_id), "its worker keeps it until somebody else was found"
    before = load(database, lease.job_id).last_seq
    assert arrange(database) == {}
    assert (load(database, lease.job_id).yields_to, load(database, lease.job_id).last_seq) == (second, before)
    cancel(database, second)
    assert arrange(database) == {}
    job = load(database, lease.job_id)
    assert (job.state, job.yields_to, job.last_seq) == (JobState.RUNNING, None, before + 1)


def test_a_job_that_is_to_pause_is_not_asked_and_makes_way_all_the_same(database: Database) -> None:
    pausing, other = under_way(database), under_way(database, "v")
    pause(database, pausing.job_id)
    submit(database, priority=1)
    assert arrange(database) == {}
    assert load(database, pausing.job_id).yields_to is None
    high = submit(database, priority=1)
    assert arrange(database) == {other.job_id: high}
    assert pause(database, other.job_id).yields_to is None


def test_what_it_handed_back_often_enough_it_keeps(database: Database) -> None:
    lease = under_way(database)
    with database.write() as session:
        session.execute(update(Job).values(preemptions=3))
    submit(database, priority=1)
    assert arrange(database) == {}
    assert arrange(database, Rules(False, 4)) != {}
    assert load(database, lease.job_id).preemptions == 3


def test_a_sweep_is_handed_no_more_workers_than_it_may_use(database: Database) -> None:
    leases = {lease.job_id: (name, lease) for name in ("u", "v", "w") for lease in [under_way(database, name)]}
    with database.write() as session:
        request = job_request(priority=1)
        planned = (PlannedJob(label="x", changes={}),) * 3
        plan_of_three = SweepPlan(model=request.model, dataset=request.dataset, jobs=planned)
        sweep = sweeps.create(session, DEFAULT_TENANT, None, plan_of_three, 2)
        wanted = [jobs.create(session, DEFAULT_TENANT, request, {}, sweep=(sweep.id, index)).id for index in range(3)]
    handed = arrange(database)
    assert sorted(handed.values()) == sorted(wanted[:2])
    for _ in range(2):
        gone = next(job_id for job_id in handed if job_id in leases and must_yield(database, job_id))
        name, lease = leases.pop(gone)
        with database.write() as session:
            transitions.release(session, lease, preempted=True)
        claim(database, name)
        assert arrange(database) == {}, "whoever was asked still is, if for another of the sweep"
    assert [load(database, each).state for each in wanted] == [JobState.RUNNING, JobState.RUNNING, JobState.QUEUED]
    (left,) = leases
    with database.write() as session:
        session.execute(update(Job).where(Job.id == left).values(yields_to=wanted[2]))
    assert not must_yield(database, left), "its sweep has as many running as it may"
