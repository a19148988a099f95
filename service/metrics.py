"""Metrics for Prometheus, on a port of their own: HTTP as it happens, and the queue as the database says at every scrape.

No label names a tenant, a key or a job: what a scraper sees is the operator's, and few series are enough.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Histogram, start_http_server
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from store.database.connection import Database
from store.jobs import statistics
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

    def __init__(self, database: Database) -> None:
        self._database = database

    def collect(self) -> Iterator[Metric]:
        """Asked at every scrape."""
        answers = GaugeMetricFamily("secateur_database_up", "Whether the database answered this scrape.")
        try:
            with self._database.read() as session:
                found = statistics.read(session)
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
