"""What a claim takes where 10,000 jobs wait."""

import time
from statistics import median, quantiles
from typing import Any

from sqlalchemy import text

from benchmarks.crowd.__main__ import StatementClock
from store.database.connection import Database
from store.database.tables import Job
from store.jobs import jobs, transitions
from tests.support.jobs.records import job_request
from tests.support.servers.databases import fresh_database

TENANTS = 10
CHANGED = ("id", "tenant", "created_at")


def measure(server_url: str, waiting: int, claims: int) -> dict[str, Any]:
    """Milliseconds of claims one after the other in a database of its own on that server: the transaction from its beginning to
    its commit, as a worker pays for it, and of that what statements took."""
    with fresh_database(server_url) as url:
        database = Database(url)
        try:
            database.migrate()
            _fill(database, waiting)
            return _timed(database, claims)
        finally:
            database.close()


def _fill(database: Database, waiting: int) -> None:
    """One job as users make them, and copies of its row that differ in what a claim looks at: id, tenant and age."""
    with database.write() as session:
        made = jobs.create(session, "tenant-0", job_request(), {})
        others = ", ".join(column.name for column in Job.__table__.columns if column.name not in CHANGED)
        copies = f"""
            INSERT INTO jobs (id, tenant, created_at, {others})
            SELECT 'job_' || substr(md5(n::text), 1, 26), 'tenant-' || n % {TENANTS}, created_at + n * interval '1 ms', {others}
            FROM jobs, generate_series(1, :copies) AS n WHERE id = :made
        """
        session.execute(text(copies), {"copies": waiting - 1, "made": made.id})
    with database.engine.execution_options(isolation_level="AUTOCOMMIT", secateur_write=True).connect() as connection:
        connection.exec_driver_sql("VACUUM ANALYZE jobs")


def _timed(database: Database, claims: int) -> dict[str, Any]:
    clock, wall, statements = StatementClock(database.engine), [], []
    for number in range(claims + 10):
        clock.reset()
        began = time.perf_counter()
        with database.write() as session:
            claimed = transitions.claim(session, f"worker-{number % 4}", 600, 3)
        wall.append(1000 * (time.perf_counter() - began))
        statements.append(1000 * clock.seconds)
        if claimed is None:
            raise RuntimeError("there was nothing to claim")
    # The first ones make statements and plans that the later ones find.
    wall, statements = wall[10:], statements[10:]
    return {
        "claims": claims,
        "ms": median(wall),
        "p95_ms": quantiles(wall, n=20)[-1],
        "statements_ms": median(statements),
    }
