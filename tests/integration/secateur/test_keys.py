"""`secateur database-keys`: the first key of a database, more of them, and their end, all without a running service."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from api_schemas.enums import KeyScope
from store.access import api_keys, audit
from store.database.connection import Database
from store.settings import Settings


def secateur_keys(data_dir: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "secateur", "database-keys", "--data-dir", str(data_dir), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=dict(os.environ))


def test_from_the_first_key_to_its_end(tmp_path: Path) -> None:
    first = secateur_keys(tmp_path, "create", "--bootstrap")
    assert first.returncode == 0, first.stderr
    assert re.fullmatch(r"sk_\w+\n", first.stdout), "nothing but the token, for scripts"
    again = secateur_keys(tmp_path, "create", "--bootstrap")
    assert (again.returncode, again.stdout) == (1, "")
    assert "has keys already" in again.stderr

    made = secateur_keys(
        *(tmp_path, "create", "--tenant", "acme", "--name", "ci", "--scope", "jobs:read", "--days", "2")
    )
    token = made.stdout.strip()
    database = Database(Settings(data_dir=tmp_path).database_url)
    key = api_keys.authenticate(database, token)
    assert (key.tenant, key.name, key.scopes) == ("acme", "ci", [KeyScope.JOBS_READ])
    assert key.expires_at is not None

    listed = secateur_keys(tmp_path, "list", "--tenant", "acme")
    assert key.id in listed.stdout
    assert token not in listed.stdout
    assert first.stdout.split("_")[1] not in listed.stdout

    [found] = json.loads(secateur_keys(tmp_path, "list", "--tenant", "acme", "--json").stdout)
    assert (found["id"], found["revoked_at"], "token" in found) == (key.id, None, False)

    assert secateur_keys(tmp_path, "revoke", key.id).returncode == 1, "it is another tenant's"
    revoked = secateur_keys(tmp_path, "revoke", key.id, "--tenant", "acme", "--json")
    assert (revoked.returncode, json.loads(revoked.stdout)["id"]) == (0, key.id)
    assert json.loads(revoked.stdout)["revoked_at"] is not None
    with pytest.raises(Exception, match="was revoked"):
        api_keys.authenticate(database, token)
    with database.read() as session:
        noted = [row.action for row in audit.page(session, "acme", None, 10).items]
    assert noted == ["revoke_key", "create_key"]
    database.close()


@pytest.mark.parametrize(
    "arguments",
    [
        ("create", "--tenant", "A B"),
        ("create", "--scope", "root"),
        ("create", "--name", "a\nb"),
        ("create", "--bootstrap", "--days", "2"),
        ("create", "--days", "0"),
        ("revoke",),
    ],
)
def test_what_cannot_be_meant_is_refused_and_makes_nothing(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    result = secateur_keys(tmp_path, *arguments)
    assert (result.returncode, result.stdout) == (2, ""), result.stderr
    assert result.stderr
    assert not list(tmp_path.iterdir())


def test_a_database_that_does_not_answer_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECATEUR_DATABASE_URL", "postgresql+psycopg://nobody@127.0.0.1:1/none")
    result = secateur_keys(tmp_path, "list")
    assert result.returncode == 1
    assert "does not answer" in result.stderr
    assert "Traceback" not in result.stderr
