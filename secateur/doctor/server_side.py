"""Checks the parts of a server on this machine, in a process that has the server's packages: `python -m store.checkup`."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from api_schemas.api.checkup import FINDINGS, Finding, wrong
from secateur import profiles
from secateur.client.transport.connection import API_KEY, URL
from secateur.local_server import installed

SECONDS = 120
VERIFY_SECONDS = 24 * 3600
_NO_SETTINGS = (URL, API_KEY, profiles.NAME)


def wanted(data_dir: Path | None) -> bool:
    """Whether somebody runs a server here: a data folder was named, or a setting is in the environment."""
    return data_dir is not None or any(name.startswith("SECATEUR_") and name not in _NO_SETTINGS for name in os.environ)


def stack_parts(data_dir: Path | None, port: int) -> list[Finding]:
    """Settings, database, broker, artifacts, disks, port, clock, workers, cage, memory: what `store.checkup` finds."""
    if missing := installed.missing(installed.STACK):
        remedy = installed.how_to_install("server,worker")
        return [wrong("server's parts", f"not installed: {', '.join(missing)}", remedy)]
    command = [sys.executable, "-m", "store.checkup"]
    environment = dict(os.environ)
    if data_dir is not None:
        environment["SECATEUR_DATA_DIR"] = str(data_dir.expanduser().absolute())
        running = _announced(data_dir)
        command += ["--running"] if running else ["--port", str(port)]
        if not os.environ.get("SECATEUR_BROKER_URL"):
            command += ["--embedded"]
            environment |= {"SECATEUR_BROKER_URL": running["broker"]} if running else {}
    return _checkup(command, environment, SECONDS)


def verified(data_dir: Path | None, *, recount: bool) -> list[Finding]:
    """Rows compared with objects, for as long as that takes; with `recount` the bytes of every tenant are counted anew before."""
    command = [sys.executable, "-m", "store.checkup", "--verify", *(["--recount"] if recount else [])]
    environment = dict(os.environ)
    if data_dir is not None:
        environment["SECATEUR_DATA_DIR"] = str(data_dir.expanduser().absolute())
    return _checkup(command, environment, VERIFY_SECONDS)


def _checkup(command: list[str], environment: Mapping[str, str], seconds: float) -> list[Finding]:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=seconds - 5, check=False)
    try:
        return FINDINGS.validate_json(done.stdout)
    except ValidationError:
        last = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        return [
            wrong(
                "server's parts",
                f"`python -m store.checkup` failed: {last}",
                "Reinstall, then report this.",
            )
        ]


def leftover(data_dir: Path | None) -> list[Finding]:
    """An announcement of a `secateur up` that is gone: scripts would go by its address."""
    file = _announcement(data_dir)
    if file is None or not file.exists() or _announced(data_dir):
        return []
    remedy = "`secateur doctor --fix` removes the file; so does the next `secateur up`."
    return [wrong("leftover", f"{file} refers to a server that is no longer running", remedy)]


def remove_leftover(data_dir: Path | None) -> str:
    """Mends what `leftover` finds; says what was done."""
    file = _announcement(data_dir)
    if file is not None:
        file.unlink(missing_ok=True)
    return f"removed {file}"


def running_at(data_dir: Path | None) -> str | None:
    """The address of the `secateur up` on this folder, where one runs."""
    return _announced(data_dir).get("url")


def _announcement(data_dir: Path | None) -> Path | None:
    return None if data_dir is None else data_dir.expanduser().absolute() / "up.json"


def _announced(data_dir: Path | None) -> dict[str, str]:
    """What the `secateur up` on this folder says, while its process lives; else nothing."""
    file = _announcement(data_dir)
    with suppress(OSError, ValueError, KeyError):
        found: dict[str, str] = json.loads(file.read_text()) if file else {}
        os.kill(int(found["pid"]), 0)
        return found
    return {}
