"""`python -m store.checkup [--embedded] [--running] [--port PORT] [--verify] [--recount]`: findings as JSON, with the settings of
the environment.

--embedded: database, broker and folder belong to a `secateur up`. --running: it is running. --port: the port that it will use.
--verify: compare rows with objects instead, which may take hours. --recount: before that, count every tenant's bytes again.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from functools import partial

from pydantic import ValidationError

from api_schemas.api.checkup import FINDINGS, CheckFunction, Finding, Verdict, examine, ok, wrong
from store.checkup import broker, database, environment, network, resources, storage, verify
from store.settings import Settings

QUICK, SLOW, HOURS = 10, 30, 12 * 3600


def findings(given: Sequence[str] | None = None) -> Iterator[Finding]:
    """Each when its check has ended. `given`: the options, those of the process where it is None."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--embedded", action="store_true")
    parser.add_argument("--running", action="store_true")
    parser.add_argument("--port", type=int)
    parser.add_argument("--verify", action="store_true")
    parser.add_argument("--recount", action="store_true")
    arguments = parser.parse_args(given)
    return _verified(recount=arguments.recount) if arguments.verify else _findings(arguments)


def _verified(*, recount: bool) -> Iterator[Finding]:
    settings = Settings()
    if recount:
        yield from examine("mended", lambda: [ok("mended", verify.count_anew(settings))], SLOW)
    for check, look in (
        ("stored files", verify.stored_files),
        ("unnamed objects", verify.unnamed_objects),
        ("counted bytes", verify.counted_bytes),
    ):
        yield from examine(check, partial(look, settings), HOURS)


def _findings(arguments: argparse.Namespace) -> Iterator[Finding]:
    yield from examine("settings", environment.unknown, QUICK)
    try:
        settings = Settings()
    except ValidationError as error:
        for one in error.errors(include_url=False, include_input=False):
            name = f"SECATEUR_{'_'.join(map(str, one['loc'])).upper()}" if one["loc"] else "SECATEUR_…"
            yield wrong(
                "settings",
                f"{name}: {one['msg']}",
                "Correct it; docs/deploy.md and store/settings.py list the allowed values.",
            )
        return
    # A stack of our own that does not run has no broker yet; what matters is that it can have one.
    stopped = arguments.embedded and not arguments.running
    yield from examine("database", lambda: database.check_database(settings, may_be_absent=stopped), SLOW)
    if stopped:
        yield from examine("broker", broker.embedded, QUICK)
    else:
        answers = examine("broker", lambda: broker.broker(settings), QUICK)
        yield from answers
        if all(finding.verdict is Verdict.OK for finding in answers):
            yield from examine("workers", lambda: broker.workers(settings), SLOW)
    checks: dict[str, CheckFunction] = {
        "artifacts": lambda: storage.artifacts(settings),
        "folders": lambda: storage.folders(settings),
        "disk": lambda: storage.room(settings),
        "shared memory": storage.shared_memory,
        "memory": lambda: resources.memory(settings),
        "cores": lambda: resources.cores(settings),
        "cage": lambda: resources.cage(settings),
        "clock": lambda: resources.clock(settings),
    }
    if arguments.port is not None:
        checks["port"] = lambda: network.port(arguments.port)
    for check, look in checks.items():
        yield from examine(check, look, SLOW)


if __name__ == "__main__":
    sys.stdout.buffer.write(FINDINGS.dump_json(list(findings())))
