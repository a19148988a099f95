"""Everything of the tables, sent over HTTP to a real server: its answer, and that it leaves nothing behind and harms nothing."""

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.services import Services
from store.jobs import transitions
from store.jobs.transitions import Lease, StepFile
from store.settings import Settings
from tests.security import bad_checkpoints, bad_datasets, bad_requests
from tests.security.attack import Row, Target
from tests.support.jobs.records import step_metrics
from tests.support.servers.processes import process_of, service_process
from tests.support.uploads import checkpoint_files, dataset_files

ROWS = (*bad_checkpoints.ROWS, *bad_datasets.ROWS, *bad_requests.ROWS)
# Of pydantic and of patterns.
WORDS_OF_THE_INSIDE = re.compile(r"Value error|pattern|Tuple|\[a-z0-9|\{\d+,?\d*\}")
# Of one row, and of all of them one after another; the allocator keeps some of what was once needed.
ROW_BYTES = 96 * 2**20
ALL_BYTES = 192 * 2**20


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(data_dir=tmp_path_factory.mktemp("attacked"), broker_url="redis://127.0.0.1:1/0")


@pytest.fixture(scope="module")
def target(settings: Settings) -> Iterator[Target]:
    with service_process(settings, settings.data_dir / "service.log") as client:
        client.timeout = httpx.Timeout(600)
        yield stocked(client, settings)


def stocked(client: httpx.Client, settings: Settings) -> Target:
    """With a model, a dataset, and a job that has a step to download."""
    empty = Target(client, "", "", "")
    model = empty.send(checkpoint_files(), "models").json()["id"]
    dataset = empty.send(dataset_files(), "datasets").json()["id"]
    target = Target(client, model, dataset, "")
    job = client.post("/v1/jobs", json=target.job()).json()["id"]
    services = Services.of(settings)
    with services.database.write() as session:
        claimed = transitions.claim(session, "worker", 3600, 3)
        assert claimed is not None
        lease = Lease(claimed.id, claimed.epoch)
    weights = settings.data_dir / "weights"
    weights.write_bytes(bytes(1000))
    for step in (0, 1):
        key = f"jobs/{job}/epoch-{lease.epoch}/step-{step}/model.safetensors"
        services.artifacts.put_file(key, weights)
        file = StepFile("model.safetensors", 1000, hashlib.sha256(bytes(1000)).hexdigest(), key)
        with services.database.write() as session:
            transitions.commit_step(session, lease, step_metrics(step), [file], downloadable=step > 0)
    services.database.close()
    return Target(client, model, dataset, job)


def stored(settings: Settings) -> set[Path]:
    """Every file of the service's but its database and its log."""
    folders = (settings.data_dir / "artifacts", settings.scratch)
    return {path for folder in folders for path in folder.rglob("*") if path.is_file()}


def in_use(client: httpx.Client) -> dict[str, Any]:
    """What a client sees: everything but uploads that are still open."""
    listed = {kind: client.get(f"/v1/{kind}").json()["items"] for kind in ("models", "datasets", "jobs")}
    return {
        kind: [(item["id"], item["state"]) for item in items if item["state"] != "open"]
        for kind, items in listed.items()
    }


def give_up_open_uploads(client: httpx.Client) -> None:
    for kind in ("models", "datasets"):
        for item in client.get(f"/v1/{kind}").json()["items"]:
            if item["state"] == "open":
                assert client.delete(f"/v1/{kind}/{item['id']}").status_code == 204


def memory(target: Target) -> int:
    """Bytes that the service holds."""
    held: int = process_of(target.client).memory_info().rss
    return held


@pytest.fixture(scope="module")
def memory_before(target: Target) -> int:
    return memory(target)


def test_there_are_rows_enough_and_each_is_another() -> None:
    assert len(ROWS) >= 60
    assert len({row.what for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.what)
def test_it_is_refused_and_leaves_nothing(row: Row, target: Target, settings: Settings, memory_before: int) -> None:
    files, resources, held = stored(settings), in_use(target.client), memory(target)

    answer = row.send(target)

    assert answer.headers["content-type"] == "application/problem+json", answer.text[:1000]
    body = answer.json()
    assert (answer.status_code, body["status"], body["code"]) == (row.status, row.status, row.code), body
    assert body["title"]
    assert body["detail"]
    assert not WORDS_OF_THE_INSIDE.search(json.dumps(body["errors"]) + body["detail"])
    assert all(item["pointer"] == "" or item["pointer"].startswith("/") for item in body["errors"]), body["errors"]
    assert len(answer.content) < 2**16
    assert str(settings.data_dir) not in answer.text
    assert in_use(target.client) == resources
    give_up_open_uploads(target.client)
    assert stored(settings) == files
    assert target.client.get("/healthz").json()["status"] == "ok"
    assert memory(target) - held < ROW_BYTES
    assert memory(target) - memory_before < ALL_BYTES
