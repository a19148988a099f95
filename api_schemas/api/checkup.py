"""What is said of an installation by `secateur doctor`, and by what it starts to look further (`python -m store.checkup`)."""

import threading
from collections.abc import Callable
from enum import StrEnum

from pydantic import TypeAdapter

from api_schemas.base import FrozenModel


class Verdict(StrEnum):
    OK = "ok"
    WARNING = "warning"
    """It works, or is not needed everywhere; somebody should know."""
    WRONG = "wrong"


class Finding(FrozenModel):
    """One line: what was looked at, what was found, what to do."""

    check: str
    verdict: Verdict
    found: str
    remedy: str | None = None


FINDINGS = TypeAdapter(list[Finding])
CheckFunction = Callable[[], list[Finding]]


def ok(check: str, found: str) -> Finding:
    return Finding(check=check, verdict=Verdict.OK, found=found)


def warning(check: str, found: str, remedy: str) -> Finding:
    return Finding(check=check, verdict=Verdict.WARNING, found=found, remedy=remedy)


def wrong(check: str, found: str, remedy: str) -> Finding:
    return Finding(check=check, verdict=Verdict.WRONG, found=found, remedy=remedy)


def examine(check: str, look: CheckFunction, seconds: float) -> list[Finding]:
    """What `look` finds. An exception is a finding, and so is that it took longer than `seconds`: then it is left behind."""
    found: list[Finding] = []

    def run() -> None:
        try:
            found.extend(look())
        except Exception as error:
            text = f"{type(error).__name__}: {error}".strip().partition("\n")[0]
            found.append(wrong(check, f"the check itself failed: {text}", "Please report this, and include this line."))

    thread = threading.Thread(target=run, name=check, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        late = f"no answer within {seconds:g} s"
        return [wrong(check, late, "Look at what it depends on: a mount, a disk or a server that hangs.")]
    return found
