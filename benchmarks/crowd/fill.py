"""Fills a migrated database as years of a crowd would: rows in bulk, past the code that would make them one by one.

Half of everything is the tenant `default`, whose calls are measured; the rest is shared evenly by many. Of 1000 jobs 960 have
ended, the oldest first; of those that live most wait. Everything follows from the number of jobs.
"""

import json
from base64 import b32encode
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import md5
from itertools import islice
from typing import Any, cast

from psycopg import sql
from sqlalchemy import Connection, Table

from api_schemas.enums import Phase
from api_schemas.results.events import PhaseChanged, StateChanged
from store.database import postgresql
from store.database.connection import Database
from store.database.tables import Base
from store.database.tenancy import DEFAULT_TENANT
from tests.support.jobs.records import job_request
from tests.support.jobs.sample_metrics import measured_step

DAYS = 60
"""Between the oldest row and now."""
FILES_A_STEP, FILES_AN_UPLOAD, EVENTS_A_JOB = 8, 10, 10
PAUSED_INPUTS = 520
"""Uploads, the first of all by identifier, that paused jobs need; fewer where there are few."""
UPLOAD_BYTES = sum(range(1000, 1000 + FILES_AN_UPLOAD))
STEP_BYTES = 1000 * FILES_A_STEP
BATCH = 20_000
Row = dict[str, Any]


@dataclass
class Crowd:
    """What calls name; of the tenant `default`."""

    ended: list[str] = field(default_factory=list)
    queued: list[str] = field(default_factory=list)
    paused: list[str] = field(default_factory=list)
    running: list[str] = field(default_factory=list)
    models: list[str] = field(default_factory=list)
    """That no job needs."""
    shared_model: str = ""
    """That a tenth of the jobs pruned, the older ones."""
    webhook: str = ""
    keys: list[str] = field(default_factory=list)
    """Of artifacts that steps name."""
    counts: dict[str, int] = field(default_factory=dict)
    """Rows by table."""


def identifier(prefix: str, number: int) -> str:
    """As random as real ones are, and the same every time."""
    return f"{prefix}_{b32encode(md5(f'{prefix}{number}'.encode()).digest()).decode().rstrip('=').lower()}"


def fill(database: Database, jobs: int) -> Crowd:
    """All tables, and the statistics that a planner goes by."""
    crowd = Crowd()
    with database.engine.execution_options(secateur_write=True).connect() as connection:
        connection.begin()
        if not database.sqlite:
            _without_limits(connection)
            # Of this session: rows are made whole, and looking up each one's parent would take longer than writing it.
            connection.exec_driver_sql("SET session_replication_role = replica")
        for name, rows in _tables(crowd, jobs):
            crowd.counts[name] = _write(connection, Base.metadata.tables[name], rows)
        connection.commit()
    with database.engine.execution_options(isolation_level="AUTOCOMMIT", secateur_write=True).connect() as connection:
        if not database.sqlite:
            _without_limits(connection)
        connection.exec_driver_sql("ANALYZE" if database.sqlite else "VACUUM ANALYZE")
    return crowd


def _without_limits(connection: Connection) -> None:
    """This is no request, and takes as long as it takes."""
    for name in postgresql.LIMITS:
        connection.exec_driver_sql(f"SET {name} = 0")


def _write(connection: Connection, table: Table, rows: Iterator[Row]) -> int:
    first = next(rows)
    names = list(first)
    written = 0
    everything = (tuple(row.values()) for row in _chain(first, rows))
    while batch := list(islice(everything, BATCH)):
        _insert(connection, table.name, names, batch)
        written += len(batch)
    return written


def _insert(connection: Connection, table: str, names: Sequence[str], batch: Iterable[tuple[Any, ...]]) -> None:
    cursor = connection.connection.cursor()
    if connection.dialect.name == "sqlite":
        marks = ", ".join("?" * len(names))
        quoted = ", ".join(f'"{name}"' for name in names)
        cursor.executemany(f'INSERT INTO "{table}" ({quoted}) VALUES ({marks})', [_for_sqlite(row) for row in batch])
        return
    copy = sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, names))
    )
    with cast(Any, cursor).copy(copy) as out:
        for row in batch:
            out.write_row(row)


