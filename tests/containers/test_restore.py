"""Backed up, lost, restored: by the commands of docs/deploy.md, in its order. The last test of the stack, which it makes anew."""

import re
import subprocess
from typing import Any

from tests.containers.conftest import Stack
from tests.containers.engine import ROOT

PAGE = (ROOT / "docs" / "deploy.md").read_text()


def commands(title: str) -> list[str]:
    """The lines of the block below a line of the page that has `title`."""
    found = re.search(rf"{re.escape(title)}.*?```bash\n(.*?)```", PAGE, re.DOTALL)
    assert found, title
    return found[1].strip().splitlines()


def run(stack: Stack, line: str) -> None:
    """A line as it stands there, for these containers."""
    ours = " ".join(f"'{word}'" for word in stack.compose.command())
    line = line.replace("docker compose --env-file docker/.env", ours)
    subprocess.run(
        ["bash", "-euo", "pipefail", "-c", line], cwd=stack.compose.folder, env=stack.compose.environment, check=True
    )


def seen(stack: Stack) -> list[Any]:
    """What a user sees that has to be the same."""
    page = stack.client.call("GET", "/jobs?limit=100").json()
    jobs = [stack.client.job(job["id"]) for job in page["items"]]
    return [page, jobs, stack.client.fingerprint(stack.reference_job)]


def test_a_backup_brings_everything_back(stack: Stack) -> None:
    before = seen(stack)
    stack.compose.environment["SECATEUR_API_KEY"] = stack.client.options["headers"]["Authorization"].split()[-1]
    assert before[2] == stack.reference
    for line in commands("back up while everything runs"):
        run(stack, line)
    stack.compose("down", "--volumes", "--timeout", "5")
    for line in commands("Restore into empty volumes"):
        run(stack, line)
    authority = stack.compose("exec", "-T", "proxy", "cat", "/data/caddy/pki/authorities/local/root.crt")
    stack.client.options["verify"].load_verify_locations(cadata=authority)
    assert seen(stack) == before
    stack.judge(stack.submit())
