"""A worker has its device measured once, when it has nothing to do; a job comes first."""

import logging
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from api_schemas.enums import DeviceKind
from store import machine
from store.database.tables import DeviceSpeedRow
from store.jobs.workers import device_speeds
from store.jobs.workers.live_workers import Announcement
from tests.support.jobs.bench import Bench
from tests.support.jobs.supervision import MakeBench
from tests.support.servers.databases import wait_for
from tests.unit.store.jobs.workers.test_device_speeds import speed
from worker.supervisor import device_speed
from worker.supervisor.device_speed import DeviceMeasurer, facts_of, processor_name

CPU = Announcement("host:a:1", "host", "host", DeviceKind.CPU, None, None, 2**33)
GPU = Announcement("host:a:1", "host", "host", DeviceKind.CUDA, "A GPU", 2**34, 2**33)


@pytest.fixture(autouse=True)
def _engines_of_others_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_speed, "engines_running", lambda: 0)


def program(script: str) -> tuple[str, ...]:
    return (sys.executable, "-c", script)


SAYS = program(f"print({speed(3.0).model_dump_json()!r})")


@contextmanager
def measuring(
    bench: Bench, command: Sequence[str], idle: threading.Event | None = None, who: Announcement = CPU
) -> Iterator[threading.Thread]:
    busy_never = threading.Event()
    busy_never.set()
    measurer = DeviceMeasurer(bench.settings, bench.database, who, (idle or busy_never).is_set, command, 0.0)
    measurer.start()
    try:
        yield measurer._thread or threading.current_thread()
    finally:
        measurer.stop()


def kept(bench: Bench) -> DeviceSpeedRow | None:
    with bench.database.read() as session:
        return device_speeds.latest(session, None)


def test_it_is_measured_once_and_kept_for_all_that_are_alike(make_bench: MakeBench) -> None:
    made = make_bench()
    with measuring(made, SAYS):
        wait_for(lambda: kept(made) is not None, what="the measurement")
    row = kept(made)
    assert row is not None
    assert (row.device, row.threads, row.body.host_call) == (DeviceKind.CPU, 1, 3.0)
    assert row.device_name == processor_name()
    with measuring(made, program("raise SystemExit('it is known')")) as thread:
        thread.join(20)
        assert not thread.is_alive()
    again = kept(made)
    assert again is not None
    assert again.measured_at == row.measured_at
    assert again.seen_at > row.seen_at
    with measuring(made, SAYS, who=GPU):
        wait_for(lambda: (found := kept(made)) is not None and found.device_name == "A GPU", what="the other device")


def test_a_job_comes_first(make_bench: MakeBench, tmp_path: Path) -> None:
    made, idle, began = make_bench(), threading.Event(), tmp_path / "began"
    once = f"""
import os, pathlib, time
began = pathlib.Path({str(began)!r})
if not began.exists():
    began.with_suffix(".new").write_text(str(os.getpid()))
    began.with_suffix(".new").rename(began)
    time.sleep(600)
print({speed(3.0).model_dump_json()!r})
"""
    with measuring(made, program(once), idle):
        idle.set()
        wait_for(began.exists, what="the measurement")
        idle.clear()
        wait_for(lambda: not psutil.pid_exists(int(began.read_text())), what="the end of it")
        assert kept(made) is None
        idle.set()
        wait_for(lambda: kept(made) is not None, what="the second measurement")


def test_it_is_told_to_end_with_this_process(make_bench: MakeBench, tmp_path: Path) -> None:
    """By the pipe that is its standard input, which closes however a worker dies."""
    made, said = make_bench(), tmp_path / "said"
    script = f"""
import os, pathlib, stat, sys
pipe = stat.S_ISFIFO(os.fstat(0).st_mode)
pathlib.Path({str(said)!r}).write_text(f"{{pipe}} {{'--watch-stdin' in sys.argv}}")
print({speed(3.0).model_dump_json()!r})
"""
    with measuring(made, program(script)):
        wait_for(lambda: kept(made) is not None, what="the measurement")
    assert said.read_text() == "True True"


