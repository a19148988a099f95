"""CPU threads of an engine: by the settings, else its share of the cores; and how engines that run are counted."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from store import machine
from store.machine import EngineThreads, engine_threads, engines_running, running_engine, threads_of_next
from store.settings import Settings

HOLD = """
import sys
from store import machine
machine._RUNNING = sys.argv[1]
with machine.running_engine(None):
    print("runs", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "affine_cores", lambda: 4)
    monkeypatch.setattr(machine, "cpu_quota", lambda: None)
    monkeypatch.delenv("OMP_NUM_THREADS")


@pytest.mark.parametrize(
    ("engines", "quota", "threads"),
    [(1, None, 4), (2, None, 2), (3, None, 1), (9, None, 1), (1, 2.5, 2), (2, 3.0, 1), (1, 0.5, 1), (1, 64.0, 4)],
)
def test_an_engine_gets_its_share_of_the_cores(engines: int, quota: float | None, threads: int) -> None:
    assert engine_threads(None, engines, {}, quota).count == threads


def test_what_is_asked_for_is_given() -> None:
    omp = {"OMP_NUM_THREADS": "3"}
    assert engine_threads(8, 2, omp, 1.0) == EngineThreads(8, "SECATEUR_ENGINE_THREADS says so")
    assert engine_threads(None, 2, omp, 1.0) == EngineThreads(3, "OMP_NUM_THREADS says so")
    assert engine_threads(None, 2, {"OMP_NUM_THREADS": "all"}, 2.0).count == 1


@pytest.mark.parametrize(
    ("earlier", "engines", "quota", "threads"), [(4, 3, None, 4), (1, 1, None, 1), (5, 1, None, 4), (3, 2, 2.0, 1)]
)
def test_an_engine_that_goes_on_gets_what_the_earlier_one_had_where_there_are_so_many_cores(
    earlier: int, engines: int, quota: float | None, threads: int
) -> None:
    assert engine_threads(None, engines, {}, quota, earlier).count == threads
    assert engine_threads(7, engines, {}, quota, earlier).count == 7


def test_it_says_why() -> None:
    assert engine_threads(None, 1, {}).why == "the cores there are"
    assert engine_threads(None, 2, {}).why == "the cores there are, shared by 2 engines"
    assert engine_threads(None, 3, {}, 1.5).why == "the control group's quota is 1.5 cores, shared by 3 engines"


def test_nothing_is_chosen_before_an_engine_starts(tmp_path: Path) -> None:
    assert Settings(data_dir=tmp_path).engine_threads is None


def test_engines_are_counted_by_their_sockets(tmp_path: Path) -> None:
    table = tmp_path / "unix"
    table.write_text(
        "Num       RefCount Protocol Flags    Type St Inode Path\n"
        "0000000000000001: 00000002 00000000 00000000 0001 01 100\n"
        "0000000000000002: 00000002 00000000 00000000 0001 01 101 @secateur-engine-a\n"
        "0000000000000003: 00000002 00000000 00000000 0001 01 102 @secateur-engine-b\n"
        "0000000000000004: 00000002 00000000 00010000 0001 01 103 /tmp/secateur-engine-c\n"
        "0000000000000005: 00000003 00000000 00000000 0001 03 104 /tmp/secateur-1/valkey.sock\n"
    )
    assert engines_running(table) == 2
    assert engines_running(tmp_path / "absent") == 0


@pytest.mark.skipif(sys.platform != "linux", reason="sockets without a file are Linux'")
def test_engines_of_this_and_other_processes_count_until_they_are_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    # A name of our own: engines of other tests run at the same time.
    monkeypatch.setattr(machine, "_RUNNING", f"secateur-test-{os.getpid()}-")
    command = [sys.executable, "-c", HOLD, f"secateur-test-{os.getpid()}-"]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[3])
    assert other.stdout is not None
    assert other.stdin is not None
    try:
        assert other.stdout.readline() == b"runs\n"
        assert engines_running() == 1
        with running_engine(None) as threads:
            assert (engines_running(), threads.count) == (2, 2)
            assert threads_of_next(None).count == 1
        assert engines_running() == 1
    finally:
        other.send_signal(signal.SIGKILL)
        other.wait()
        other.stdin.close()
        other.stdout.close()
    assert engines_running() == 0


def test_a_setting_counts_whoever_else_runs() -> None:
    with running_engine(3) as threads, running_engine(5) as more:
        assert (threads.count, more.count) == (3, 5)


def test_a_child_that_yields_runs_after_everybody_else_also_across_sessions() -> None:
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as child:
        machine.yield_cpu(child.pid)
        group = Path(f"/proc/{child.pid}/autogroup")
        said = group.read_text() if group.exists() else "nice 19"
        priority = os.getpriority(os.PRIO_PROCESS, child.pid)
        child.kill()
    assert priority == 19
    assert said.strip().endswith("nice 19")
    machine.yield_cpu(child.pid)  # One that has ended is no error.
