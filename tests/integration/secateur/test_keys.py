"""`secateur database-keys`: the first key of a database, more of them, and their end, all without a running service.

The first is made as from a shell, through both processes; what follows calls the command in this one.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from api_schemas.enums import KeyScope
from service.commands.database_keys import app
from store.access import api_keys, audit
from store.database.connection import Database
from store.settings import Settings, get_settings


@pytest.fixture(autouse=True)
def settings_anew() -> Iterator[None]:
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


def from_a_shell(data_dir: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "secateur", "database-keys", "--data-dir", str(data_dir), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=dict(os.environ))


def database_keys(data_dir: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, arguments, env={"SECATEUR_DATA_DIR": str(data_dir)})


def test_from_the_first_key_to_its_end(tmp_path: Path) -> None:
    first = from_a_shell(tmp_path, "create", "--bootstrap")
    assert first.returncode == 0, first.stderr
    assert re.fullmatch(r"sk_\w+\n", first.stdout), "nothing but the token, for scripts"
    again = from_a_shell(tmp_path, "create", "--bootstrap")
    assert (again.returncode, again.stdout) == (1, "")
    assert "already has keys" in again.stderr

    made = database_keys(
        *(tmp_path, "create", "--tenant", "acme", "--name", "ci", "--scope", "jobs:read", "--days", "2")
    )
    token = made.stdout.strip()
    database = Database(Settings(data_dir=tmp_path).database_url)
    key = api_keys.authenticate(database, token)
    assert (key.tenant, key.name, key.scopes) == ("acme", "ci", [KeyScope.JOBS_READ])
    assert key.expires_at is not None

    listed = database_keys(tmp_path, "list", "--tenant", "acme")
    assert key.id in listed.stdout
    assert token not in listed.stdout
    assert first.stdout.split("_")[1] not in listed.stdout

    [found] = json.loads(database_keys(tmp_path, "list", "--tenant", "acme", "--json").stdout)
    assert (found["id"], found["revoked_at"], "token" in found) == (key.id, None, False)

    assert database_keys(tmp_path, "revoke", key.id).exit_code == 1, "it is another tenant's"
    revoked = database_keys(tmp_path, "revoke", key.id, "--tenant", "acme", "--json")
    assert (revoked.exit_code, json.loads(revoked.stdout)["id"]) == (0, key.id)
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
    result = database_keys(tmp_path, *arguments)
    assert (result.exit_code, result.stdout) == (2, ""), result.stderr
    assert result.stderr
    assert not list(tmp_path.iterdir())


def test_a_database_that_does_not_answer_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECATEUR_DATABASE_URL", "postgresql+psycopg://nobody@127.0.0.1:1/none")
    result = database_keys(tmp_path, "list")
    assert result.exit_code == 1
    assert "does not answer" in result.stderr
    assert isinstance(result.exception, SystemExit)