def test_it_does_not_begin_while_something_runs(make_bench: MakeBench, tmp_path: Path) -> None:
    made, began = make_bench(), tmp_path / "began"
    script = f"import pathlib; pathlib.Path({str(began)!r}).touch()"
    with measuring(made, program(script), threading.Event()) as thread:
        thread.join(5 * device_speed.LOOK_SECONDS)
        assert thread.is_alive()
    assert not began.exists()
    assert not thread.is_alive()


def test_it_waits_until_nothing_has_run_for_a_while(make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch) -> None:
    made, asked, enough = make_bench(), [], threading.Event()
    monkeypatch.setattr(DeviceMeasurer, "_measured", lambda _: asked.append("measured"))

    def idle() -> bool:
        asked.append("idle")
        if len(asked) == 3:
            enough.set()
        return True

    measurer = DeviceMeasurer(made.settings, made.database, CPU, idle, SAYS, quiet_seconds=3600.0)
    measurer.start()
    try:
        enough.wait(60)
    finally:
        measurer.stop()
    assert asked[:3] == ["idle"] * 3


@pytest.mark.parametrize("script", ["raise SystemExit('no such device')", "print('{}')"])
def test_what_cannot_be_measured_is_given_up(
    make_bench: MakeBench, script: str, caplog: pytest.LogCaptureFixture
) -> None:
    made = make_bench()
    with caplog.at_level(logging.WARNING), measuring(made, program(script)) as thread:
        thread.join(20)
        assert not thread.is_alive()
    assert kept(made) is None
    assert "the speed of this device cannot be measured" in caplog.text


def test_a_database_that_does_not_respond_is_asked_again(
    make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made, seen, calls = make_bench(), device_speeds.seen, iter((True, False))

    def lost_once(session: Session, fingerprint: str) -> bool:
        if next(calls, False):
            raise OperationalError("SELECT 1", {}, OSError("the connection was lost"))
        return seen(session, fingerprint)

    monkeypatch.setattr(device_speeds, "seen", lost_once)
    monkeypatch.setattr(device_speed, "AGAIN_SECONDS", 0.0)
    with caplog.at_level(logging.WARNING), measuring(made, SAYS):
        wait_for(lambda: kept(made) is not None, what="the measurement")
    assert "the database does not respond" in caplog.text


def test_the_setting_turns_it_off(make_bench: MakeBench) -> None:
    made = make_bench(measure_device=False)
    with measuring(made, SAYS) as thread:
        assert thread is threading.current_thread()
    assert kept(made) is None


def test_devices_that_differ_are_told_apart(make_bench: MakeBench) -> None:
    settings = make_bench().settings
    two = settings.model_copy(update={"engine_threads": 2})
    prints = [facts_of(who, given).fingerprint for who in (CPU, GPU) for given in (settings, two)]
    assert len(set(prints)) == len(prints)
    assert facts_of(CPU, settings) == facts_of(CPU, settings)


def test_engines_that_run_meanwhile_make_no_other_device(
    make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that starts beside one that is busy would measure the machine again, with a part of its threads."""
    settings = make_bench().settings.model_copy(update={"engine_threads": None})
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(machine, "affine_cores", lambda: 8)
    monkeypatch.setattr(machine, "cpu_quota", lambda: None)
    monkeypatch.setattr(device_speed, "cpu_quota", lambda: None)
    alone = facts_of(CPU, settings)
    assert alone.threads == 8
    monkeypatch.setattr(machine, "engines_running", lambda: 3)
    assert facts_of(CPU, settings) == alone


def test_the_processor_is_called_as_linux_calls_it(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: A fast one\n\nmodel name\t: Another\n")
    assert processor_name(tmp_path / "cpuinfo") == "A fast one"
    assert processor_name(tmp_path / "none")
