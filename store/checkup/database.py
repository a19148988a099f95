"""Checks the database: whether it responds, whether its schema is this version's, whether its clock agrees with ours."""

from datetime import UTC, datetime
from pathlib import Path

from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.exc import SQLAlchemyError

from api_schemas.api.checkup import Finding, ok, warning, wrong
from store.database.clock import now
from store.database.connection import Database, alembic_config
from store.database.postgresql import EncodingError
from store.settings import Settings

SKEW_SECONDS = 30
_MIGRATE = "Start the API, which migrates it (`secateur up`; with containers `docker compose run migrate`)."


def check_database(settings: Settings, *, may_be_absent: bool) -> list[Finding]:
    """Of the settings. `may_be_absent`: `secateur up` will make it."""
    database = Database(settings.database_url, settings.database_seconds)
    shown = database.url.render_as_string(hide_password=True)
    file = Path(database.url.database or "") if database.sqlite else None
    if file is not None and not file.exists():
        if may_be_absent:
            return [ok("database", f"{shown}: does not exist yet, `secateur up` creates it")]
        return [wrong("database", f"{shown}: the file does not exist", f"{_MIGRATE} Or correct SECATEUR_DATABASE_URL.")]
    try:
        return _of(database, shown)
    except EncodingError as error:
        problem, _, remedy = str(error).partition(". ")
        return [wrong("database", f"{shown}: {problem}", remedy)]
    except (SQLAlchemyError, ValueError) as error:
        said = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
        remedy = "Start it, correct SECATEUR_DATABASE_URL, or give this user access to its files."
        return [wrong("database", f"{shown} does not answer: {said}", remedy)]
    finally:
        database.close()


def _of(database: Database, shown: str) -> list[Finding]:
    with database.read() as session:
        connection = session.connection()
        scripts = ScriptDirectory.from_config(alembic_config(connection))
        current = MigrationContext.configure(connection).get_current_revision()
        theirs: datetime = connection.execute(now().select()).scalar_one()
    newest = scripts.get_current_head()
    findings = [ok("database", f"{shown}, schema {current}")]
    if current != newest:
        known = current is None or current in {script.revision for script in scripts.walk_revisions()}
        has = f"has schema {current}" if current else "has no schema yet"
        remedy = _MIGRATE if known else "It was migrated by a newer Secateur: install that version."
        findings = [wrong("database", f"{shown} {has}; this version needs {newest}", remedy)]
    apart = abs((datetime.now(UTC) - theirs).total_seconds())
    if apart > SKEW_SECONDS:
        remedy = "Set the clocks of both machines (timedatectl set-ntp true). Leases use only the database's clock."
        findings.append(warning("clock", f"differs from the database's clock by {apart:.0f} s", remedy))
    return findings
