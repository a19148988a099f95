"""What is asked of the database: every kind of request, what a worker writes, and every task that comes again by itself."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from starlette.testclient import TestClient

from benchmarks.crowd.fill import Crowd
from service.services import Services
from store import backlogs, retention
from store.access import idempotency
from store.database.tables import Job
from store.files import orphans
from store.jobs import event_feed, jobs, statistics, transitions
from store.jobs.transitions import Lease
from store.jobs.workers import statistics as worker_statistics
from store.queue import outbox
from store.settings import Settings
from store.uploads import checks
from store.webhooks import deliveries
from tests.support.jobs.records import step_file, step_metrics
from worker import maintenance

REQUEST, WORKER, PERIODIC = "request", "worker", "periodic"
Ask = Callable[[int], object]


@dataclass(frozen=True)
class Call:
    """`ask` is given the number of the repetition, the first being 0."""

    name: str
    kind: str
    ask: Ask


def requests(
    client: TestClient, services: Services, crowd: Crowd, job: dict[str, Any], upload: dict[str, Any]
) -> Iterator[Call]:
    """By the tenant that has half of everything. `job` and `upload` are bodies that are accepted."""

    def get(path: str) -> Ask:
        def ask(_: int) -> None:
            services.database.writes += 1  # What is remembered between writes is asked for anew.
            _asked(client, "GET", path, 200)

        return ask

    def each(method: str, path: str, of: list[str], status: int) -> Ask:
        return lambda number: _asked(client, method, path.format(of[number]), status)

    ended, middle = crowd.ended[-1], crowd.ended[len(crowd.ended) // 2]
    waiting = crowd.queued[len(crowd.queued) // 2]
    reads = {
        "jobs, newest": "/v1/jobs",
        "jobs, a page of 100": "/v1/jobs?limit=100",
        "jobs, a page in the middle": f"/v1/jobs?cursor={_cursor(client, middle)}",
        "jobs, succeeded": "/v1/jobs?state=succeeded",
        "jobs, queued": "/v1/jobs?state=queued&limit=100",
        "jobs, running": "/v1/jobs?state=running",
        "jobs, failed or cancelled": "/v1/jobs?state=failed&state=cancelled",
        "jobs, a label that most have": "/v1/jobs?label=team=speech",
        "jobs, a label that few have": "/v1/jobs?label=rare",
        "jobs, a label of the older half": "/v1/jobs?label=era=old",
        "jobs, a label of the older half, and a state": "/v1/jobs?label=era=old&state=failed",
        "jobs, two labels": "/v1/jobs?label=era=old&label=team=vision",
        "jobs, of one model": f"/v1/jobs?model={crowd.shared_model}",
        "jobs, made before a moment": "/v1/jobs?created_before=2020-01-01T00:00:00Z",
        "the page's list": "/",
        "the page's list, a label": "/?label=era%3Dold",
        "the page's comparison": f"/compare?job={ended}&job={middle}",
        "the page of a job": f"/jobs/{ended}",
        "the page of a job, its files": f"/jobs/{ended}?tab=files",
        "a job that ended": f"/v1/jobs/{ended}",
        "a job that waits": f"/v1/jobs/{waiting}",
        "events of a job": f"/v1/jobs/{ended}/events",
        "log of a job": f"/v1/jobs/{ended}/logs",
        "checkpoints of a job": f"/v1/jobs/{ended}/checkpoints",
        "models": "/v1/models",
        "datasets": "/v1/datasets?limit=100",
        "a model": f"/v1/models/{crowd.models[0]}",
        "limits": "/v1/limits",
        "audit": "/v1/audit?limit=100",
        "deliveries of a webhook": f"/v1/webhooks/{crowd.webhook}/deliveries",
        "failed deliveries of a webhook": f"/v1/webhooks/{crowd.webhook}/deliveries?state=failed",
    }
    for name, path in reads.items():
        yield Call(name, REQUEST, get(path))
    yield Call("declaring an upload", REQUEST, lambda _: _asked(client, "POST", "/v1/models", 201, upload))
    yield Call("submitting a job", REQUEST, lambda _: _asked(client, "POST", "/v1/jobs", 202, job))
    yield Call("pausing a job", REQUEST, each("POST", "/v1/jobs/{}/pause", crowd.queued, 202))
    yield Call("resuming a job", REQUEST, each("POST", "/v1/jobs/{}/resume", crowd.paused, 202))
    yield Call("cancelling a job", REQUEST, each("POST", "/v1/jobs/{}/cancel", crowd.queued[-20:], 202))
    yield Call("deleting a job", REQUEST, each("DELETE", "/v1/jobs/{}", crowd.ended[-40:], 204))
    yield Call("deleting a model", REQUEST, each("DELETE", "/v1/models/{}", crowd.models[:20], 204))


def _cursor(client: TestClient, job_id: str) -> str:
    """As a page that ends with the job gives it."""
    made = client.get(f"/v1/jobs/{job_id}").json()["created_at"]
    found = client.get("/v1/jobs", params={"created_before": made, "limit": 1}).json()
    return str(found["next_cursor"])


def _asked(client: TestClient, method: str, path: str, status: int, body: dict[str, Any] | None = None) -> None:
    answer = client.request(method, path, json=body)
    if answer.status_code != status:
        raise RuntimeError(f"{method} {path} answered {answer.status_code}: {answer.text[:500]}")


def writes(services: Services) -> Iterator[Call]:
    """What a worker does with a job."""
    database, claimed = services.database, list[Job]()

    def claim(_: int, max_running: int | None = None) -> None:
        with database.write() as session:
            job = transitions.claim(session, "worker", 600, 3, max_running)
        assert job is not None
        claimed.append(job)

    def lease(number: int) -> Lease:
        return Lease(claimed[number].id, claimed[number].epoch)

    def renew(number: int) -> None:
        with database.write() as session:
            transitions.renew(session, lease(number), 600)

    def commit(number: int) -> None:
        with database.write() as session:
            files = [step_file(claimed[number].id, 0)]
            transitions.commit_step(session, lease(number), step_metrics(0), files, downloadable=True)

    def succeed(number: int) -> None:
        with database.write() as session:
            transitions.succeed(session, lease(number))

    yield Call("claiming a job", WORKER, claim)
    yield Call("claiming a job, tenants bounded", WORKER, lambda number: claim(number, 1000))
    yield Call("renewing a lease", WORKER, renew)
    yield Call("committing a step", WORKER, commit)
    yield Call("ending a job", WORKER, succeed)


def periodic(services: Services, crowd: Crowd, settings: Settings) -> Iterator[Call]:
    """Tasks of maintenance, a scrape, and the watcher of event streams. Nothing is due but where the name says so."""
    database = services.database

    def scrape(_: int) -> None:
        with database.read() as session:
            statistics.read(session)
            worker_statistics.read(session, None)
            backlogs.read(session)

    def watch(_: int) -> None:
        with database.read() as session:
            event_feed.new_events(session, dict.fromkeys(crowd.ended[:500], 10))

    def claimable(bound: int | None) -> Ask:
        def count(_: int) -> None:
            with database.read() as session:
                jobs.count_claimable(session, settings.failure_cap, bound)

        return count

    def deliver(_: int) -> None:
        with database.write() as session:
            deliveries.claim(session, 60)

    def check(_: int) -> None:
        with database.write() as session:
            checks.claim(session, 60)

    def unnamed(_: int) -> None:
        with database.read() as session:
            orphans._named(session, crowd.keys)

    yield Call("scrape of the metrics", PERIODIC, scrape)
    yield Call("watcher of 500 event streams", PERIODIC, watch)
    yield Call("sweep of leases", PERIODIC, lambda _: maintenance.sweep(database, settings))
    yield Call("counting jobs that wait for a wake-up", PERIODIC, claimable(None))
    yield Call("the same, tenants bounded", PERIODIC, claimable(1000))
    yield Call("outbox", PERIODIC, lambda _: outbox.dispatch(database, lambda *_: None))
    yield Call("retention", PERIODIC, lambda _: retention.expire(database, settings))
    yield Call("log of deliveries", PERIODIC, lambda _: deliveries.expire(database, settings.webhook_log_seconds))
    yield Call("answers to idempotency keys", PERIODIC, lambda _: idempotency.sweep(database))
    yield Call("next delivery", PERIODIC, deliver)
    yield Call("next dataset to check", PERIODIC, check)
    yield Call("orphans, a batch of 500 objects", PERIODIC, unnamed)
