"""Readiness is asked in threads of its own, and a server that hangs is asked once, however many want to know."""

import asyncio
import threading

import pytest

from service import readiness
from service.readiness import OK, UNREACHABLE, Readiness


def test_each_question_has_its_answer() -> None:
    def down() -> None:
        raise ConnectionError("refused")

    assert asyncio.run(Readiness({"database": lambda: None, "broker": down}).ask()) == {
        "database": OK,
        "broker": UNREACHABLE,
    }


def test_who_hangs_is_asked_once_and_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "PATIENCE_SECONDS", 0.05)
    asked: list[str] = []
    go_on = threading.Event()

    def hangs() -> None:
        asked.append("database")
        go_on.wait()

    async def story() -> None:
        ready = Readiness({"database": hangs, "broker": lambda: None})
        answers = await asyncio.gather(*(ready.ask() for _ in range(20)))
        assert answers == [{"database": UNREACHABLE, "broker": OK}] * 20
        assert await ready.ask() == {"database": UNREACHABLE, "broker": OK}
        assert asked == ["database"]
        go_on.set()
        monkeypatch.setattr(readiness, "PATIENCE_SECONDS", 60.0)
        assert await ready.ask() == {"database": OK, "broker": OK}

    asyncio.run(story())
