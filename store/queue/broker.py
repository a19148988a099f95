"""Every Celery setting, each with its reason, and the one function that publishes.

The database is the source of truth; a message only says "look for work". So every choice here prefers losing or repeating a
message, which maintenance makes up for, over running a job twice or blocking the publisher.
"""

from functools import lru_cache
from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError

from store import tracing
from store.database.connection import Database
from store.queue import outbox
from store.settings import Settings

JOBS, MAINTENANCE = "jobs", "maintenance"

# Tasks are called by name: who publishes does not import who runs.
RUN_JOBS = "secateur.run_jobs"
SWEEP = "secateur.sweep"
DISPATCH_OUTBOX = "secateur.dispatch_outbox"
REDISPATCH = "secateur.redispatch"
EXPIRE = "secateur.expire"
SEND_WEBHOOKS = "secateur.send_webhooks"
CHECK_UPLOADS = "secateur.check_uploads"
COLLECT_ORPHANS = "secateur.collect_orphans"

CONNECT_SECONDS = 2
ANSWER_SECONDS = 5


@lru_cache(maxsize=8)
def make_celery(settings: Settings) -> Celery:
    """The Celery application of these settings; the same object for equal settings."""
    app = Celery("secateur", broker=settings.broker_url, set_as_current=False)
    app.conf.update(celery_settings(settings))
    return app


def celery_settings(settings: Settings) -> dict[str, Any]:
    """All that differs from Celery's defaults."""
    intervals = dict.fromkeys((SWEEP, DISPATCH_OUTBOX, REDISPATCH, CHECK_UPLOADS), settings.sweep_seconds)
    intervals |= dict.fromkeys((EXPIRE, COLLECT_ORPHANS), settings.collect_seconds)
    intervals |= {SEND_WEBHOOKS: settings.webhook_seconds}
    return {
        # --- What a message may be
        # JSON only: unpickling a message would run any code that an attacker put into the broker.
        "task_serializer": "json",
        "accept_content": ["json"],
        # No results: states and metrics are rows. A result backend would be a second truth that nobody reads.
        "result_backend": None,
        "task_ignore_result": True,
        # --- Queues
        # Maintenance has its own queue and its own small process, so that sweeping never waits behind a day-long job.
        "task_queues": {name: {"exchange": name, "routing_key": name} for name in (JOBS, MAINTENANCE)},
        "task_default_queue": MAINTENANCE,
        "task_create_missing_queues": False,  # A mistyped queue is an error, not a new queue that nobody consumes.
        "task_routes": {RUN_JOBS: {"queue": JOBS}},
        # --- Delivery
        # Early ack: a message is gone once a worker starts on it. Late ack with tasks longer than the visibility timeout
        # runs them twice at once (measured); redelivery is the lease's business, not the broker's.
        "task_acks_late": False,
        "task_reject_on_worker_lost": False,  # Would re-run a task that kills its worker, for ever and with no cap.
        # One message at a time, so that a busy worker does not sit on wake-ups that an idle one could use.
        "worker_prefetch_multiplier": 1,
        "broker_transport_options": {
            # Redelivery of a wake-up that a busy worker holds unacknowledged: harmless, so the default hour will do.
            "visibility_timeout": 3600,
            # A dead broker must not hold up a request: without these and the policy below publishing blocks 19.5 s.
            "socket_connect_timeout": CONNECT_SECONDS,
            # Nor may one that takes connections and never answers. Well above a consumer's blocking reads of a second.
            "socket_timeout": ANSWER_SECONDS,
            "retry_on_timeout": False,
            "max_retries": 1,
            "interval_start": 0,
            "interval_step": 0,
            "socket_keepalive": True,  # Notice a broker that vanished without closing the connection.
            "health_check_interval": 25,
        },
        "broker_connection_timeout": CONNECT_SECONDS,
        "task_publish_retry": True,
        # One more try, at once, for a pooled connection that died of age. More is the outbox's job.
        "task_publish_retry_policy": {"max_retries": 1, "interval_start": 0, "interval_step": 0, "interval_max": 0},
        # A worker, unlike a publisher, waits for its broker for as long as it takes.
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        # The job that runs goes on when the broker is lost: it needs only the database.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        # --- Processes
        # A thread, not a fork: the supervisor is light (no torch) and starts the engine as a process of its own; a thread
        # sees the shutdown event, so that SIGTERM ends the engine and hands the job back. One job at a time a device.
        "worker_pool": "threads",
        "worker_concurrency": 1,
        # No broadcast commands: `revoke` reaches only workers that are up; cancelling is a row.
        "worker_enable_remote_control": False,
        "worker_send_task_events": False,
        # However a worker is started, it neither greets others (mingle) nor tells them how it is (gossip, event heartbeats): the
        # database knows. Celery has options of the command line for that, and no setting.
        "worker_consumer": "store.queue.consumer:Consumer",
        "worker_hijack_root_logger": True,
        "timezone": "UTC",
        # --- Beat
        # Only intervals, so nothing needs remembering: no schedule file that two beats could quarrel over.
        "beat_scheduler": "store.queue.scheduler:Scheduler",
        "beat_max_loop_interval": max(1.0, min(settings.sweep_seconds, settings.webhook_seconds, 5.0)),
        # A tick that was not run before the next one came is dropped: after a pause one run is enough.
        "beat_schedule": {
            name: {"task": name, "schedule": interval, "options": {"queue": MAINTENANCE, "expires": interval}}
            for name, interval in intervals.items()
        },
    }


def publish_wake(settings: Settings) -> None:
    """Tell one worker to look for work. Raises ConnectionError, soon, where the broker does not answer."""
    _publish(settings, RUN_JOBS, JOBS)


def publish_outbox(database: Database, settings: Settings) -> int:
    """Publish what the last transactions left in the outbox; what the broker does not take now, maintenance sends later."""
    tasks = {outbox.WAKE: (RUN_JOBS, JOBS), outbox.CHECK: (CHECK_UPLOADS, MAINTENANCE)}
    return outbox.dispatch(database, lambda topic, traceparent: _publish(settings, *tasks[topic], traceparent))


def _publish(settings: Settings, task: str, queue: str, traceparent: str | None = None) -> None:
    """`traceparent`: of what the message is a part of; the message carries its own."""
    sending = tracing.UNTRACED
    if traceparent is not None:
        sent = {"messaging.system": "celery", "messaging.destination.name": queue}
        sending = tracing.begin(f"publish {task}", sent, parent=traceparent, kind="producer")
    with tracing.current(sending):
        carried = {tracing.TRACEPARENT: sending.traceparent} if sending.traceparent else {}
        try:
            make_celery(settings).send_task(task, queue=queue, headers=carried)
        except OperationalError as error:
            raise ConnectionError(str(error)) from error


def waiting_wakes(settings: Settings, queue: str = JOBS) -> int:
    """How many messages of a queue no worker has taken yet; of `jobs` they are wake-ups. Raises ConnectionError."""
    app = make_celery(settings)
    with app.connection_for_write() as connection:
        try:
            return int(app.amqp.queues[queue](connection.default_channel).queue_declare().message_count)
        except (OperationalError, *connection.connection_errors) as error:
            raise ConnectionError(str(error)) from error
