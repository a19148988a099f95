"""The estimate of a whole job: sizes at once; time and memory once a job of the family has run, here by the real engine."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, func, select
from starlette.testclient import TestClient

from api_schemas.results.metrics import Memory
from checkpoints.sizes.cost_model import JobCost
from service.app import create_app
from service.services import Services
from store.database.tables import JobCostRow
from store.settings import Settings
from tests.support.checkpoints.tiny import tiny_data, tiny_model
from tests.support.checks import datasets_are_checked as datasets_are_checked
from tests.support.local import local_client
from tests.support.uploads import send
from worker.supervisor.scratch import Scratch
from worker.supervisor.supervisor import Supervisor

FACTOR = 2.0


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, Services]]:
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("estimates"),
        broker_url="redis://127.0.0.1:1/0",
        engine_threads=1,
        device="cpu",
    )
    app = create_app(settings)
    with local_client(app) as client:
        yield client, app.state.services


@pytest.fixture(scope="module")
def uploads(app: tuple[TestClient, Services]) -> dict[str, Any]:
    client, _ = app

    def sent(kind: str, folder: Path) -> dict[str, str]:
        answer = send(client, kind, {path.name: path.read_bytes() for path in sorted(folder.iterdir())})
        assert answer.status_code == 200, answer.text
        return {"type": "upload", "id": answer.json()["id"]}

    return {"model": sent("models", tiny_model()), "dataset": sent("datasets", tiny_data())}


def job(uploads: dict[str, Any], share: float, steps: int, epochs: int) -> dict[str, Any]:
    return {
        **uploads,
        "pruning": {
            "target": {"attention_sparsity": share},
            "granularity": "per_head",
            "schedule": {"steps": steps},
            "calibration": {"samples": 128},
        },
        "finetune": {"epochs": epochs},
        "evaluate": {"latency_batch_sizes": [1], "latency_runs": 5, "sensitivity_samples": None},
    }


def run(app: tuple[TestClient, Services], body: dict[str, Any]) -> dict[str, Any]:
    """Submit and work on it, here and now."""
    client, services = app
    address = client.post("/v1/jobs", json=body).headers["location"]
    settings = services.settings
    scratch = Scratch(settings.scratch)
    Supervisor(settings, services.database, services.artifacts, scratch, threading.Event()).run_one()
    found: dict[str, Any] = client.get(address).json()
    assert found["state"] == "succeeded", found
    return found


def test_a_whole_job_is_foreseen(app: tuple[TestClient, Services], uploads: dict[str, Any]) -> None:
    client, services = app
    second = job(uploads, 0.6, steps=2, epochs=2)

    unknown = client.post("/v1/jobs:estimate", json=second).json()
    assert (unknown["seconds"], unknown["host_memory_bytes"], unknown["jobs_observed"]) == (None, None, 0)
    assert "No job of family ast has finished" in unknown["reason"]
    assert [step["requested"] for step in unknown["steps"]] == pytest.approx([0.0, 0.3, 0.6])

    run(app, job(uploads, 0.3, steps=1, epochs=1))
    known = client.post("/v1/jobs:estimate", json=second).json()
    assert known["steps"] == unknown["steps"]
    assert (known["reason"], known["device"], known["jobs_observed"]) == (None, "cpu", 1)
    assert known["device_memory_bytes"] is None
    preview = client.post("/v1/jobs?validate_only=true", json=second)
    assert preview.status_code == 200
    assert preview.json()["estimate"] == known
    assert preview.json()["request"]["seed"] == 0
    assert len(client.get("/v1/jobs").json()["items"]) == 1

    # A bound on the drop: from one cut that is tried and confirmed to all of them, smaller and smaller ones confirmed.
    asked = {**second["pruning"], "target": {"max_drop": 0.01}, "schedule": {"steps": 1}}
    bound = client.post("/v1/jobs:estimate", json={**second, "pruning": asked}).json()
    assert [step["requested"] for step in bound["steps"]] == pytest.approx([0.0, bound["steps"][1]["requested"]])
    assert bound["steps"][1]["flops"] < known["steps"][-1]["flops"]
    least, most = bound["seconds_range"]
    assert least < bound["seconds"] < most
    assert bound["phase_seconds"]["analysing"] > 0
    assert "result will be between" in bound["notes"][0]
    assert known["seconds_range"] is None

    done = run(app, second)
    for step, expected in zip(done["metrics"], known["steps"], strict=True):
        for field in ("total_parameters", "flops", "file_bytes"):
            assert expected[field] == pytest.approx(step["size"][field], rel=0.1)
        assert expected["attention_sparsity"] == pytest.approx(step["achieved_sparsity"], abs=0.05)
    took, needed = done["ran_seconds"], done["metrics"][-1]["memory"]["host"]
    assert took / FACTOR < known["seconds"] < took * FACTOR, (known, done["metrics"])
    assert needed / FACTOR < known["host_memory_bytes"] < needed * FACTOR
    with services.database.read() as session:
        assert session.scalar(select(func.count()).select_from(JobCostRow)) == 2


def test_where_the_worker_fetches_the_data_time_is_not_known(
    app: tuple[TestClient, Services], uploads: dict[str, Any]
) -> None:
    client, services = app
    hub = {"type": "hf", "id": "somebody/data", "revision": "a" * 40}
    cost = JobCost(phases={}, outside_seconds=0.0, base=Memory(), peak=Memory(), tensor_bytes=1)
    with services.database.write() as session:
        session.execute(delete(JobCostRow))
        session.add(JobCostRow(family="ast", device="cpu", body=cost))
    found = client.post("/v1/jobs:estimate", json=job(uploads, 0.3, 1, 1) | {"dataset": hub}).json()
    assert found["seconds"] is None
    assert "The worker fetches the dataset" in found["reason"]
    assert found["host_memory_bytes"] is None
    assert "ran with an earlier version" in found["reason"], "which counted tensors another way on a CPU"
    with services.database.write() as session:
        session.execute(delete(JobCostRow))
    refused = client.post("/v1/jobs:estimate", json=job(uploads, 0.3, 1, 1) | {"model": {"type": "upload", "id": "x"}})
    assert refused.status_code == 422
    target = {"target": {"latency": 0.1}, "granularity": "ragged"}
    latency = client.post("/v1/jobs:estimate", json=job(uploads, 0.3, 1, 1) | {"pruning": target}).json()
    assert "latency" in latency["notes"][0]
