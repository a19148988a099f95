"""The dashboard's queries and the alerts, run against scrapes of a service that is well, and of one that is not."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest
from sqlalchemy import delete, update
from sqlalchemy.exc import OperationalError

from api_schemas.api.resources import JobError
from api_schemas.enums import DeviceKind, Phase
from api_schemas.errors import ErrorCode
from api_schemas.results.events import PhaseChanged
from api_schemas.spec.inputs import Columns
from service.metrics import HttpMetrics, QueueMetrics
from store.database import marks
from store.database.clock import now
from store.database.connection import Database
from store.database.tables import Job, MaintenanceMark, OutboxMessage, Upload, UploadCheck, Webhook, WebhookDelivery
from store.database.tables import Worker as WorkerRow
from store.jobs import jobs, transitions
from store.jobs.transitions import Lease
from store.jobs.workers import live_workers
from store.jobs.workers.capabilities import Needs
from store.jobs.workers.live_workers import Announcement
from store.machine import Disk
from store.settings import Settings
from tests.support.jobs.records import job_request
from tests.support.promql import Labels, Prometheus, Scrape, selectors
from worker import maintenance

ROOT = Path(__file__).parents[3]
RULES: dict[str, dict[str, Any]] = {
    rule["alert"]: rule
    for rule in yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yml").read_text())["groups"][0]["rules"]
}
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "secateur.json").read_text())
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
CPU = Announcement("cpu-1:a:1", "cpu-1", "host", DeviceKind.CPU, None, None, 2**34)
GPU = Announcement("gpu-1:a:1", "gpu-1", "host", DeviceKind.CUDA, "A GPU", 2**34, 2**36)


class Service:
    """The metrics of a service whose data is in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(data_dir=folder)
        self.database = Database(self.settings.database_url)
        self.registry = CollectorRegistry()
        self.registry.register(QueueMetrics(self.database, self.settings))
        self.http = HttpMetrics(self.registry)
        self.answer(503, 0.01, 1)
        self.answer(200, 0.01, 1000)
        self.before: Scrape | None = None

    def be_well(self) -> None:
        """Two workers, of which one runs a job, maintenance, and behind it a day with failures and an attempt that crashed."""
        self.database.migrate()
        (self.settings.data_dir / "artifacts").mkdir()
        with self.database.write() as session:
            for worker in (CPU, GPU):
                live_workers.announce(session, worker, 3600, Disk(1000, 500))
        self.submit()
        self.claim()
        for code in (ErrorCode.LABELS_MISMATCH, ErrorCode.OUT_OF_MEMORY):
            self.submit()
            lease = self.claim("else")
            with self.database.write() as session:
                transitions.fail(session, lease, JobError(code=code, detail="so it is"))
        self.crash(1)
        maintenance.sweep(self.database, self.settings)

    def submit(self, needs: Needs = Needs()) -> str:  # noqa: B008  frozen
        with self.database.write() as session:
            return jobs.create(session, "a", job_request(), {}, needs=needs).id

    def claim(self, worker: str = CPU.id) -> Lease:
        with self.database.write() as session:
            job = transitions.claim(session, worker, 3600, 99)
            assert job is not None
            return Lease(job.id, job.epoch)

    def crash(self, times: int) -> None:
        """A job that is then given up."""
        self.submit()
        for _ in range(times):
            lease = self.claim("else")
            error = JobError(code=ErrorCode.ENGINE_CRASHED, detail="it died")
            with self.database.write() as session:
                transitions.record(session, lease, [PhaseChanged(phase=Phase.SCORING, step=0, steps=1)])
                transitions.crash(session, lease, error, failure_cap=99, retry_delay_seconds=0)
        with self.database.write() as session:
            transitions.cancel(session, "a", lease.job_id)

    def answer(self, status: int, seconds: float, times: int) -> None:
        for _ in range(times):
            self.http.observe("GET", "/v1/jobs", status, seconds, 0)
        self.http.observe("PUT", "/v1/models/{model_id}/files/{name}", 200, 90.0, 1000)

    def change(self, *statements: Any) -> None:
        with self.database.write() as session:
            for statement in statements:
                session.execute(statement.execution_options(synchronize_session=False))

    def scrape(self) -> Scrape:
        return Scrape.of(generate_latest(self.registry).decode())

    def prometheus(self) -> Prometheus:
        return Prometheus(self.scrape(), self.before or Scrape({}))


