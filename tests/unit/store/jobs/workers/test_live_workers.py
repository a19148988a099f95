"""Workers announce themselves: who counts, who is listed, and who goes."""

from dataclasses import replace

from sqlalchemy import func, select, update

from api_schemas.enums import DeviceKind
from store import retention
from store.database.clock import now
from store.database.connection import Database
from store.database.tables import Worker
from store.jobs.workers import live_workers
from store.jobs.workers.capabilities import Capability, Fleet
from store.jobs.workers.live_workers import Announcement, LiveWorkers
from store.settings import Settings
from tests.support.jobs.job_transitions import claim, submit

GPU = Announcement("gpu-1:a:1", "gpu-1", "host", DeviceKind.CUDA, "A GPU", 2**34, 2**36)
OTHER = replace(GPU, id="gpu-10:b:2", name="gpu-10", device_memory_bytes=2**35)
CPU = Announcement("host:c:3", "host", "host", DeviceKind.CPU, None, None, 2**33)


def announce(database: Database, *who: Announcement, seconds: float = 60) -> None:
    with database.write() as session:
        for each in who:
            live_workers.announce(session, each, seconds)


def fleet(database: Database) -> Fleet:
    with database.read() as session:
        return live_workers.fleet(session)


def listed(database: Database) -> dict[str, bool]:
    with database.read() as session:
        return {each.row.id: each.alive for each in live_workers.page(session, None, 20)[0]}


def test_those_that_live_count_and_the_largest_of_a_kind_says_what_there_is(database: Database) -> None:
    assert fleet(database).kinds == ()
    announce(database, GPU, OTHER, CPU)
    largest = (Capability(DeviceKind.CPU, 2**33), Capability(DeviceKind.CUDA, 2**35))
    assert fleet(database).kinds == largest
    announce(database, replace(GPU, id="x", device_memory_bytes=None), replace(CPU, id="y", device=None))
    unknown = (largest[0], Capability(DeviceKind.CUDA, None), Capability(None, None))
    assert fleet(database).kinds == unknown


def test_announcing_again_keeps_the_row_and_silence_ends_it(database: Database) -> None:
    announce(database, GPU, CPU)
    with database.write() as session:
        before = session.get_one(Worker, GPU.id)
        session.execute(update(Worker).values(alive_until=now(plus=-1)))
    assert fleet(database).kinds == ()
    assert listed(database) == {GPU.id: False, CPU.id: False}
    announce(database, replace(GPU, device_name="Another GPU"))
    with database.read() as session:
        again = session.get_one(Worker, GPU.id)
        assert (again.created_at, again.device_name) == (before.created_at, "Another GPU")
        assert again.seen_at >= before.seen_at
    assert listed(database) == {GPU.id: True, CPU.id: False}
    assert retention.expire(database, Settings()).workers == 1
    assert listed(database) == {GPU.id: True}


def test_a_name_is_forgotten_with_all_that_had_it_and_no_other(database: Database) -> None:
    announce(database, GPU, OTHER, CPU)
    with database.write() as session:
        live_workers.forget(session, ["gpu-1"])
    assert set(listed(database)) == {OTHER.id, CPU.id}
    with database.write() as session:
        live_workers.forget(session, [])
        live_workers.forget(session, [CPU.id])
    assert set(listed(database)) == {OTHER.id}


def test_a_list_says_what_each_runs_page_by_page(database: Database) -> None:
    announce(database, CPU)
    announce(database, GPU)
    job_id = submit(database, "a")
    assert claim(database, GPU.id) is not None
    with database.read() as session:
        [first], cursor = live_workers.page(session, None, 1)
        [second], end = live_workers.page(session, cursor, 1)
    assert {first.row.id: first.job, second.row.id: second.job} == {GPU.id: ("a", job_id), CPU.id: None}
    assert end is None


def test_many_who_ask_share_an_answer_until_something_is_written(database: Database) -> None:
    live = LiveWorkers(database)
    with database.read() as session:
        assert live.fleet(session).kinds == ()
    announce(database, CPU)
    with database.read() as session:
        assert live.fleet(session) == live_workers.fleet(session)
        assert live.fleet(session) is live.fleet(session)
        assert session.scalar(select(func.count()).select_from(Worker)) == 1
