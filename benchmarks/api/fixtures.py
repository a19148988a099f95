"""What the service holds while it is measured: a model, a dataset, queued jobs, and a step with one large file."""

import time
from pathlib import Path
from typing import Any

import httpx

from api_schemas.spec.job import JobRequest
from benchmarks.api.transfer import Weights
from store.database.connection import Database
from store.database.tenancy import DEFAULT_TENANT
from store.files.artifacts import Artifacts
from store.jobs import jobs, transitions
from store.jobs.transitions import Lease, StepFile
from store.settings import Settings
from tests.support.checks import checking
from tests.support.jobs.records import step_metrics
from tests.support.uploads import checkpoint_files, dataset_files, declared


class Fixtures:
    """Below `folder`; the service is to run with `environment`."""

    def __init__(self, folder: Path, broker_url: str) -> None:
        self._folder = folder
        data_dir = folder / "ours"
        # No worker: what wakes one is published, and nobody takes the jobs.
        self.environment = {
            "SECATEUR_DATA_DIR": str(data_dir),
            "SECATEUR_BROKER_URL": broker_url,
            # One tenant opens all streams here.
            "SECATEUR_MAX_EVENT_STREAMS_PER_TENANT": "2000",
        }
        self._settings = settings = Settings(data_dir=data_dir)
        self._database = Database(settings.database_url, settings.database_seconds)
        self._artifacts_url = settings.artifacts_url
        self.job: dict[str, Any] = {"pruning": {"target": {"attention_sparsity": 0.5}}}

    def fill(self, url: str) -> None:
        """Upload the inputs that jobs name."""
        with checking(self._settings), httpx.Client(base_url=f"{url}/v1", trust_env=False) as client:
            for kind, files in (("model", checkpoint_files()), ("dataset", dataset_files())):
                made = client.post(f"/{kind}s", json={"files": declared(files)}).raise_for_status().json()["id"]
                for name, data in files.items():
                    client.put(f"/{kind}s/{made}/files/{name}", content=data).raise_for_status()
                found = client.post(f"/{kind}s/{made}/complete").raise_for_status().json()
                while found["state"] == "checking":
                    time.sleep(0.2)
                    found = client.get(f"/{kind}s/{made}").raise_for_status().json()
                self.job[kind] = {"type": "upload", "id": made}

    def declaration(self, weights: Weights) -> dict[str, Any]:
        """A model whose weights are large."""
        files = declared({name: data for name, data in checkpoint_files().items() if name != "model.safetensors"})
        return {"files": [*files, {"name": "model.safetensors", "size": weights.size, "sha256": weights.sha256}]}

    def queue(self, count: int) -> list[str]:
        """Jobs that nobody takes."""
        request = JobRequest.model_validate(self.job)
        with self._database.write() as session:
            return [jobs.create(session, DEFAULT_TENANT, request, {}).id for _ in range(count)]

    def large_step(self, weights: Weights) -> str:
        """Commit a step with the file, as a worker would; its address."""
        [job_id] = self.queue(1)
        path = self._folder / "large"
        with path.open("wb") as file:
            file.writelines(weights.chunks())
        with self._database.write() as session:
            while (job := transitions.claim(session, "benchmark", 3600, 3)) is not None and job.id != job_id:
                transitions.cancel(session, DEFAULT_TENANT, job.id)
        if job is None:
            raise RuntimeError("the job was not there to be claimed")
        lease = Lease(job.id, job.epoch)
        key = f"jobs/{job.id}/epoch-{job.epoch}/step-1/model.safetensors"
        stored = Artifacts(self._artifacts_url).put_file(key, path)
        path.unlink()
        with self._database.write() as session:
            transitions.commit_step(session, lease, step_metrics(0), [], downloadable=False)
            file_row = StepFile("model.safetensors", stored.size, stored.sha256, key)
            transitions.commit_step(session, lease, step_metrics(1), [file_row], downloadable=True)
        return f"/v1/jobs/{job.id}/checkpoints/1/files/model.safetensors"
