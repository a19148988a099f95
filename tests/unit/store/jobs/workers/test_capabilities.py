"""Which worker may take which job, how that stands in the order of claims, and why a job is taken by none."""

import pytest

from api_schemas.enums import DeviceKind
from store.database.connection import Database
from store.jobs import jobs, transitions
from store.jobs.workers.capabilities import ANY, Capability, Fleet, Needs, fits
from tests.support.jobs.job_transitions import CAP, LEASE_SECONDS, expire, load, submit

GIB = 2**30
CPU, CUDA = DeviceKind.CPU, DeviceKind.CUDA
SMALL_CPU, LARGE_CPU = Capability(CPU, 8 * GIB), Capability(CPU, 64 * GIB)
SMALL_GPU, LARGE_GPU = Capability(CUDA, 16 * GIB), Capability(CUDA, 80 * GIB)
ANY_GPU = Capability(CUDA)
WORKERS = {
    "any": ANY,
    "cpu 8": SMALL_CPU,
    "cpu 64": LARGE_CPU,
    "gpu 16": SMALL_GPU,
    "gpu 80": LARGE_GPU,
    "gpu ?": ANY_GPU,
}


def take(database: Database, has: Capability, max_running: int | None = None) -> str | None:
    with database.write() as session:
        job = transitions.claim(session, "worker", LEASE_SECONDS, CAP, max_running, has)
        return job.id if job else None


@pytest.mark.parametrize(
    ("needs", "taken_by"),
    [
        (Needs(), {*WORKERS}),
        (Needs(CPU), {"any", "cpu 8", "cpu 64"}),
        (Needs(CUDA), {"any", "gpu 16", "gpu 80", "gpu ?"}),
        (Needs(gpu_bytes=22 * GIB), {*WORKERS} - {"gpu 16"}),
        (Needs(cpu_bytes=22 * GIB, gpu_bytes=16 * GIB), {*WORKERS} - {"cpu 8"}),
        (Needs(CUDA, cpu_bytes=1, gpu_bytes=16 * GIB + 1), {"any", "gpu 80", "gpu ?"}),
    ],
)
def test_a_worker_takes_what_it_can_hold(database: Database, needs: Needs, taken_by: set[str]) -> None:
    took = set()
    for name, has in WORKERS.items():
        job_id = submit(database, needs=needs)
        with database.read() as session:
            counted = jobs.count_claimable(session, CAP, held=fits(has))
            alone = Fleet.of([has]).waiting_reason(needs)
        if take(database, has) == job_id:
            took.add(name)
        assert counted == (name in took)
        assert (alone is None) is (name in took)
        with database.write() as session:
            transitions.cancel(session, "default", job_id)
        expire(database, job_id)
        with database.write() as session:
            transitions.sweep(session, CAP)
    assert took == taken_by


@pytest.mark.parametrize("bound", [None, 2])
def test_what_does_not_fit_holds_up_nothing_and_turns_stay(database: Database, bound: int | None) -> None:
    urgent = submit(database, "a", priority=5, needs=Needs(CUDA))
    first_a = submit(database, "a")
    large_a = submit(database, "a", needs=Needs(cpu_bytes=32 * GIB))
    second_a = submit(database, "a")
    only_b = submit(database, "b", needs=Needs(CPU))
    others_c = submit(database, "c", needs=Needs(CUDA))
    assert [take(database, SMALL_CPU, bound) for _ in range(2)] == [first_a, only_b]
    assert take(database, SMALL_CPU, bound) == second_a
    assert take(database, SMALL_CPU, bound) is None
    assert take(database, SMALL_GPU) == urgent
    assert [take(database, SMALL_GPU) for _ in range(2)] == [others_c, large_a]
    assert take(database, ANY) is None


def test_a_lost_job_goes_to_one_that_can_hold_it(database: Database) -> None:
    job_id = submit(database, needs=Needs(CUDA))
    assert take(database, SMALL_GPU) == job_id
    expire(database, job_id)
    assert take(database, LARGE_CPU) is None
    assert load(database, job_id).failures == 0
    assert take(database, LARGE_GPU) == job_id


@pytest.mark.parametrize(
    ("workers", "needs", "reason"),
    [
        ([], Needs(), "no worker is running"),
        ([SMALL_GPU], Needs(gpu_bytes=22 * GIB), "needs 22 GiB on a GPU; the largest worker has 16"),
        ([SMALL_GPU, LARGE_GPU], Needs(gpu_bytes=22 * GIB), None),
        ([SMALL_GPU, SMALL_CPU], Needs(gpu_bytes=22 * GIB), None),
        ([SMALL_GPU, SMALL_CPU], Needs(CUDA, gpu_bytes=22 * GIB), "needs 22 GiB on a GPU; the largest worker has 16"),
        (
            [SMALL_GPU, SMALL_CPU],
            Needs(cpu_bytes=30 * GIB, gpu_bytes=22 * GIB),
            "needs 30 GiB on a CPU (the largest worker has 8) or 22 GiB on a GPU (the largest worker has 16)",
        ),
        # Neither is rounded so that the two would look alike.
        ([SMALL_GPU], Needs(gpu_bytes=16 * GIB + 1), "needs 16.1 GiB on a GPU; the largest worker has 16"),
        ([LARGE_CPU], Needs(CUDA), "needs a worker with a GPU; none is running"),
        ([LARGE_GPU], Needs(CPU), "needs a worker without a GPU; none is running"),
        ([LARGE_CPU, ANY], Needs(CUDA), None),
        ([SMALL_GPU, Capability(CUDA)], Needs(gpu_bytes=22 * GIB), None),
    ],
)
def test_why_a_job_is_taken_by_none(workers: list[Capability], needs: Needs, reason: str | None) -> None:
    assert Fleet.of(workers).waiting_reason(needs) == reason


def test_workers_are_woken_for_what_one_of_them_can_hold(database: Database) -> None:
    submit(database, needs=Needs(CUDA))
    submit(database)
    with database.read() as session:
        woken = [
            jobs.count_claimable(session, CAP, held=Fleet.of(workers).can_hold())
            for workers in ([SMALL_CPU], [SMALL_CPU, SMALL_GPU], [])
        ]
    assert woken == [1, 2, 2]
