"""The operator's numbers of workers, and how many of them the jobs could use."""

from sqlalchemy import update

from api_schemas.api.sweeps import PlannedJob, SweepPlan
from api_schemas.enums import DeviceKind
from store.database.clock import now
from store.database.connection import Database
from store.database.tables import Job
from store.jobs import jobs, statistics, sweeps, transitions
from store.jobs.workers import live_workers
from store.jobs.workers import statistics as worker_statistics
from store.jobs.workers.capabilities import NOTHING, Needs
from store.jobs.workers.live_workers import Announcement
from store.jobs.workers.statistics import Demand, Standing, WorkerStatistics
from tests.support.jobs.records import job_request

CPU, CUDA = DeviceKind.CPU, DeviceKind.CUDA
GPU_NEED = Needs(CUDA)


def announce(database: Database, name: str, device: DeviceKind | None, seconds: float = 60) -> None:
    with database.write() as session:
        live_workers.announce(session, Announcement(f"{name}:1", name, "host", device, None, 2**34, 2**34), seconds)


def submit(database: Database, *needs: Needs, tenant: str = "a") -> None:
    with database.write() as session:
        for each in needs:
            jobs.create(session, tenant, job_request(), {}, needs=each)


def claim(database: Database, worker: str) -> str:
    with database.write() as session:
        job = transitions.claim(session, f"{worker}:1", 60, 9)
        assert job is not None
        return job.id


def read(database: Database, max_running: int | None = None) -> WorkerStatistics:
    with database.read() as session:
        return worker_statistics.read(session, max_running)


def demand(database: Database, max_running: int | None = None) -> tuple[int, int, int, int]:
    """Of CPUs and of GPUs, each bound and any."""
    found = read(database, max_running).demand
    return (found[CPU].bound, found[CPU].any, found[CUDA].bound, found[CUDA].any)


def test_without_workers_and_jobs_nothing_is_wanted(database: Database) -> None:
    nothing = dict.fromkeys(DeviceKind, Demand(0, 0))
    assert read(database) == WorkerStatistics((), expired_leases=0, unfit=0, demand=nothing)


def test_a_worker_is_wanted_for_what_waits_and_for_what_it_runs(database: Database) -> None:
    submit(database, NOTHING, NOTHING, GPU_NEED, Needs(CPU))
    assert demand(database) == (1, 3, 1, 3)
    announce(database, "gpu", CUDA)
    with database.write() as session:
        session.execute(update(Job).where(Job.needs_device == CUDA).values(priority=9))
    claim(database, "gpu")
    # It runs, so its worker is not one too many when the queue is empty.
    assert demand(database) == (1, 3, 1, 3)
    assert read(database).workers == (Standing("gpu", "cuda", True, None, None),)


def test_what_a_tenant_may_not_run_yet_starts_no_worker(database: Database) -> None:
    submit(database, GPU_NEED, GPU_NEED, GPU_NEED)
    submit(database, GPU_NEED, tenant="b")
    assert demand(database, max_running=2) == (0, 0, 3, 3)
    announce(database, "gpu", CUDA)
    claim(database, "gpu")
    assert demand(database, max_running=1) == (0, 0, 2, 2), "one that runs, and the other tenant's"


def test_what_no_living_worker_can_hold_is_counted(database: Database) -> None:
    submit(database, GPU_NEED, Needs(gpu_bytes=2**35), Needs(cpu_bytes=2**35))
    assert read(database).unfit == 0, "nobody is there, which another number says"
    announce(database, "gpu", CUDA)
    assert read(database).unfit == 1
    announce(database, "dead", CPU, seconds=-1)
    assert [each.name for each in read(database).workers] == ["gpu"]
    announce(database, "any", None)
    assert read(database).unfit == 0
    assert {each.device for each in read(database).workers} == {"cuda", worker_statistics.UNKNOWN}


def test_leases_that_ran_out_are_seen_now_and_counted_for_a_day(database: Database) -> None:
    announce(database, "cpu", CPU)
    submit(database, NOTHING)
    job = claim(database, "cpu")
    with database.write() as session:
        # Neither is a worker that was lost.
        transitions.pause(session, "a", job)
        transitions.resume(session, "a", job)
    let_lease_end(database)
    assert read(database).expired_leases == 1
    assert not read(database).workers[0].busy
    assert expiries(database) == 0
    claim(database, "cpu")
    assert read(database).expired_leases == 0
    assert expiries(database) == 1
    let_lease_end(database)
    with database.write() as session:
        assert transitions.sweep(session, 1) == 1
    assert expiries(database) == 2


def let_lease_end(database: Database) -> None:
    with database.write() as session:
        session.execute(update(Job).values(lease_until=now(plus=-1)))


def expiries(database: Database) -> int:
    with database.read() as session:
        return statistics.read(session).lease_expiries


def test_of_a_sweep_no_more_workers_are_wanted_than_it_may_use(database: Database) -> None:
    with database.write() as session:
        request = job_request()
        planned = (PlannedJob(label="x", changes={}),) * 5
        sweep = sweeps.create(
            session, "a", None, SweepPlan(model=request.model, dataset=request.dataset, jobs=planned), 2
        )
        for index, needs in enumerate([GPU_NEED, GPU_NEED, GPU_NEED, NOTHING, NOTHING]):
            jobs.create(session, "a", request, {}, needs=needs, sweep=(sweep.id, index))
    assert demand(database) == (0, 0, 2, 2)
    claim(database, "w")
    assert sum(demand(database)[::2]) == 2 - 1, "the one that runs is on a worker of no known kind"


def test_a_tenants_bound_is_one_for_all_devices(database: Database) -> None:
    submit(database, GPU_NEED, GPU_NEED, NOTHING, Needs(CPU))
    assert demand(database, max_running=3) == (1, 1, 2, 2)
    assert demand(database, max_running=4) == (1, 2, 2, 3)
