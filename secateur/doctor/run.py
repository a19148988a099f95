"""Runs all checks in order, makes repairs, and shows the results."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from api_schemas.api.checkup import FINDINGS, CheckFunction, Finding, Verdict, examine, ok, wrong
from secateur.doctor import accelerator, client_side, installation, profile, server_side
from secateur.doctor.torchaudio import repair_torchaudio

_COLOURS = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.WRONG: "bold red"}
_QUICK = 10


@dataclass(frozen=True)
class Check:
    """`function` has `seconds`; `mend` does what it says it did, and is safe to repeat."""

    name: str
    function: CheckFunction
    seconds: float = _QUICK
    mend: Callable[[], str] | None = None


def doctor(
    url: str | None,
    data_dir: Path | None,
    port: int,
    *,
    profile_name: str | None = None,
    fix: bool,
    verify: bool,
    as_json: bool,
    console: Console,
) -> int:
    """Check, with `fix` mend, with `verify` compare rows with objects, show; the exit status: 1 where something is wrong."""
    found = list(_findings(_checks(url, data_dir, port, profile_name), fix))
    if verify and server_side.wanted(data_dir):
        found += _verified(data_dir, fix)
    elif verify:
        remedy = (
            "Give the folder of `secateur up` (--data-dir), or set SECATEUR_DATABASE_URL and SECATEUR_ARTIFACTS_URL."
        )
        found.append(
            wrong(
                "stored files",
                "there is no server whose files could be verified",
                remedy,
            )
        )
    if as_json:
        print(json.dumps(FINDINGS.dump_python(found, mode="json"), indent=2))
    else:
        console.print(_table(found))
    return int(any(finding.verdict is Verdict.WRONG for finding in found))


def _checks(url: str | None, data_dir: Path | None, port: int, name: str | None) -> Iterator[Check]:
    yield Check("python", installation.python)
    yield Check("libraries", installation.packages)
    yield Check("torch", accelerator.torch, accelerator.SECONDS)
    yield Check("torchaudio", accelerator.torchaudio, accelerator.SECONDS, repair_torchaudio)
    if server_side.wanted(data_dir):
        yield Check(
            "leftover", lambda: server_side.leftover(data_dir), mend=lambda: server_side.remove_leftover(data_dir)
        )
        yield Check("server's parts", lambda: server_side.stack_parts(data_dir, port), server_side.SECONDS)
    # What was named comes before what is found, and that before what is saved.
    here = None if name else server_side.running_at(data_dir)
    use, said = (profile.InUse(here), []) if here and not url else profile.in_use(url, name)
    if said:
        yield Check("profile", lambda: said)
    if use is not None:
        yield Check("server", lambda: client_side.server(use.url, use.key, use.profile), client_side.SECONDS)


def _findings(checks: Iterator[Check], fix: bool) -> Iterator[Finding]:
    for check in checks:
        found = examine(check.name, check.function, check.seconds)
        if fix and check.mend is not None and any(finding.verdict is Verdict.WRONG for finding in found):
            yield from examine("mended", _mending(check.mend), check.seconds)
            found = examine(check.name, check.function, check.seconds)
        yield from found


def _verified(data_dir: Path | None, fix: bool) -> list[Finding]:
    seconds = server_side.VERIFY_SECONDS
    return examine("stored files", lambda: server_side.verified(data_dir, recount=fix), seconds)


def _mending(mend: Callable[[], str]) -> CheckFunction:
    return lambda: [ok("mended", mend())]


def _table(found: list[Finding]) -> Table:
    table = Table("check", "", "found", "what to do")
    for finding in found:
        verdict = f"[{_COLOURS[finding.verdict]}]{finding.verdict.value}[/]"
        table.add_row(finding.check, verdict, escape(finding.found), escape(finding.remedy or ""))
    return table
