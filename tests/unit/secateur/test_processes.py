"""Programs are restarted, not for ever, and leave nothing behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from secateur.local_server.processes import MAX_RESTARTS, CrashLoopError, Program, Programs
from tests.support.servers.databases import wait_for
from tests.support.servers.processes import gone

STAYS = "import time; print('up', flush=True); time.sleep(600)"
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
PARENT = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {STAYS!r}]); time.sleep(600)"


def python(code: str, log: Path, name: str = "program") -> Program:
    return Program(name, [sys.executable, "-c", code], log)


def pid_of(program: Program) -> int:
    assert program.process is not None
    return program.process.pid


def test_a_crashed_program_is_started_again(tmp_path: Path) -> None:
    restarts: list[tuple[str, int]] = []
    programs = Programs(lambda program, status: restarts.append((program.name, status)))
    program = python(STAYS, tmp_path / "log")
    programs.add(program)
    first = pid_of(program)
    program.signal(signal.SIGKILL)

    def again() -> bool:
        programs.restart_crashed()
        return program.alive and pid_of(program) != first

    wait_for(again)
    assert restarts == [("program", -signal.SIGKILL)]
    programs.stop(10)
    assert not program.alive


def test_a_program_that_always_crashes_is_given_up_with_the_end_of_its_log(tmp_path: Path) -> None:
    programs = Programs(lambda program, _: setattr(program, "start_at", 0.0))
    program = python("raise SystemExit('no such broker')", tmp_path / "log")
    programs.add(program)

    def try_for_ever() -> bool:
        wait_for(lambda: not program.alive)
        programs.restart_crashed()
        return False

    with pytest.raises(CrashLoopError, match=r"program ended 6 times(.|\n)*no such broker"):
        wait_for(try_for_ever, seconds=60)
    assert (tmp_path / "log").read_text().count("no such broker") == MAX_RESTARTS + 1


def test_what_ignores_term_is_killed_after_the_grace(tmp_path: Path) -> None:
    programs = Programs(lambda *_: None)
    program = python(DEAF, tmp_path / "log")
    programs.add(program)
    wait_for(lambda: "up" in program.log_tail())
    programs.stop(0.2)
    assert program.process is not None
    assert program.process.returncode == -signal.SIGKILL


def test_stopping_goes_from_the_last_to_the_first(tmp_path: Path) -> None:
    said = tmp_path / "said"
    code = (
        "import signal, sys, time\n"
        "def end(*_):\n"
        "    print({name!r}, file=open({said!r}, 'a')); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end); print('up', flush=True); time.sleep(600)"
    )
    programs = Programs(lambda *_: None)
    for name in ("first", "second", "third"):
        programs.add(python(code.format(name=name, said=str(said)), tmp_path / name, name))
    wait_for(lambda: all("up" in program.log_tail() for program in programs.all))
    programs.stop(20)
    assert said.read_text().split() == ["third", "second", "first"]


def test_a_program_ends_with_its_whole_group(tmp_path: Path) -> None:
    programs = Programs(lambda *_: None)
    program = python(PARENT, tmp_path / "log")
    programs.add(program)
    wait_for(lambda: "up" in program.log_tail())
    members = [pid_of(program), *(child.pid for child in psutil.Process(pid_of(program)).children(recursive=True))]
    assert len(members) == 2
    programs.stop(10)
    wait_for(lambda: all(map(gone, members)))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent died")
def test_killing_the_parent_ends_what_it_started(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from secateur.local_server.processes import Program\n"
        f"program = Program('p', [sys.executable, '-c', {STAYS!r}], Path({str(tmp_path / 'log')!r})); program.start()\n"
        "print(program.process.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        wait_for(lambda: "up" in (tmp_path / "log").read_text())
        parent.kill()
    wait_for(lambda: gone(child))


def test_a_log_that_has_grown_is_put_aside_at_the_next_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secateur.local_server.processes.MAX_LOG_BYTES", 10)
    (tmp_path / "p.log").write_text("old and long enough")
    program = python("print('new')", tmp_path / "p.log")
    program.start()
    assert program.process is not None
    assert program.process.wait(20) == os.EX_OK
    assert (tmp_path / "p.log").read_text() == "new\n"
    assert (tmp_path / "p.log.1").read_text() == "old and long enough"
