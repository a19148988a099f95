"""Numbers of the environment, as `make demo` takes them."""

import pytest

from demo import DemoError
from demo.inputs import number


def test_numbers_are_read_or_left_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DEMO_EPOCHS", raising=False)
    assert number("DEMO_EPOCHS", 1) == 1
    monkeypatch.setenv("DEMO_EPOCHS", "")
    assert number("DEMO_EPOCHS", 1) == 1
    monkeypatch.setenv("DEMO_EPOCHS", "3")
    read = number("DEMO_EPOCHS", 1)
    assert (read, type(read)) == (3, int)
    monkeypatch.setenv("DEMO_LEARNING_RATE", "1e-3")
    assert number("DEMO_LEARNING_RATE", 3e-4) == 1e-3


@pytest.mark.parametrize(("given", "default", "kind"), [("1.5", 1, "whole number"), ("half", 0.5, "number")])
def test_what_is_none_is_said_so(monkeypatch: pytest.MonkeyPatch, given: str, default: float, kind: str) -> None:
    monkeypatch.setenv("DEMO_X", given)
    with pytest.raises(DemoError, match=f"DEMO_X is '{given}', which is not a {kind}"):
        number("DEMO_X", default)
