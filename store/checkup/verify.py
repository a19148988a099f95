"""Compares rows with objects: files that rows reference and the artifact store lacks, objects that no row references, byte
counts.

For use after a restore, before the first orphan is removed. It reads every row of a file and lists every object, in batches.
"""

import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Select, select, tuple_

from api_schemas.api.checkup import Finding, ok, warning, wrong
from store.database import stored_bytes
from store.database.connection import Database
from store.database.paging import at
from store.database.tables import JobStepFile, ResumablePart, UploadFile
from store.files import orphans
from store.files.artifacts import Artifacts
from store.settings import Settings

ROWS = 5000
NAMED = 5
_RESTORE = "docs/deploy.md, Restoring, describes what to restore in which order"


def stored_files(settings: Settings) -> list[Finding]:
    """Whether every file that a row names is in the store, in its size."""
    database, artifacts = Database(settings.database_url), Artifacts(settings.artifacts_url)
    with tempfile.TemporaryDirectory() as folder:
        # On disk: millions of keys need not fit into memory.
        books = sqlite3.connect(Path(folder) / "files.db", isolation_level=None)
        books.execute("CREATE TABLE named (key TEXT PRIMARY KEY, size INTEGER, owner TEXT) WITHOUT ROWID")
        books.execute("CREATE TABLE there (key TEXT PRIMARY KEY, size INTEGER) WITHOUT ROWID")
        books.execute("BEGIN")
        try:
            # The rows first: what they name was stored before they were written.
            books.executemany("INSERT OR REPLACE INTO named VALUES (?, ?, ?)", _named(database))
            listed = (found for prefix in orphans.PREFIXES for found in artifacts.list(prefix))
            books.executemany("INSERT OR REPLACE INTO there VALUES (?, ?)", ((one.key, one.size) for one in listed))
            return _lost(books)
        finally:
            database.close()
            books.close()


def _lost(books: sqlite3.Connection) -> list[Finding]:
    lost = "FROM named LEFT JOIN there USING (key) WHERE there.size IS NOT named.size"
    (names,) = books.execute("SELECT count(*) FROM named").fetchone()
    (count,) = books.execute(f"SELECT count(*) {lost}").fetchone()
    if not count:
        return [ok("stored files", f"all {names} files in the database are in the store")]
    (owners,) = books.execute(f"SELECT count(DISTINCT owner) {lost}").fetchone()
    some = books.execute(f"SELECT DISTINCT owner {lost} ORDER BY owner LIMIT {NAMED}").fetchall()
    listed = ", ".join(owner for (owner,) in some) + (" and more" if owners > NAMED else "")
    found = f"{count} of {names} files are missing or have another size, of {owners} uploads and jobs: {listed}"
    remedy = f"{_RESTORE}. Requests for a lost file get 410 `artifact_lost`; delete those uploads and jobs, or tell their owners."
    return [wrong("stored files", found, remedy)]


def unnamed_objects(settings: Settings) -> list[Finding]:
    """What maintenance would remove: a dry run of it."""
    database, artifacts = Database(settings.database_url), Artifacts(settings.artifacts_url)
    count = size = 0
    try:
        for found in orphans.orphans(database, artifacts, settings.orphan_seconds):
            count, size = count + 1, size + found.size
    finally:
        database.close()
    if not count:
        return [ok("unnamed objects", f"none older than {settings.orphan_seconds:g} s")]
    said = f"{count} objects, {size} bytes, unreferenced and older than {settings.orphan_seconds:g} s"
    remedy = (
        "If the database was not restored, do nothing: maintenance removes them. "
        f"If it was, {_RESTORE}; until then SECATEUR_ORPHAN_DRY_RUN=true keeps them."
    )
    return [warning("unnamed objects", said, remedy)]


def counted_bytes(settings: Settings) -> list[Finding]:
    """Whether the bytes of every tenant are counted as its rows are."""
    database = Database(settings.database_url)
    try:
        with database.read() as session:
            differing = stored_bytes.differing(session)
    finally:
        database.close()
    if not differing:
        return [ok("counted bytes", "match the files in the database")]
    listed = ", ".join(sorted(differing)[:NAMED])
    remedy = "secateur doctor --verify --fix recounts them. If nobody changed the database by hand, please report this."
    return [wrong("counted bytes", f"the quotas of {len(differing)} tenants use wrong numbers: {listed}", remedy)]


def count_anew(settings: Settings) -> str:
    """Mends what `counted_bytes` finds; says what was done."""
    database = Database(settings.database_url)
    try:
        with database.write() as session:
            stored_bytes.count_anew(session)
    finally:
        database.close()
    return "recounted the bytes of every tenant"


def _named(database: Database) -> Iterator[tuple[str, int, str]]:
    """Key, size and whose file it is, of every row that names one."""
    for table, owner in (
        (UploadFile, UploadFile.upload_id),
        (JobStepFile, JobStepFile.job_id),
        (ResumablePart, ResumablePart.resumable_id),
    ):
        identity = tuple(table.__mapper__.primary_key)
        query: Select[Any] = select(*identity, table.key, table.size, owner.label("owner"))
        query = query.where(table.key.is_not(None)).order_by(*identity).limit(ROWS)
        last: tuple[Any, ...] | None = None
        while True:
            beyond = query if last is None else query.where(tuple_(*identity) > at(last, identity))
            with database.read() as session:
                rows = session.execute(beyond).all()
            yield from ((row.key, row.size, row.owner) for row in rows)
            if len(rows) < ROWS:
                break
            last = tuple(rows[-1][: len(identity)])