def _for_sqlite(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Moments as store/database/clock.py writes them."""
    return tuple(
        value.replace(tzinfo=None).isoformat(sep=" ", timespec="milliseconds") if isinstance(value, datetime) else value
        for value in row
    )


def _chain(first: Row, rows: Iterator[Row]) -> Iterator[Row]:
    yield first
    yield from rows


class _World:
    """Who owns what, and when it was made."""

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self.tenants = max(4, jobs // 1000)
        self.uploads = max(400, jobs // 4 // 4 * 4)
        self.needed = min(PAUSED_INPUTS, self.uploads // 8 // 4 * 4)
        self.now = datetime.now(UTC)

    def tenant(self, number: int) -> str:
        return DEFAULT_TENANT if number % 2 == 0 else f"tenant-{number // 2 % self.tenants}"

    def made(self, number: int, of: int) -> datetime:
        """In order: the first `DAYS` ago, the last a minute ago."""
        return self.now - timedelta(minutes=1) - timedelta(days=DAYS) * ((of - number) / of)


def _tables(crowd: Crowd, jobs: int) -> Iterator[tuple[str, Iterator[Row]]]:
    world = _World(jobs)
    yield "stored_bytes", _stored_bytes(world)
    yield "tenant_turns", _tenant_turns(world)
    yield "uploads", _uploads(world, crowd)
    yield "upload_files", _upload_files(world)
    yield "jobs", _jobs(world, crowd)
    yield "job_labels", _labels(world)
    yield "job_events", _events(world)
    yield "job_steps", _steps(world)
    yield "job_step_files", _step_files(world, crowd)
    yield "job_logs", _logs(world)
    yield "audit", _audit(world)
    yield "webhooks", _webhooks(world, crowd)
    yield "webhook_deliveries", _deliveries(world, crowd)
    yield "idempotency_keys", _idempotency(world)


def _stored_bytes(world: _World) -> Iterator[Row]:
    sizes: Counter[str] = Counter()
    for number in range(world.uploads):
        if _upload_state(world, number) in ("ready", "open"):
            sizes[world.tenant(number)] += UPLOAD_BYTES
    for number in range(world.jobs):
        if _has_steps(world, number):
            sizes[world.tenant(number)] += STEP_BYTES
    for tenant, size in sizes.items():
        yield {"tenant": tenant, "size": size}


def _tenant_turns(world: _World) -> Iterator[Row]:
    begun: dict[str, datetime] = {}
    for number in range(world.jobs):
        if _job_state(world, number) != "queued":
            begun[world.tenant(number)] = world.made(number, world.jobs)
    for tenant, moment in begun.items():
        yield {"tenant": tenant, "begun_at": moment}


def _upload_state(world: _World, number: int) -> str:
    if number < world.needed:
        return "ready"
    return ("deleted", "expired", "open")[number % 3] if number % 20 == 0 else "ready"


def _uploads(world: _World, crowd: Crowd) -> Iterator[Row]:
    for number in range(world.uploads):
        state, tenant = _upload_state(world, number), world.tenant(number)
        row_id = _upload_id(world, number)
        free = 2 * world.needed + 4 <= number < world.uploads // 2
        if state == "ready" and tenant == DEFAULT_TENANT and free and _is_model(number):
            crowd.models.append(row_id)
        yield {
            "id": row_id, "tenant": tenant, "kind": "model" if _is_model(number) else "dataset", "name": f"upload {number}",
            "state": state, "created_at": world.made(number, world.uploads), "size": UPLOAD_BYTES,
            "gone_at": world.now if state in ("deleted", "expired") else None,
        }  # fmt: skip


def _is_model(number: int) -> bool:
    return number % 4 < 2


def _upload_id(world: _World, number: int) -> str:
    prefix = "mdl" if _is_model(number) else "dst"
    if number < world.needed:  # Before every other one: where batches begin.
        return f"{prefix}_aaaaaaaaaa{identifier('x', number)[2:18]}"
    return identifier(prefix, number)


def _upload_files(world: _World) -> Iterator[Row]:
    for number in range(world.uploads):
        upload_id, tenant = _upload_id(world, number), world.tenant(number)
        kept = _upload_state(world, number) in ("ready", "open")
        for position in range(FILES_AN_UPLOAD):
            name = "config.json" if position == 0 else f"model-{position:05d}.safetensors"
            # The first is the same in every upload, as a preprocessor's settings are.
            sha256 = "ab" * 32 if position == 0 else md5(f"{number}.{position}".encode()).hexdigest() * 2
            yield {
                "upload_id": upload_id, "tenant": tenant, "name": name, "position": position, "size": 1000 + position,
                "sha256": sha256, "key": f"uploads/{upload_id}/{number:x}/{name}" if kept else None,
            }  # fmt: skip


def _job_state(world: _World, number: int) -> str:
    share = number / world.jobs
    if share >= 0.96:
        return (
            ("paused", "running")[number % 2]
            if number % 1000 in (1, 2, 500, 501)
            else "paused"
            if number % 10 == 4
            else "queued"
        )
    return {0: "failed", 1: "cancelled"}.get(number % 12, "succeeded")


def _is_deleted(world: _World, number: int) -> bool:
    return number % 20 in (6, 7) and number < 0.96 * world.jobs


def _job_id(number: int) -> str:
    return identifier("job", number)


def _inputs(world: _World, number: int) -> tuple[str, str]:
    """Model and dataset, of the same tenant; a tenth of the older jobs share a model."""
    if _job_state(world, number) == "paused":
        first = number // 10 * 4 % world.needed + number % 2
    elif number % 20 == 2 and number < world.jobs // 2:
        first = 2 * world.needed
    else:
        first = world.uploads // 2 + number * 7 % (world.uploads // 2 - 4) // 4 * 4 + number % 2
    return _upload_id(world, first), _upload_id(world, first + 2)


def _jobs(world: _World, crowd: Crowd) -> Iterator[Row]:
    crowd.shared_model = _inputs(world, 2)[0]
    request = job_request()
    for number in range(world.jobs):
        job_id, tenant, state = _job_id(number), world.tenant(number), _job_state(world, number)
        model, dataset = _inputs(world, number)
        ended = state in ("succeeded", "failed", "cancelled")
        deleted = _is_deleted(world, number)
        if tenant == DEFAULT_TENANT and not deleted:
            kept = {"queued": crowd.queued, "paused": crowd.paused, "running": crowd.running}.get(state, crowd.ended)
            kept.append(job_id)
        made = world.made(number, world.jobs)
        error = {"code": "engine_crashed", "detail": "The engine ended with status 1.", "errors": []}
        labels = dict(_labels_of(world, number))
        yield {
            "id": job_id, "tenant": tenant, "name": f"job {number}",
            "request": request.model_copy(update={"labels": labels}).model_dump_json(),
            "lineage": json.dumps({"model": model, "model_sha256": "ab" * 32, "dataset": dataset}),
            "model_id": model, "dataset_id": dataset,
            "priority": number % 3 if state == "queued" else 0, "created_at": made,
            "started_at": made if state != "queued" else None,
            "finished_at": made + timedelta(seconds=30) if ended else None, "state": state,
            "error": json.dumps(error) if state == "failed" else None,
            "error_code": "engine_crashed" if state == "failed" else None, "epoch": int(state != "queued"),
            "worker": None if state == "queued" else "worker", "claimed_at": made if state != "queued" else None,
            "lease_until": world.now + timedelta(hours=2) if state == "running" else None, "failures": 0,
            "pause_requested": False, "ran_seconds": 30.0, "last_step": 1 if ended else None,
            "last_seq": EVENTS_A_JOB, "deleted_at": made + timedelta(minutes=1) if deleted else None,
            "events_gone_at": made + timedelta(minutes=1) if deleted else None,
            "stored_bytes": STEP_BYTES if _has_steps(world, number) else 0,
        }  # fmt: skip


def _labels_of(world: _World, number: int) -> Iterator[tuple[str, str]]:
    yield "team", "speech" if number % 10 else "vision"
    if number < world.jobs // 2:
        yield "era", "old"
    else:
        yield "era", "new"
    if number % 10_000 == 12:
        yield "rare", "yes"


def _labels(world: _World) -> Iterator[Row]:
    for number in range(world.jobs):
        if not _is_deleted(world, number):
            for key, value in _labels_of(world, number):
                yield {
                    "job_id": _job_id(number),
                    "tenant": world.tenant(number),
                    "key": key,
                    "value": value,
                    "created_at": world.made(number, world.jobs),
                }


def _events(world: _World) -> Iterator[Row]:
    state, phase = StateChanged(state="queued"), PhaseChanged(phase=Phase.SCORING, step=1, steps=1)
    bodies = [state.model_dump_json(), *[phase.model_dump_json()] * (EVENTS_A_JOB - 2), state.model_dump_json()]
    for number in range(world.jobs):
        if _is_deleted(world, number):
            continue
        job_id, tenant, made = _job_id(number), world.tenant(number), world.made(number, world.jobs)
        for seq, body in enumerate(bodies, 1):
            yield {
                "job_id": job_id, "tenant": tenant, "seq": seq, "created_at": made + timedelta(seconds=seq), "body": body,
            }  # fmt: skip


def _has_steps(world: _World, number: int) -> bool:
    return number < 0.96 * world.jobs and not _is_deleted(world, number)


def _steps(world: _World) -> Iterator[Row]:
    metrics = [measured_step(step).model_dump_json() for step in (0, 1)]
    for number in range(world.jobs):
        if _has_steps(world, number):
            for step in (0, 1):
                yield {
                    "job_id": _job_id(number), "tenant": world.tenant(number), "step": step, "epoch": 1, "metrics": metrics[step],
                    "downloadable": step == 1, "expired": False, "created_at": world.made(number, world.jobs),
                }  # fmt: skip


def _step_files(world: _World, crowd: Crowd) -> Iterator[Row]:
    for number in range(world.jobs):
        if not _has_steps(world, number):
            continue
        job_id, tenant = _job_id(number), world.tenant(number)
        for position in range(FILES_A_STEP):
            name = f"file-{position}.json"
            key = f"jobs/{job_id}/epoch-1/step-1/{name}"
            if len(crowd.keys) < 500:
                crowd.keys.append(key)
            yield {
                "job_id": job_id, "tenant": tenant, "step": 1, "name": name, "size": 1000, "sha256": "ab" * 32, "key": key,
            }  # fmt: skip


def _logs(world: _World) -> Iterator[Row]:
    text = "what an engine writes to its log\n" * 20
    for number in range(world.jobs):
        if not _is_deleted(world, number):
            yield {
                "job_id": _job_id(number), "tenant": world.tenant(number), "attempt": 1, "start": 0, "size": len(text),
                "text": text, "created_at": world.made(number, world.jobs),
            }  # fmt: skip


def _audit(world: _World) -> Iterator[Row]:
    for number in range(2 * world.jobs):
        yield {
            "id": identifier("aud", number), "tenant": world.tenant(number), "action": "create_job",
            "object_id": _job_id(number // 2), "outcome": "done", "created_at": world.made(number, 2 * world.jobs),
        }  # fmt: skip


def _webhooks(world: _World, crowd: Crowd) -> Iterator[Row]:
    crowd.webhook = identifier("whk", 0)
    for number in range(2 * world.tenants):
        yield {
            "id": identifier("whk", number), "tenant": world.tenant(number), "url": "https://example.com/hook",
            "events": json.dumps(["job.succeeded"]), "enabled": number != 0, "secret": "whsec_" + "ab" * 16,
            "created_at": world.now,
        }  # fmt: skip


def _deliveries(world: _World, crowd: Crowd) -> Iterator[Row]:
    deliveries = world.jobs // 2
    for number in range(deliveries):
        pending = number >= 0.99 * deliveries and number % 2 == 1
        yield {
            "id": identifier("dlv", number), "tenant": world.tenant(number),
            "webhook_id": crowd.webhook if number % 2 == 0 else identifier("whk", number % (2 * world.tenants)),
            "message_id": identifier("msg", number), "type": "job.succeeded", "body": "{}", "attempts": 1,
            "state": "pending" if pending else "failed" if number < deliveries // 4 and number % 4 == 0 else "delivered",
            "due_at": world.made(number, deliveries), "created_at": world.made(number, deliveries),
        }  # fmt: skip


def _idempotency(world: _World) -> Iterator[Row]:
    for number in range(max(10, world.jobs // 10)):
        yield {
            "tenant": world.tenant(number), "key": f"key {number}", "fingerprint": "ab" * 32, "token": "ab" * 16,
            "held_until": world.now, "expires_at": world.now + timedelta(hours=3), "status": 202, "headers": "{}", "body": "{}",
        }  # fmt: skip