@pytest.fixture(scope="module")
def well(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("well")
    service = Service(folder)
    service.be_well()
    service.database.close()
    return folder


@pytest.fixture
def service(well: Path, tmp_path: Path) -> Iterator[Service]:
    """One that is well, and some requests after its first scrape."""
    made = Service(shutil.copytree(well, tmp_path / "data"))
    made.before = made.scrape()
    made.answer(200, 0.01, 1000)
    yield made
    made.database.close()


def test_disks_are_those_of_artifacts_maintenance_and_every_worker(service: Service) -> None:
    with service.database.write() as session:
        live_workers.announce(session, replace(CPU, id="cpu-1:b:2"), 3600, Disk(1000, 400))
    here = shutil.disk_usage(service.settings.data_dir)
    disks = {
        (dict(labels)["volume"], dict(labels).get("worker", "")): size
        for labels, size in service.scrape().series["secateur_disk_bytes"].items()
    }
    free = service.scrape().series["secateur_disk_free_bytes"]
    assert disks == {
        ("artifacts", ""): here.total,
        ("maintenance", ""): here.total,
        ("worker", "cpu-1"): 1000,
        ("worker", "gpu-1"): 1000,
    }
    assert free[frozenset({("volume", "worker"), ("worker", "cpu-1")})] == 400, "the fullest of one name"


def firing(prometheus: Prometheus) -> set[str]:
    return {name for name, rule in RULES.items() if prometheus.query(rule["expr"])}


def test_every_query_of_the_dashboard_has_an_answer(service: Service) -> None:
    assert len(QUERIES) > 30
    seen = service.prometheus()
    for query in QUERIES:
        found = seen.query(query)
        assert isinstance(found, dict)
        assert found, query


def test_every_metric_and_label_that_is_asked_for_exists(service: Service) -> None:
    seen = service.scrape()
    asked = [selector for rule in RULES.values() for selector in selectors(rule["expr"])]
    asked += [selector for query in QUERIES for selector in selectors(query)]
    assert len(asked) > 50
    for selector in asked:
        assert selector.name in seen.series, selector.name
        labels = {name for each in seen.series[selector.name] for name, _ in each}
        assert {matcher.name for matcher in selector.matchers.matchers} <= labels, selector.name


def test_every_metric_is_on_the_dashboard_or_in_an_alert(service: Service) -> None:
    """What nobody looks at costs every scrape."""
    asked = {selector.name for query in QUERIES for selector in selectors(query)}
    asked |= {selector.name for rule in RULES.values() for selector in selectors(rule["expr"])}
    ours = {name for name in service.scrape().series if not name.endswith("_created")}
    assert ours - asked == set()


def test_a_service_that_is_well_alarms_nobody(service: Service) -> None:
    assert firing(service.prometheus()) == set()


def no_answer(service: Service) -> None:
    def away() -> None:
        raise OperationalError("SELECT", {}, OSError("away"))

    service.database.read = away  # type: ignore[method-assign, assignment]


def not_there(service: Service) -> None:
    service.scrape = lambda: Scrape({})  # type: ignore[method-assign]


def no_worker(service: Service) -> None:
    service.submit()
    service.change(delete(WorkerRow))


def too_large(service: Service) -> None:
    service.submit(Needs(DeviceKind.CUDA, gpu_bytes=2**35))


def nobody_looks(service: Service) -> None:
    service.submit(Needs(DeviceKind.CUDA))


def old(service: Service) -> None:
    job = service.submit()
    service.change(
        update(Job).where(Job.id == job).values(created_at=now(plus=-5 * 3600)),
        delete(WorkerRow).where(WorkerRow.id == GPU.id),
    )


def silent_worker(service: Service) -> None:
    service.change(update(Job).where(Job.worker == CPU.id).values(lease_until=now(plus=-1)))


def workers_lost(service: Service) -> None:
    for _ in range(3):
        silent_worker(service)
        service.claim()


def messages_wait(service: Service) -> None:
    service.change(update(OutboxMessage).values(created_at=now(plus=-300)))


def deliveries_wait(service: Service) -> None:
    with service.database.write() as session:
        for webhook, enabled in (("whk_a", True), ("whk_b", False)):
            session.add(Webhook(id=webhook, url="https://a", events=[], secret="s", enabled=enabled))
            session.flush()
            session.add(WebhookDelivery(id=f"d{webhook}", webhook_id=webhook, message_id="m", type="t", body="{}"))
    service.change(update(WebhookDelivery).values(due_at=now(plus=-1000)))


def datasets_wait(service: Service) -> None:
    with service.database.write() as session:
        session.add(Upload(id="dst_a", kind="dataset", state="checking"))
        session.flush()
        session.add(UploadCheck(upload_id="dst_a", columns=Columns().model_dump(mode="json")))
    service.change(update(UploadCheck).values(waits_since=now(plus=-2000)))


BREAKS: dict[str, Callable[[Service], Any]] = {
    "SecateurAPIDown": not_there,
    "SecateurDatabaseDown": no_answer,
    "SecateurErrors": lambda service: service.answer(503, 0.01, 100),
    "SecateurSlow": lambda service: service.answer(200, 4.0, 200),
    "SecateurNoWorker": no_worker,
    "SecateurJobsFitNoWorker": too_large,
    "SecateurWorkersIdle": nobody_looks,
    "SecateurQueueOld": old,
    "SecateurLeaseExpired": silent_worker,
    "SecateurWorkersLost": workers_lost,
    "SecateurAttemptsFail": lambda service: service.crash(4),
    "SecateurMaintenanceSilent": lambda service: service.change(
        delete(MaintenanceMark).where(MaintenanceMark.name == marks.SWEPT)
    ),
    "SecateurOutboxStuck": messages_wait,
    "SecateurWebhooksBehind": deliveries_wait,
    "SecateurInspectionsBehind": datasets_wait,
    "SecateurDiskFilling": lambda service: service.change(
        update(WorkerRow).where(WorkerRow.id == GPU.id).values(disk_free_bytes=99)
    ),
}


@pytest.mark.parametrize("alert", RULES)
def test_each_alert_is_for_what_is_wrong_and_for_nothing_else(service: Service, alert: str) -> None:
    BREAKS[alert](service)
    assert firing(service.prometheus()) == {alert}


@pytest.mark.parametrize("alert", RULES)
def test_each_alert_leads_to_its_page_of_the_runbook(alert: str) -> None:
    rule = RULES[alert]
    assert rule["annotations"]["runbook_url"] == f"docs/runbook.md#{alert.lower()}"
    assert rule["labels"]["severity"] in ("critical", "warning")
    section = re.search(rf"^### {alert}\n\n(.+?)(?=^##|\Z)", RUNBOOK, re.MULTILINE | re.DOTALL)
    assert section is not None
    assert len(section[1].split()) > 40, "what it means, and what to do"


def test_the_runbook_has_no_page_of_an_alert_that_is_not_there() -> None:
    assert set(re.findall(r"^### (Secateur\w+)$", RUNBOOK, re.MULTILINE)) == set(RULES)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_prometheus_itself_takes_the_rules_and_gives_the_same_answers(service: Service, tmp_path: Path) -> None:
    """Rates left out, which it extrapolates."""
    subprocess.run(["promtool", "check", "rules", str(ROOT / "deploy" / "prometheus" / "alerts.yml")], check=True)
    seen = service.prometheus()
    series = [
        {"series": _written(name, labels), "values": str(value)}
        for name, vector in seen.now.series.items()
        for labels, value in vector.items()
    ]
    tests = []
    for query in [*QUERIES, *(rule["expr"] for rule in RULES.values())]:
        found = seen.query(query)
        if "rate(" not in query and isinstance(found, dict):
            samples = [{"labels": _written("", labels), "value": value} for labels, value in found.items()]
            tests.append({"expr": query, "eval_time": "0m", "exp_samples": samples})
    assert len(tests) > 30
    document = {"tests": [{"interval": "1m", "input_series": series, "promql_expr_test": tests}]}
    (tmp_path / "tests.yml").write_text(yaml.safe_dump(document, sort_keys=False))
    said = subprocess.run(["promtool", "test", "rules", "tests.yml"], cwd=tmp_path, capture_output=True, text=True)
    assert said.returncode == 0, said.stdout + said.stderr


def _written(name: str, labels: Labels) -> str:
    return name + "{" + ",".join(f"{label}={json.dumps(value)}" for label, value in sorted(labels)) + "}"
