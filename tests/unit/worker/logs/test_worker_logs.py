"""What a worker logs while it holds a job names the job, from whichever thread the line comes."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from celery.signals import setup_logging
from sqlalchemy.exc import OperationalError

from store.jobs import transitions
from store.structured_logs import configure
from tests.support.jobs.supervision import MakeBench, supervisor
from worker import worker_logs


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)


def test_lines_of_every_thread_name_the_job(
    make_bench: MakeBench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make_bench("finish", log_format="json")
    configure(bench.settings)
    job_id = bench.submit()
    renew = transitions.renew
    failed: list[bool] = []

    def fails_once(*arguments: Any) -> Any:
        if not failed:
            failed.append(True)
            raise OperationalError("UPDATE", {}, Exception("away"))
        return renew(*arguments)

    monkeypatch.setattr(transitions, "renew", fails_once)
    capsys.readouterr()
    supervisor(bench).run_until_empty()
    logging.getLogger("worker").info("between jobs")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    ours = [line for line in lines if line["logger"].startswith("worker.")]
    assert {"worker.supervisor.supervisor", "worker.supervisor.attempt", "worker.lease.heartbeat"} <= {
        line["logger"] for line in ours
    }
    assert all((line["job_id"], line["attempt"]) == (job_id, 1) for line in ours)
    assert "job_id" not in lines[-1]


def test_celery_leaves_logging_to_us() -> None:
    assert any(receiver is worker_logs.configure for receiver in (found() for _, found in setup_logging.receivers))
