"""The job worker: a Celery process that supervises one engine at a time.

    celery -A worker.app worker -Q jobs

Does not import torch: the engine is a separate process. On SIGTERM the engine is stopped and its job handed back.
"""

import atexit
import logging
import socket
import threading
from functools import lru_cache
from typing import Any

from celery.signals import worker_init, worker_ready, worker_shutting_down

from store import tracing
from store.database.connection import Database
from store.files.artifacts import Artifacts
from store.jobs.workers.live_workers import Announcement
from store.machine import engine_memory_bytes
from store.queue import broker
from store.settings import Settings, get_settings
from worker import worker_logs as worker_logs  # listens from here on
from worker.children import confinement
from worker.supervisor import device
from worker.supervisor.announcer import Announcer
from worker.supervisor.device_speed import DeviceMeasurer
from worker.supervisor.scratch import HOST_LENGTH, Scratch
from worker.supervisor.supervisor import Supervisor

log = logging.getLogger(__name__)

app = broker.make_celery(get_settings())
shutdown = threading.Event()


@lru_cache(maxsize=1)
def parts() -> tuple[Supervisor, Announcer, DeviceMeasurer]:
    """This process's supervisor, what tells of it, what measures its device; made when the worker is ready, not at import."""
    settings = get_settings()
    scratch = Scratch(settings.scratch, settings.worker_name)
    atexit.register(scratch.close)
    database, artifacts = Database(settings.database_url, settings.database_seconds), Artifacts(settings.artifacts_url)
    who = announcement(settings, scratch)
    made = Supervisor(settings, database, artifacts, scratch, shutdown, who.capability)
    atexit.register(made.close)

    def idle() -> bool:
        return made.idle and not shutdown.is_set()

    announcer = Announcer(settings, database, who, scratch.predecessors, idle)
    atexit.register(announcer.stop)
    measurer = DeviceMeasurer(settings, database, who, idle)
    atexit.register(measurer.stop)
    return made, announcer, measurer


def announcement(settings: Settings, scratch: Scratch) -> Announcement:
    """Who this worker is, and what its engines compute on."""
    host = socket.gethostname()[:HOST_LENGTH]
    found = device.of_engines(settings, scratch.folder)
    log.info("this worker is %s: %s", scratch.name, found)
    return Announcement(
        id=scratch.name,
        name=settings.worker_name or host,
        host=host,
        device=found.kind,
        device_name=found.name,
        device_memory_bytes=found.memory_bytes,
        host_memory_bytes=engine_memory_bytes(settings.engine_memory_bytes),
    )


def run_jobs(wake: str | None = None) -> None:
    """A wake-up came, or something was seen that waits: run jobs until none is left. `wake`: the wake-up's `traceparent`."""
    parts()[0].run_until_empty(wake)


@app.task(name=broker.RUN_JOBS, bind=True)  # type: ignore[untyped-decorator]
def run_jobs_woken(task: Any) -> None:
    """`run_jobs`, as messages call it."""
    run_jobs((task.request.headers or {}).get(tracing.TRACEPARENT))


def check_cage(**_: Any) -> None:
    """A worker that cannot keep engines apart as its settings ask for ends before it takes a job."""
    log.info("engines are kept apart by %s", ", ".join(confinement.check(get_settings())))


def look_for_work(sender: Any, **_: Any) -> None:
    """A wake-up may have been lost while no worker was up: every worker looks once when it starts.

    Later it looks when its announcer sees something that it could run: in the pool, where wake-ups are acted on as well, so that
    there is never more than one at it and Celery waits for it at the end.
    """
    runner, announcer, measurer = parts()
    runner.warm_up()
    broker.publish_wake(get_settings())
    announcer.start(lambda: sender.pool.apply_async(run_jobs_seen, (), {}, callback=lambda _: None))
    measurer.start()


def run_jobs_seen() -> None:
    """As `run_jobs`; there is no task whose failure Celery would log."""
    try:
        run_jobs()
    except Exception:
        log.exception("looking for work failed")


def start_tracing(**_: Any) -> None:
    """To the end of the process, after what is to be traced of it."""
    tracing.start("worker")
    atexit.register(tracing.stop)


def stop_work(**_: Any) -> None:
    """SIGTERM came: the supervisor's thread sees the event, ends the engine and hands the job back; Celery waits for it."""
    shutdown.set()


worker_init.connect(check_cage)
worker_init.connect(start_tracing)
worker_ready.connect(look_for_work)
worker_shutting_down.connect(stop_work)
