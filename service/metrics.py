"""Prometheus metrics on a separate port: HTTP requests as they happen, and the queue as the database has it at every scrape.

No label names a tenant, a key or a job: the scraper belongs to the operator, and the number of series stays small.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from prometheus_client import CollectorRegistry, Counter, Histogram, start_http_server
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from api_schemas.enums import DeviceKind
from store import backlogs
from store.backlogs import Maintenance
from store.database.connection import Database
from store.jobs import statistics
from store.jobs.workers import statistics as worker_statistics
from store.jobs.workers.statistics import WorkerStatistics
from store.machine import disk_of
from store.settings import Settings

log = logging.getLogger(__name__)

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120, 600)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})


class HttpMetrics:
    """What requests cost."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._seconds = Histogram(
            "secateur_http_request_seconds",
            "From the first byte of a request to the last of its answer.",
            ("method", "route", "status"),
            buckets=_SECONDS,
            registry=registry,
        )
        self._uploaded = Counter(
            "secateur_upload_bytes", "Bytes of files that came, whatever became of them.", registry=registry
        )

    def observe(self, method: str, route: str, status: int, seconds: float, received: int) -> None:
        """One request that has ended; `received` bytes of body."""
        named = method if method in _METHODS else "other"
        self._seconds.labels(named, route, f"{status // 100}xx").observe(seconds)
        if method in ("PUT", "PATCH"):
            self._uploaded.inc(received)


class QueueMetrics(Collector):
    """What the database says now."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._max_running = settings.max_running_jobs
        self._artifacts = _folder(settings.artifacts_url)

    def collect(self) -> Iterator[Metric]:
        """Asked at every scrape."""
        answers = GaugeMetricFamily("secateur_database_up", "Whether the database answered this scrape.")
        try:
            with self._database.read() as session:
                found = statistics.read(session)
                workers = worker_statistics.read(session, self._max_running)
                maintenance = backlogs.read(session)
        except SQLAlchemyError as error:
            log.warning("metrics without the database: %s", error)
            answers.add_metric((), 0)
            yield answers
            return
        answers.add_metric((), 1)
        yield answers
        yield _gauge("secateur_queue_depth", "Jobs that are queued.", found.queued)
        yield _gauge(
            "secateur_oldest_queued_seconds",
            "How long the oldest queued job has been there; 0 without any.",
            found.oldest_queued_seconds,
        )
        yield _by("secateur_jobs", "Jobs by state.", "state", found.jobs_by_state)
        yield _by("secateur_jobs_failed", "Failed jobs by the code of their error.", "code", found.failures_by_code)
        yield _by(
            "secateur_attempts_failed",
            "Attempts of the last day that ended unplanned, by code; the job was tried again, or failed at the cap.",
            "code",
            found.crashes_by_code,
        )
        yield _by(
            "secateur_phase_seconds",
            "Time spent in each phase by the jobs that ended within the last day.",
            "phase",
            found.phase_seconds,
        )
        yield _by("secateur_phase_times", "How often those jobs were in each phase.", "phase", found.phase_times)
        yield _gauge("secateur_stored_bytes", "Bytes of uploads and checkpoints.", found.stored_bytes)
        yield _gauge(
            "secateur_lease_expiries",
            "How often, in the last day, a job was taken from a worker that had fallen silent.",
            found.lease_expiries,
        )
        yield from _of_workers(workers)
        yield from _of_maintenance(maintenance)
        yield from self._of_disks(workers, maintenance)

    def _of_disks(self, workers: WorkerStatistics, maintenance: Maintenance) -> Iterator[Metric]:
        """The artifacts' where they are a folder, maintenance's, and every worker's; of workers of one name the fullest."""
        disks: dict[tuple[str, str], tuple[int, int]] = {}
        here = None if self._artifacts is None else disk_of(self._artifacts)
        if here is not None:
            disks["artifacts", ""] = (here.total, here.free)
        if maintenance.disk is not None:
            disks["maintenance", ""] = maintenance.disk
        for each in workers.workers:
            if each.disk_bytes is not None and each.disk_free_bytes is not None:
                before = disks.get(("worker", each.name))
                mine = (each.disk_bytes, each.disk_free_bytes)
                disks["worker", each.name] = mine if before is None else min(before, mine, key=lambda disk: disk[1])
        labels = ("volume", "worker")
        total = GaugeMetricFamily("secateur_disk_bytes", "Size of the disk that a folder is on.", labels=labels)
        free = GaugeMetricFamily("secateur_disk_free_bytes", "Of that, what is free.", labels=labels)
        for where, (size, left) in sorted(disks.items()):
            total.add_metric(where, size)
            free.add_metric(where, left)
        yield total
        yield free


