"""What a job needs and workers have, as users see it: reasons of waiting, needs from finished jobs, the list of workers."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from starlette.testclient import TestClient

from api_schemas.enums import DeviceKind, JobState
from api_schemas.results.metrics import Memory
from checkpoints.sizes.cost_model import COUNTED, JobCost, tensor_bytes
from service.core import resources
from service.services import Services
from store.database.tables import Job, JobCostRow, Upload
from store.jobs import jobs, preemption, transitions
from store.jobs.preemption import Rules
from store.jobs.workers import live_workers
from store.jobs.workers.capabilities import Needs
from store.jobs.workers.live_workers import Announcement
from tests.integration.service.conftest import Stock, problem
from tests.support.jobs.records import job_request

CPU = Announcement("host:a:1", "host", "host", DeviceKind.CPU, None, None, 2**36)
GPU = Announcement("gpu-1:b:2", "gpu-1", "gpu-1", DeviceKind.CUDA, "A GPU", 2**34, 2**36)


@pytest.fixture
def data_dir(stocked: Path) -> Path:
    return stocked


def announce(services: Services, *who: Announcement) -> None:
    with services.database.write() as session:
        for each in who:
            live_workers.announce(session, each, 60)


def test_a_job_that_no_worker_can_hold_says_why_until_one_comes(
    client: TestClient, services: Services, job_body: dict[str, Any]
) -> None:
    assert client.post("/v1/jobs", json=job_body).json()["waiting_reason"] == "no worker is running"
    announce(services, CPU)
    body = job_body | {"limits": {"device": "cuda"}}
    submitted = client.post("/v1/jobs", json=body).json()
    reason = "needs a worker with a GPU; none is running"
    assert (submitted["waiting_reason"], submitted["request"]["limits"]["device"]) == (reason, "cuda")
    address = f"/v1/jobs/{submitted['id']}"
    assert client.get(address).json()["waiting_reason"] == reason
    listed = {job["id"]: job["waiting_reason"] for job in client.get("/v1/jobs").json()["items"]}
    assert listed.pop(submitted["id"]) == reason
    assert list(listed.values()) == [None]
    assert f"Waiting: {reason}." in client.get(f"/jobs/{submitted['id']}").text
    assert reason in client.get("/").text
    tag = client.get(address).headers["etag"]
    announce(services, GPU)
    assert client.get(address, headers={"If-None-Match": tag}).json()["waiting_reason"] is None
    client.post(f"{address}/cancel")
    with services.database.write() as session:
        live_workers.forget(session, [GPU.id])
    assert client.get(address).json()["waiting_reason"] is None
    wrong = client.post("/v1/jobs", json=job_body | {"limits": {"device": "tpu"}})
    assert problem(wrong, 422, "invalid_request")["errors"][0]["pointer"] == "/limits/device"


def test_needs_are_those_of_jobs_of_about_the_same_size(
    client: TestClient, services: Services, stock: Stock, job_body: dict[str, Any]
) -> None:
    with services.database.write() as session:
        description = session.get_one(Upload, stock.model_id).description
    assert description is not None
    submitted = client.post("/v1/jobs", json=job_body).json()
    with services.database.read() as session:
        job = session.get_one(Job, submitted["id"])
        shape = resources.model_shape(description)
        tensors, on_gpu = (tensor_bytes(job.request, shape, kind) for kind in (DeviceKind.CPU, DeviceKind.CUDA))
        assert (job.needs_device, job.needs_cpu_bytes, job.needs_gpu_bytes) == (None, None, None)

    def took(device: str, share: float, growth: int) -> JobCostRow:
        tensors_there = on_gpu if device == "cuda" else tensors
        cost = JobCost(
            phases={},
            outside_seconds=0.0,
            base=Memory(host=1000, device=0 if device == "cuda" else None),
            peak=Memory(
                host=1000 + round(growth * tensors_there * share),
                device=round(growth * tensors_there * share) if device == "cuda" else None,
            ),
            tensor_bytes=round(tensors_there * share),
            counted=COUNTED,
        )
        return JobCostRow(family=description["family"], device=device, body=cost)

    with services.database.write() as session:
        # Of the tiny ones most is what does not grow with a model.
        session.add_all([took("cuda", 2.0, 3), took("cpu", 1.0, 5), took("cuda", 0.1, 900), took("cpu", 0.1, 900)])
    for asked, needs in (
        (None, (None, 1000 + 5 * tensors, 3 * on_gpu)),
        ("cpu", (DeviceKind.CPU, 1000 + 5 * tensors, None)),
        ("cuda", (DeviceKind.CUDA, None, 3 * on_gpu)),
    ):
        submitted = client.post("/v1/jobs", json=job_body | {"limits": {"device": asked}}).json()
        with services.database.read() as session:
            job = session.get_one(Job, submitted["id"])
            found = job.needs_device, job.needs_cpu_bytes, job.needs_gpu_bytes
        assert found == pytest.approx(needs, abs=2), asked
    announce(services, replace(GPU, device_memory_bytes=on_gpu))
    assert "on a GPU; the largest worker has" in client.get(f"/v1/jobs/{submitted['id']}").json()["waiting_reason"]


def test_a_job_that_makes_way_says_so_until_it_goes_on(
    client: TestClient, services: Services, job_body: dict[str, Any]
) -> None:
    announce(services, CPU)
    low = client.post("/v1/jobs", json=job_body | {"priority": -10}).json()
    address = f"/v1/jobs/{low['id']}"
    with services.database.write() as session:
        # Others of these tests wait in front of it.
        session.execute(
            update(Job).where(Job.id != low["id"], Job.state == JobState.QUEUED).values(state=JobState.PAUSED)
        )
        taken = transitions.claim(session, CPU.id, 60, 3)
    assert taken is not None
    lease = transitions.Lease(taken.id, taken.epoch)
    high = client.post("/v1/jobs", json=job_body | {"priority": 10}).json()
    with services.database.write() as session:
        assert preemption.arrange(session, Rules(False, 1)) == [(low["id"], high["id"])]
    job = client.get(address).json()
    assert (job["preempt_requested"], job["preemptions"], job["waiting_reason"]) == (True, 0, None)
    assert "Yields its worker to a job of higher priority" in client.get(f"/jobs/{low['id']}").text
    assert "yielding its worker" in client.get("/").text
    with services.database.write() as session:
        transitions.release(session, lease, preempted=True)
    job = client.get(address).json()
    assert (job["preempt_requested"], job["preemptions"]) == (False, 1)
    assert job["waiting_reason"] == preemption.REASON
    assert f"Waiting: {preemption.REASON}." in client.get(f"/jobs/{low['id']}").text
    client.post(f"/v1/jobs/{high['id']}/cancel")
    with services.database.write() as session:
        transitions.claim(session, CPU.id, 60, 3)
    job = client.get(address).json()
    assert (job["state"], job["waiting_reason"], job["preemptions"]) == ("running", None, 1)


def test_workers_are_listed_and_anothers_job_is_not_named(client: TestClient, services: Services, job_id: str) -> None:
    announce(services, CPU)
    announce(services, GPU)
    with services.database.write() as session:
        others = jobs.create(session, "another", job_request(), {}, needs=Needs(DeviceKind.CUDA)).id
        assert transitions.claim(session, CPU.id, 60, 3, has=CPU.capability) is not None
        taken = transitions.claim(session, GPU.id, 60, 3, has=GPU.capability)
        assert taken is not None
        assert taken.id == others
    gpu, cpu = client.get("/v1/workers").json()["items"]
    assert (cpu["name"], cpu["device"], cpu["alive"], cpu["busy"], cpu["job"]) == ("host", "cpu", True, True, job_id)
    assert (gpu["device_name"], gpu["device_memory_bytes"], gpu["busy"], gpu["job"]) == ("A GPU", 2**34, True, None)
    assert others not in client.get("/v1/workers").text
    page = client.get("/v1/workers?limit=1").json()
    assert [each["id"] for each in page["items"]] == [GPU.id]
    [last] = client.get("/v1/workers", params={"cursor": page["next_cursor"]}).json()["items"]
    assert last["id"] == CPU.id
