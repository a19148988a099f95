"""What every route needs: settings, database, artifacts (created once per process), and the caller. Passed to routes as a
dependency (service/dependencies.py)."""

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ParamSpec, TypeVar

from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from api_schemas.enums import AuditAction
from service.access.caller import ANYBODY, Caller
from service.access.failed_attempts import FailedAttempts
from service.access.long_requests import LongRequests
from service.access.rate_limits import RateLimits
from service.access.turns import MOST_THREADS, Turns
from service.event_streams import EventStreams
from service.readiness import Readiness
from store.access import audit
from store.database.connection import Database
from store.files.artifacts import Artifacts
from store.jobs.queue_positions import QueuePositions
from store.jobs.workers.live_workers import LiveWorkers
from store.queue import broker
from store.settings import Settings

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Services:
    """Safe to share between threads."""

    settings: Settings
    database: Database
    artifacts: Artifacts
    rate_limits: RateLimits
    failed_attempts: FailedAttempts
    streams: EventStreams
    """Of events; used on the event loop alone."""
    long_requests: LongRequests
    """Whose keys are asked for again; used on the event loop alone."""
    queue_positions: QueuePositions
    """In the queue."""
    workers: LiveWorkers
    readiness: Readiness
    turns: Turns
    long_turns: Turns = field(default_factory=lambda: Turns(1))
    """Of what a tenant does one after another: it takes seconds of a processor, or comes by the dozen."""
    check_waits: Counter[str] = field(default_factory=Counter)
    """Requests of each tenant that wait for a check; used on the event loop alone."""
    waking: threading.Lock = field(default_factory=threading.Lock)
    """Held by the one thread that publishes: a broker that does not answer costs no more than that one."""
    wake_wanted: threading.Event = field(default_factory=threading.Event)
    caller: Caller = ANYBODY
    """Of the request that these are handed to."""

    @classmethod
    def of(cls, settings: Settings) -> "Services":
        database = Database(settings.database_url, settings.database_seconds)
        artifacts, turns = Artifacts(settings.artifacts_url), Turns(MOST_THREADS)
        queue_positions = QueuePositions(database, settings.failure_cap)
        readiness = Readiness(
            {
                "database": database.ping,
                "broker": lambda: broker.waiting_wakes(settings),
                "artifacts": lambda: artifacts.exists("ready"),
            }
        )
        return cls(
            settings,
            database,
            artifacts,
            RateLimits.of(settings),
            FailedAttempts.of(settings),
            EventStreams(settings, database, turns.one),
            LongRequests(database),
            queue_positions,
            LiveWorkers(database),
            readiness,
            turns,
        )

    async def in_thread(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """`work` in a thread, which is one of those that the tenant may have at once. For coroutines: a plain route is in one."""
        async with self.turns.one(self.tenant):
            return await run_in_threadpool(work, *args, **kwargs)

    @property
    def tenant(self) -> str:
        """Whose rows the request may reach."""
        return self.caller.tenant

    def note(self, session: Session, action: AuditAction, object_id: str) -> None:
        """Put the change that `session` makes into the audit log, under the caller's name."""
        caller = self.caller
        audit.record(session, caller.tenant, action, object_id, key_id=caller.key_id, request_id=caller.request_id)
