"""The main job over HTTP, with nothing replaced: API, broker, Celery worker, engine, SQLite, artifacts on disk."""

import hashlib
import io
import json
import subprocess
import sys
import tarfile
import time

import httpx
import pytest

from tests.support.checkpoints.tiny import tiny_data, tiny_model
from tests.support.servers.up import JOB_SECONDS, upload, wait

FAST = {"latency_batch_sizes": [1], "latency_runs": 5}

LOAD = """
import json, sys, torch
from transformers import AutoConfig, AutoModelForAudioClassification
model = AutoModelForAudioClassification.from_pretrained(sys.argv[1], trust_remote_code=True)
config = model.config
x = torch.randn(2, config.max_length, config.num_mel_bins, generator=torch.Generator().manual_seed(0))
with torch.inference_mode():
    logits = model.eval()(x).logits
print(json.dumps({"parameters": sum(p.numel() for p in model.parameters()), "finite": bool(torch.isfinite(logits).all()),
                  "secateur": "worker" in sys.modules}))
"""


@pytest.fixture(scope="module")
def uploaded(service):
    with httpx.Client(base_url=f"{service}/v1", timeout=60) as client:
        return upload(client, "models", tiny_model()), upload(client, "datasets", tiny_data())


def submit(client, uploaded, **changes):
    model, dataset = uploaded
    body = {
        "model": {"type": "upload", "id": model},
        "dataset": {"type": "upload", "id": dataset},
        "pruning": {"target": {"attention_sparsity": 0.5}, "granularity": "per_head", "schedule": {"steps": 2}},
        "finetune": {"epochs": 1},
        "evaluate": FAST,
        **changes,
    }
    response = client.post("/jobs", json=body)
    assert response.status_code == 202, response.text
    assert response.headers["location"].endswith(response.json()["id"])
    return response.json()["id"]


def test_submit_poll_download_load(client, uploaded, tmp_path):
    job, seen = wait(client, submit(client, uploaded))
    assert job["state"] == "succeeded", job
    assert job["error"] is None
    assert [metrics["step"] for metrics in job["metrics"]] == [0, 1, 2]
    phases = {poll["progress"]["phase"] for poll in seen if poll["progress"]}
    assert len(phases) >= 2, phases

    checkpoints = client.get(f"/jobs/{job['id']}/checkpoints").json()
    steps = [entry["step"] for entry in checkpoints["items"]]
    assert sorted(steps) == [1, 2]

    archive = client.get(f"/jobs/{job['id']}/checkpoints/2/archive")
    assert archive.status_code == 200
    with tarfile.open(fileobj=io.BytesIO(archive.content)) as tar:
        tar.extractall(tmp_path, filter="data")
    folder = next(tmp_path.rglob("config.json")).parent
    checkpoint = client.get(f"/jobs/{job['id']}/checkpoints/2").json()
    for entry in checkpoint["files"]:
        assert hashlib.sha256((folder / entry["name"]).read_bytes()).hexdigest() == entry["sha256"]

    run = subprocess.run(
        [sys.executable, "-I", "-c", LOAD, str(folder)], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert run.returncode == 0, run.stderr
    loaded = json.loads(run.stdout.splitlines()[-1])
    assert loaded["finite"]
    assert not loaded["secateur"]
    last = job["metrics"][-1]
    assert loaded["parameters"] == last["size"]["total_parameters"]
    assert abs(last["achieved_sparsity"] - 0.5) < 0.03
    assert last["test"]["accuracy"] > 1 / 8

    report = client.get(f"/jobs/{job['id']}/report")
    assert report.status_code == 200
    assert report.headers["content-type"].startswith("text/html")

    events = client.get(f"/jobs/{job['id']}/events").json()["items"]
    kinds = [event["body"]["type"] for event in events]
    assert kinds[0] == "state"
    assert {"started", "data", "loss", "step", "finished"} <= set(kinds)
    assert events[-1]["body"]["state"] == "succeeded"


def test_parts_of_a_file(client, uploaded):
    job, _ = wait(
        client,
        submit(
            client, uploaded, finetune=None,
            pruning={"target": {"attention_sparsity": 0.5}, "criterion": "magnitude", "schedule": {"steps": 1}},
        ),
    )  # fmt: skip
    assert job["state"] == "succeeded", job
    url = f"/jobs/{job['id']}/checkpoints/1/files/model.safetensors"
    whole = client.get(url)
    part = client.get(url, headers={"Range": "bytes=100-299"})
    assert part.status_code == 206
    assert part.content == whole.content[100:300]
    assert part.headers["etag"] == whole.headers["etag"]
    assert client.get(url, headers={"If-None-Match": whole.headers["etag"]}).status_code == 304


def test_cancel_ends_a_running_job(client, uploaded):
    job = submit(client, uploaded, finetune={"epochs": 500})
    deadline = time.monotonic() + JOB_SECONDS
    while True:
        found = client.get(f"/jobs/{job}").json()
        if found["progress"] and found["progress"]["phase"] == "finetuning":
            break
        assert found["state"] in ("queued", "running"), found
        assert time.monotonic() < deadline
        time.sleep(0.3)
    assert client.post(f"/jobs/{job}/cancel").status_code == 202
    ended, _ = wait(client, job)
    assert ended["state"] == "cancelled"
    assert client.post(f"/jobs/{job}/cancel").status_code == 409


def test_what_only_the_worker_can_learn_fails_with_its_code(client, uploaded, tmp_path):
    """Weights that are numbers, and with which nothing can be computed; the engine finds it."""
    import numpy as np
    from safetensors.numpy import load_file, save_file

    for path in tiny_model().iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    tensors = load_file(tmp_path / "model.safetensors")
    for name in tensors:
        if name.endswith("classifier.dense.weight"):
            tensors[name] = np.full_like(tensors[name], np.finfo(tensors[name].dtype).max)
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    model = upload(client, "models", tmp_path)
    job, _ = wait(client, submit(client, (model, uploaded[1])))
    assert job["state"] == "failed"
    assert job["error"]["code"] == "numerical_failure"
    refused = client.get(f"/jobs/{job['id']}/checkpoints/1/archive")
    assert refused.status_code in (404, 409)
    assert refused.json()["code"] == "no_checkpoint"
