"""A worker says that it is there and what it has, and looks for work that nobody told it of."""

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from api_schemas.enums import DeviceKind
from store.database.tables import Worker
from store.database.tenancy import DEFAULT_TENANT
from store.jobs import jobs
from store.jobs.workers import live_workers
from store.jobs.workers.capabilities import Capability, Needs
from store.jobs.workers.live_workers import Announcement
from store.settings import Settings
from tests.support.jobs.bench import Bench
from tests.support.jobs.records import job_request
from tests.support.jobs.supervision import MakeBench
from tests.support.servers.databases import wait_for
from worker.supervisor import device
from worker.supervisor.announcer import Announcer
from worker.supervisor.device import Device
from worker.supervisor.scratch import Scratch
from worker.supervisor.supervisor import Supervisor

GPU = Announcement("gpu-1:new:1", "gpu-1", "host", DeviceKind.CUDA, "A GPU", 2**34, 2**36)


def seen(bench: Bench) -> set[str]:
    with bench.database.read() as session:
        return {each.row.id for each in live_workers.page(session, None, 20)[0] if each.alive}


def submit(bench: Bench, needs: Needs) -> str:
    with bench.database.write() as session:
        return jobs.create(session, DEFAULT_TENANT, job_request(), {}, needs=needs).id


@contextmanager
def announced(bench: Bench, idle: threading.Event, looks: threading.Event) -> Iterator[None]:
    announcer = Announcer(bench.settings, bench.database, GPU, {"gpu-1:old:1"}, idle.is_set)
    announcer.start(looks.set)
    try:
        yield
    finally:
        announcer.stop()


def test_it_is_there_from_its_start_to_its_end(make_bench: MakeBench) -> None:
    made = make_bench()
    with made.database.write() as session:
        live_workers.announce(session, Announcement("gpu-1:old:1", "gpu-1", "host", None, None, None, 1), 60)
        live_workers.announce(session, Announcement("gpu-2:else:1", "gpu-2", "host", None, None, None, 1), 60)
    with announced(made, threading.Event(), threading.Event()):
        wait_for(lambda: seen(made) == {GPU.id, "gpu-2:else:1"}, what="the new worker instead of the old one")
        with made.database.read() as session:
            row = session.get_one(Worker, GPU.id)
        assert row.disk_bytes == shutil.disk_usage(made.settings.scratch.parent).total
        assert 0 < (row.disk_free_bytes or 0) <= row.disk_bytes
    assert seen(made) == {"gpu-2:else:1"}


def test_it_looks_when_it_is_idle_and_something_fits(make_bench: MakeBench) -> None:
    made, idle, looks = make_bench(), threading.Event(), threading.Event()
    submit(made, Needs(DeviceKind.CPU))
    submit(made, Needs(gpu_bytes=2**34 + 1))
    fitting = submit(made, Needs(gpu_bytes=2**34))
    with announced(made, idle, looks):
        writes = made.database.writes
        wait_for(lambda: made.database.writes >= writes + 2, what="two heartbeats")
        assert not looks.is_set(), "it was busy"
        idle.set()
        assert looks.wait(20)
        with made.database.write() as session:
            jobs.transitions.cancel(session, DEFAULT_TENANT, fitting)
        writes = made.database.writes
        wait_for(lambda: made.database.writes >= writes + 2, what="two heartbeats")
        looks.clear()
        writes = made.database.writes
        wait_for(lambda: made.database.writes >= writes + 2, what="two heartbeats")
        assert not looks.is_set(), "nothing fits"


def test_a_supervisor_leaves_what_does_not_fit(make_bench: MakeBench) -> None:
    made = make_bench()
    job_id = submit(made, Needs(DeviceKind.CUDA))
    has = Capability(DeviceKind.CPU, 2**33)
    runner = Supervisor(
        made.settings, made.database, made.artifacts, Scratch(made.settings.scratch), threading.Event(), has
    )
    assert runner.run_until_empty() == 0
    assert runner.idle
    assert made.job(job_id).attempts == 0


@pytest.mark.parametrize(
    ("setting", "driver", "said", "found"),
    [
        ("auto", False, None, Device(DeviceKind.CPU)),
        ("cuda", False, None, Device(DeviceKind.CUDA)),
        ("cpu", True, None, Device(DeviceKind.CPU)),
        ("auto", True, {"name": "A GPU", "memory": 5}, Device(DeviceKind.CUDA, "A GPU", 5)),
        ("auto", True, {}, Device(DeviceKind.CPU)),
        ("auto", True, None, Device(None)),
        ("cuda", True, None, Device(DeviceKind.CUDA)),
    ],
)
def test_the_device_is_the_one_that_an_engine_would_choose(
    setting: str, driver: bool, said: object, found: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "_DRIVERS", (tmp_path if driver else tmp_path / "none",))
    monkeypatch.setattr(device, "_ASK", "1 / 0" if said is None else f"print({json.dumps(said)!r})")
    assert device.of_engines(Settings(data_dir=tmp_path, device=setting), tmp_path) == found


def test_a_worker_that_offloads_weights_takes_jobs_of_any_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_DRIVERS", (tmp_path,))
    monkeypatch.setattr(device, "_ASK", """print('{"name": "A GPU", "memory": 5}')""")
    settings = Settings(data_dir=tmp_path, offload_weights=True)
    assert device.of_engines(settings, tmp_path) == Device(DeviceKind.CUDA, "A GPU", None)
