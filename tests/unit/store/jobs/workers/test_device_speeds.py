"""Devices that were measured: one row for all that are alike, and the one that an estimate is made from."""

from sqlalchemy import func, select

from api_schemas.enums import DeviceKind
from checkpoints.sizes.device_speed import DeviceSpeed, LayerTime
from store.database.connection import Database
from store.database.tables import DeviceSpeedRow
from store.jobs.workers import device_speeds, live_workers
from store.jobs.workers.device_speeds import DeviceFacts
from store.jobs.workers.live_workers import Announcement

CPU = DeviceFacts("a" * 64, DeviceKind.CPU, "A processor", 2)
GPU = DeviceFacts("b" * 64, DeviceKind.CUDA, "A GPU", 8)


def speed(call: float) -> DeviceSpeed:
    layers = tuple(LayerTime(flops=flops, forward=call * flops, training=3 * call * flops) for flops in (1.0, 100.0))
    return DeviceSpeed(layers=layers, float64_flops=1e9, host_call=call)


def keep(database: Database, facts: DeviceFacts, call: float) -> None:
    with database.write() as session:
        device_speeds.keep(session, facts, speed(call))


def seen(database: Database, facts: DeviceFacts) -> bool:
    with database.write() as session:
        return device_speeds.seen(session, facts.fingerprint)


def latest(database: Database, device: DeviceKind | None = None) -> tuple[str | None, float] | None:
    with database.read() as session:
        row = device_speeds.latest(session, device)
        return None if row is None else (row.device_name, row.body.host_call)


def test_a_device_is_known_once_it_was_measured(database: Database) -> None:
    assert not seen(database, CPU)
    assert latest(database) is None
    keep(database, CPU, 1.0)
    assert seen(database, CPU)
    assert not seen(database, GPU)
    keep(database, CPU, 2.0)
    assert latest(database) == ("A processor", 2.0)
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(DeviceSpeedRow)) == 1


def test_the_worker_that_started_last_says_how_fast(database: Database) -> None:
    keep(database, CPU, 1.0)
    keep(database, GPU, 2.0)
    assert latest(database) == ("A GPU", 2.0)
    assert latest(database, DeviceKind.CPU) == ("A processor", 1.0)
    assert seen(database, CPU), "another worker like it has started"
    assert latest(database) == ("A processor", 1.0)
    assert latest(database, DeviceKind.CUDA) == ("A GPU", 2.0)


def announced(
    database: Database, name: str, device: DeviceKind | None, device_name: str | None, seconds: float
) -> None:
    with database.write() as session:
        live_workers.announce(session, Announcement(name, name, "host", device, device_name, None, 2**33), seconds)


def test_a_device_that_a_live_worker_has_goes_before_that_of_a_worker_that_is_gone(database: Database) -> None:
    keep(database, CPU, 1.0)
    announced(database, "a", DeviceKind.CPU, None, 60)
    keep(database, GPU, 2.0)
    announced(database, "b", DeviceKind.CUDA, "A GPU", -1)
    announced(database, "c", DeviceKind.CUDA, "Another GPU", 60)
    assert latest(database) == ("A processor", 1.0)
    assert latest(database, DeviceKind.CUDA) == ("A GPU", 2.0), "the only one of its kind that was measured"
    announced(database, "b", DeviceKind.CUDA, "A GPU", 60)
    assert latest(database) == ("A GPU", 2.0)


def test_a_worker_that_does_not_know_its_device_was_measured_on_the_cpu(database: Database) -> None:
    keep(database, CPU, 1.0)
    keep(database, GPU, 2.0)
    announced(database, "a", None, None, 60)
    assert latest(database) == ("A processor", 1.0)
