"""The maintenance worker: keeps jobs moving after a process, a message or a machine was lost.

    celery -A worker.maintenance worker -Q maintenance        celery -A worker.maintenance beat

A small separate process without torch. Every task is idempotent: two beats, or two of these workers, may overlap.
"""

import atexit
import logging
import threading
from functools import lru_cache
from typing import Any

from celery.signals import worker_init, worker_shutting_down

from store import retention, tracing
from store.database import marks
from store.database.clock import moment
from store.database.connection import Database
from store.files import orphans
from store.files.artifacts import Artifacts
from store.jobs import jobs, preemption, transitions
from store.jobs.preemption import Rules
from store.jobs.workers import live_workers
from store.machine import disk_of
from store.outbound.client import OutboundClient
from store.outbound.url_rules import UrlRules
from store.queue import broker
from store.settings import Settings, get_settings
from store.webhooks import deliveries
from worker import worker_logs as worker_logs  # listens from here on
from worker.checks import Checker
from worker.supervisor.scratch import Scratch
from worker.webhooks import Sender

log = logging.getLogger(__name__)

# More idle workers than this are woken over several ticks.
MOST_WAKES = 32


def sweep(database: Database, settings: Settings) -> int:
    """End jobs whose worker is gone and that no worker will take again; returns how many. It leaves a mark, by which others see
    that maintenance lives."""
    disk = disk_of(settings.scratch)
    with database.write() as session:
        ended = transitions.sweep(session, settings.failure_cap)
        left = {marks.SWEPT: int(moment(session).timestamp())}
        marks.put(session, left if disk is None else left | {marks.DISK: disk.total, marks.DISK_FREE: disk.free})
    if ended:
        log.warning("ended %d jobs whose workers stopped responding", ended)
    return ended


def preempt(database: Database, settings: Settings) -> int:
    """Have jobs of low priority hand their workers to those of high priority, where the settings say so; returns how many are
    asked to."""
    if settings.preemption == "off":
        return 0
    rules = Rules(settings.preemption == "all", settings.max_preemptions, settings.max_running_jobs)
    with database.write() as session:
        asked = preemption.arrange(session, rules)
    for job_id, other in asked:
        log.info("requested that job %s yields its worker to job %s", job_id, other)
    return len(asked)


def redispatch(database: Database, settings: Settings) -> int:
    """Wake workers for jobs that wait, where wake-ups were lost or a wait has ended; returns how many were published."""
    with database.read() as session:
        # What none of them can hold waits for one that can, who looks by itself when it starts.
        held = live_workers.fleet(session).can_hold()
        claimable = jobs.count_claimable(session, settings.failure_cap, settings.max_running_jobs, MOST_WAKES, held)
    if not claimable:
        return 0
    try:
        # Counting what is under way keeps the queue short while all workers are busy.
        missing = max(0, claimable - broker.waiting_wakes(settings))
        for _ in range(missing):
            broker.publish_wake(settings)
    except ConnectionError as error:
        log.warning("the broker does not answer; %d jobs are waiting: %s", claimable, error)
        return 0
    return missing


def expire(database: Database, settings: Settings) -> int:
    """Let go of what is kept for a time that is over; returns how many rows or jobs it were, those beside the log left out."""
    expired = retention.expire(database, settings)
    deliveries.expire(database, settings.webhook_log_seconds)
    said = {
        "uploads": expired.uploads,
        "ended jobs": expired.ended_jobs,
        "jobs' checkpoints": expired.jobs,
        "jobs' events": expired.events,
        "log pieces": expired.logs,
        "tombstones": expired.tombstones,
        "audit log entries": expired.audit,
    }
    if any(said.values()):
        log.info("expired: %s", ", ".join(f"{count} {what}" for what, count in said.items() if count))
    return sum(said.values())


def collect_orphans(database: Database, settings: Settings) -> int:
    """Remove artifacts that no row names; returns how many, of a dry run how many it would be."""
    dry_run = settings.orphan_dry_run
    removed = orphans.collect(
        database,
        Artifacts(settings.artifacts_url),
        settings.orphan_seconds,
        settings.restored_seconds,
        dry_run=dry_run,
    )
    if removed:
        log.info("%s %d unreferenced artifacts", "would remove" if dry_run else "removed", removed)
    return removed


# Three ticks every few seconds, all day: only what they find is worth a line.
# And httpx would log whole addresses, in which receivers like to keep their secrets.
for name in ("celery.worker.strategy", "celery.app.trace", "celery.beat", "httpx"):
    logging.getLogger(name).setLevel(logging.WARNING)

app = broker.make_celery(get_settings())
# Looking for orphans, expiring, and reading a dataset may take minutes, and no sweep may wait for any of them. Webhooks are sent
# by threads of their own: here a few slow receivers would take all of these.
app.conf.worker_concurrency = 3 + get_settings().max_inspections
_database = Database(get_settings().database_url, get_settings().database_seconds)
_sender = Sender(_database, get_settings(), OutboundClient(UrlRules.of(get_settings())))
_stop = threading.Event()


@lru_cache(maxsize=1)
def _checker() -> Checker:
    """Made in the worker, and not in beat, which imports this as well."""
    settings = get_settings()
    # Apart from those of job workers, who ask whose folders were left: nothing is owed for one of these.
    scratch = Scratch(settings.scratch / "checks")
    scratch.forget()
    atexit.register(scratch.close)
    return Checker(settings, _database, Artifacts(settings.artifacts_url), scratch, _stop)


# Named functions: Celery writes a header from a task's name, and `<lambda>` is none.
def run_sweep() -> int:
    """`sweep` and `preempt`, of this process's database."""
    return sweep(_database, get_settings()) + preempt(_database, get_settings())


def run_dispatch_outbox() -> int:
    """`publish_outbox`, of this process's database."""
    return broker.publish_outbox(_database, get_settings())


def run_redispatch() -> int:
    """`redispatch`, of this process's database."""
    return redispatch(_database, get_settings())


def run_expire() -> int:
    """`expire`, of this process's database."""
    return expire(_database, get_settings())


def run_collect_orphans() -> int:
    """`collect_orphans`, of this process's database."""
    return collect_orphans(_database, get_settings())


def run_send_webhooks() -> None:
    """Have sent what is due, from this process's database."""
    _sender.send_due()


def start_tracing(**_: Any) -> None:
    """To the end of the worker's process; beat, which imports this as well, traces nothing."""
    tracing.start("maintenance")
    atexit.register(tracing.stop)


def stop(**_: Any) -> None:
    """On TERM: start no further calls, and put datasets that are being read back for the next process."""
    _stop.set()
    _sender.close()


def run_check_uploads() -> int:
    """Check the datasets that wait in this process's database."""
    return _checker().check_waiting()


app.task(name=broker.CHECK_UPLOADS)(run_check_uploads)
app.task(name=broker.SEND_WEBHOOKS)(run_send_webhooks)
app.task(name=broker.SWEEP)(run_sweep)
app.task(name=broker.DISPATCH_OUTBOX)(run_dispatch_outbox)
app.task(name=broker.REDISPATCH)(run_redispatch)
app.task(name=broker.EXPIRE)(run_expire)
app.task(name=broker.COLLECT_ORPHANS)(run_collect_orphans)
worker_init.connect(start_tracing)
worker_shutting_down.connect(stop)