def _of_workers(found: WorkerStatistics) -> Iterator[Metric]:
    counts: dict[tuple[str, ...], int] = {(kind.value, state): 0 for kind in DeviceKind for state in ("busy", "idle")}
    for each in found.workers:
        where = (each.device, "busy" if each.busy else "idle")
        counts[where] = counts.get(where, 0) + 1
    alive = GaugeMetricFamily(
        "secateur_workers", "Workers that are alive, by device and whether they run a job.", labels=("device", "state")
    )
    for kind_and_state, count in sorted(counts.items()):
        alive.add_metric(kind_and_state, count)
    yield alive
    yield _gauge(
        "secateur_expired_leases",
        "Jobs whose worker has fallen silent, and that nobody has taken yet.",
        found.expired_leases,
    )
    yield _gauge("secateur_unfit_jobs", "Queued jobs that none of the workers that are alive can hold.", found.unfit)
    demand = GaugeMetricFamily(
        "secateur_worker_demand",
        "How many workers of a kind would have something to do, by the jobs that are bound to it, or by any that it can run.",
        labels=("device", "jobs"),
    )
    for kind, wanted in found.demand.items():
        demand.add_metric((kind.value, "bound"), wanted.bound)
        demand.add_metric((kind.value, "any"), wanted.any)
    yield demand


def _of_maintenance(found: Maintenance) -> Iterator[Metric]:
    yield _gauge(
        "secateur_maintenance_silent_seconds",
        "Since maintenance last swept, which takes beat, the broker and a maintenance worker; +Inf where it never did.",
        found.silent_seconds,
    )
    yield _gauge("secateur_outbox_messages", "Messages that the broker has not taken yet.", found.outbox.waiting)
    yield _gauge("secateur_oldest_outbox_seconds", "How long the oldest has waited.", found.outbox.oldest_seconds)
    yield _gauge(
        "secateur_webhook_deliveries_due", "Deliveries that are due and not being sent.", found.deliveries.waiting
    )
    yield _gauge(
        "secateur_oldest_webhook_delivery_seconds",
        "For how long the oldest of them has been due.",
        found.deliveries.oldest_seconds,
    )
    checks = {"waiting": float(found.checks.waiting), "running": float(found.checks_running)}
    yield _by("secateur_dataset_checks", "Uploaded datasets that are checked, or wait for it.", "state", checks)
    yield _gauge(
        "secateur_oldest_dataset_check_seconds",
        "How long the oldest dataset has waited to be checked.",
        found.checks.oldest_seconds,
    )


def _folder(artifacts_url: str) -> Path | None:
    """Where artifacts lie, unless that is a bucket."""
    url = urlsplit(artifacts_url)
    return Path(unquote(url.path)) if url.scheme == "file" else None


@contextmanager
def served(settings: Settings, registry: CollectorRegistry) -> Iterator[None]:
    """At http://metrics_host:metrics_port/metrics while the block runs; nowhere without a port."""
    if settings.metrics_port is None:
        yield
        return
    server, thread = start_http_server(settings.metrics_port, settings.metrics_host, registry)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _gauge(name: str, description: str, value: float) -> Metric:
    return GaugeMetricFamily(name, description, value)


def _by(name: str, description: str, label: str, values: dict[str, float]) -> Metric:
    family = GaugeMetricFamily(name, description, labels=(label,))
    for word, value in sorted(values.items()):
        family.add_metric((word,), value)
    return family
