"""Devices that were measured: one row for all that are alike, and the one that an estimate is made from."""

from sqlalchemy import func, select

from api_schemas.enums import DeviceKind
from checkpoints.sizes.device_speed import DeviceSpeed, LayerTime
from store.database.connection import Database
from store.database.tables import DeviceSpeedRow
from store.jobs.workers import device_speeds
from store.jobs.workers.device_speeds import DeviceFacts

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
