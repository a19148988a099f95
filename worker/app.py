"""The job worker: a Celery process that supervises one engine at a time.

    celery -A worker.app worker -Q jobs

No torch here: the engine is a process of its own. On SIGTERM the engine is ended and its job handed back.
"""

import atexit
import logging
import threading
from functools import lru_cache
from typing import Any

from celery.signals import worker_init, worker_ready, worker_shutting_down

from store.database.connection import Database
from store.files.artifacts import Artifacts
from store.queue import broker
from store.settings import get_settings
from worker import worker_logs as worker_logs  # listens from here on
from worker.children import confinement
from worker.supervisor.scratch import Scratch
from worker.supervisor.supervisor import Supervisor

log = logging.getLogger(__name__)

app = broker.make_celery(get_settings())
shutdown = threading.Event()


@lru_cache(maxsize=1)
def supervisor() -> Supervisor:
    """This process's supervisor, made when the worker is ready and not at import."""
    settings = get_settings()
    scratch = Scratch(settings.scratch, settings.worker_name)
    atexit.register(scratch.close)
    database, artifacts = Database(settings.database_url, settings.database_seconds), Artifacts(settings.artifacts_url)
    made = Supervisor(settings, database, artifacts, scratch, shutdown)
    atexit.register(made.close)
    return made


def run_jobs() -> None:
    """A wake-up came: run jobs until none is left."""
    supervisor().run_until_empty()


app.task(name=broker.RUN_JOBS)(run_jobs)


def check_cage(**_: Any) -> None:
    """A worker that cannot keep engines apart as its settings ask for ends before it takes a job."""
    log.info("engines are kept apart by %s", ", ".join(confinement.check(get_settings())))


def look_for_work(**_: Any) -> None:
    """A wake-up may have been lost while no worker was up: every worker looks once when it starts."""
    supervisor().warm_up()
    broker.publish_wake(get_settings())


def stop_work(**_: Any) -> None:
    """SIGTERM came: the supervisor's thread sees the event, ends the engine and hands the job back; Celery waits for it."""
    shutdown.set()


worker_init.connect(check_cage)
worker_ready.connect(look_for_work)
worker_shutting_down.connect(stop_work)
