"""What a user's own script would do over HTTP: upload, submit, follow, download. Built on the contract and httpx alone."""

import hashlib
import tarfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx

from api_schemas.enums import TERMINAL_STATES, JobState
from api_schemas.resources import CheckpointResource, DatasetResource, JobResource, ModelResource
from api_schemas.spec import JobRequest
from secateur.progress import JobBar
from secateur.tables import percent, quality

BLOCK = 2**20
POLL_SECONDS = 1.0
MODEL_FILES = ("config.json", "preprocessor_config.json", "model*.safetensors", "model.safetensors.index.json")


class DemoError(Exception):
    """Something the demo cannot go on after; the text says what."""


class Client:
    """One connection to the service."""

    def __init__(self, url: str) -> None:
        # No proxy of the environment between this machine and itself. Checking a large dataset takes its time.
        self._http = httpx.Client(base_url=url, trust_env=False, timeout=httpx.Timeout(10, read=600, write=600))

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def upload_model(self, folder: Path) -> ModelResource:
        """A checkpoint folder; returns it with the layout that the service found in it."""
        files = sorted({path for pattern in MODEL_FILES for path in folder.glob(pattern)})
        return ModelResource.model_validate(self._upload("models", folder.name, files))

    def upload_dataset(self, folder: Path) -> DatasetResource:
        """A folder of parquet shards; returns it with what the service found in them."""
        return DatasetResource.model_validate(self._upload("datasets", folder.name, sorted(folder.glob("*.parquet"))))

    def submit(self, request: JobRequest) -> JobResource:
        """Queue a job."""
        answer = self._call("POST", "/v1/jobs", json=request.model_dump(mode="json"))
        return JobResource.model_validate(answer.json())

    def follow(self, job_id: str, bar: JobBar) -> JobResource:
        """Poll until the job has ended, showing where it is. Raises DemoError where it did not succeed."""
        told = 0
        while True:
            job = JobResource.model_validate(self._call("GET", f"/v1/jobs/{job_id}").json())
            for step in job.metrics[told:]:
                bar.note(
                    f"step {step.step}: {percent(step.achieved_sparsity)} of attention removed, "
                    f"{quality(step.validation)} on validation"
                )
            told = len(job.metrics)
            if job.progress is not None:
                bar.update(**job.progress.model_dump())
            if job.state in TERMINAL_STATES:
                break
            time.sleep(POLL_SECONDS)
        if job.state is not JobState.SUCCEEDED:
            reason = f"{job.error.code.value}: {job.error.detail}" if job.error else "no reason given"
            raise DemoError(f"job {job.id} ended {job.state.value}: {reason}")
        return job

    def last_checkpoint(self, job_id: str) -> CheckpointResource:
        """The job's last step that has a model."""
        items = self._call("GET", f"/v1/jobs/{job_id}/checkpoints").json()["items"]
        return max((CheckpointResource.model_validate(item) for item in items), key=lambda checkpoint: checkpoint.step)

    def download(self, checkpoint: CheckpointResource, folder: Path) -> Path:
        """Fetch the archive, unpack it, and compare every file with its announced SHA-256; returns the checkpoint's folder."""
        archive = folder / "checkpoint.tar"
        with self._http.stream("GET", checkpoint.archive_url) as answer, archive.open("wb") as file:
            _raise_for(answer)
            for block in answer.iter_bytes(BLOCK):
                file.write(block)
        with tarfile.open(archive) as tar:
            tar.extractall(folder / "unpacked", filter="data")
        (unpacked,) = (folder / "unpacked").iterdir()
        for entry in checkpoint.files:
            if sha256(unpacked / entry.name) != entry.sha256:
                raise DemoError(f"{entry.name} did not arrive as announced: its SHA-256 differs")
        return unpacked

    def _upload(self, kind: str, name: str, files: Sequence[Path]) -> Any:
        """Declare, send file by file, complete."""
        declared = [{"name": file.name, "size": file.stat().st_size, "sha256": sha256(file)} for file in files]
        upload_id = self._call("POST", f"/v1/{kind}", json={"name": name[:128], "files": declared}).json()["id"]
        for file in files:
            headers = {"Content-Length": str(file.stat().st_size), "Content-Type": "application/octet-stream"}
            self._call("PUT", f"/v1/{kind}/{upload_id}/files/{file.name}", content=_blocks(file), headers=headers)
        return self._call("POST", f"/v1/{kind}/{upload_id}/complete").json()

    def _call(self, method: str, path: str, **body: Any) -> httpx.Response:
        answer = self._http.request(method, path, **body)
        _raise_for(answer)
        return answer


def sha256(file: Path) -> str:
    """Of a file's bytes, in hex."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _blocks(file: Path) -> Iterator[bytes]:
    with file.open("rb") as opened:
        while block := opened.read(BLOCK):
            yield block


def _raise_for(answer: httpx.Response) -> None:
    if answer.is_error:
        answer.read()
        raise DemoError(f"{answer.request.method} {answer.request.url.path}: {answer.status_code} {answer.text}")
