"""Signs of life: a file that is touched, by the loops that have to turn."""

import os
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from store.queue import consumer, scheduler, sign_of_life


@pytest.fixture
def pid_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of long ago, and named by the environment."""
    path = tmp_path / "pid"
    path.touch()
    os.utime(path, (0, 0))
    monkeypatch.setenv("PID_FILE", str(path))
    return path


def test_outside_of_containers_nothing_is_touched(pid_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PID_FILE")
    sign_of_life.give()
    assert pid_file.stat().st_mtime == 0


def test_a_file_that_is_gone_ends_nobody(pid_file: Path) -> None:
    pid_file.unlink()
    sign_of_life.give()
    assert not pid_file.exists()


def test_every_tick_of_beat_gives_one(pid_file: Path) -> None:
    scheduler.Scheduler(Celery("test", set_as_current=False), schedule={}, lazy=True).tick()
    assert pid_file.stat().st_mtime > 0


class Entry:
    cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Worker:
    """As much of a consumer as the step asks for: itself its timer."""

    def __init__(self) -> None:
        self.timer, self.steps, self.entry = self, [], Entry()
        self.calls: list[tuple[float, Any]] = []

    def call_repeatedly(self, seconds: float, call: Any) -> Entry:
        self.calls.append((seconds, call))
        return self.entry


def test_a_worker_s_loop_gives_them_until_it_loses_its_broker(pid_file: Path) -> None:
    worker = Worker()
    step = consumer.SignOfLife(worker)
    step.start(worker)
    ((seconds, call),) = worker.calls
    assert seconds == sign_of_life.SECONDS
    call()
    assert pid_file.stat().st_mtime > 0
    step.stop(worker)
    assert worker.entry.cancelled


def test_the_worker_s_consumer_has_the_step() -> None:
    assert consumer.SignOfLife in consumer.Consumer.Blueprint.default_steps
