"""Jobs that a supervisor can run: inputs in the artifact store, a database, and the fake engine."""

import asyncio
import hashlib
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from api_schemas.api.resources import DeclaredFile
from store.database.connection import Database
from store.database.tables import Job
from store.database.tenancy import DEFAULT_TENANT
from store.files.artifacts import Artifacts
from store.jobs import jobs
from store.settings import Settings
from store.uploads import uploads
from tests.support.jobs.records import job_request
from tests.support.servers.databases import migrated

FAKE_ENGINE = Path(__file__).with_name("fake_engine.py")
FILES: dict[uploads.UploadKind, dict[str, bytes]] = {
    "model": {"config.json": b"{}", "model.safetensors": b"weights" * 1000},
    "dataset": {"train-00000-of-00001.parquet": b"rows" * 1000, "test-00000-of-00001.parquet": b"row"},
}


def fake_engine(*behaviour: str, marker: Path | None = None) -> tuple[str, ...]:
    """The engine command of the settings."""
    return (sys.executable, str(FAKE_ENGINE), *behaviour, *(["--marker", str(marker)] if marker else []))


@dataclass(frozen=True)
class Bench:
    """A database, an artifact store and the settings that name both."""

    settings: Settings
    database: Database
    artifacts: Artifacts

    @classmethod
    def make(cls, folder: Path, **settings: Any) -> "Bench":
        """With everything below `folder`, and a lease of seconds: a busy disk may keep a commit waiting for five."""
        # Where the fake engine's markers lie.
        reachable = {"engine_folders": (folder,)}
        quick = {"lease_seconds": 20, "heartbeat_seconds": 0.2, "cancel_grace_seconds": 0.3, "retry_delay_seconds": 0}
        made = Settings(**{"data_dir": folder, "engine_threads": 1} | reachable | quick | settings)
        return cls(made, migrated(made.database_url, made.database_seconds), Artifacts(made.artifacts_url))

    def upload(self, kind: uploads.UploadKind) -> str:
        """A ready upload of small files."""
        declared = [
            DeclaredFile(name=name, size=len(data), sha256=hashlib.sha256(data).hexdigest())
            for name, data in FILES[kind].items()
        ]
        with self.database.write() as session:
            upload_id = uploads.create(session, DEFAULT_TENANT, kind, None, declared).id
        for file in declared:
            key = uploads.artifact_key(upload_id, file.name, "1")
            content = _once(FILES[kind][file.name])
            asyncio.run(self.artifacts.put_stream(key, content, size=file.size, sha256=file.sha256))
            with self.database.write() as session:
                assert uploads.record_file(session, DEFAULT_TENANT, upload_id, file.name, key)
        with self.database.write() as session:
            assert uploads.mark_ready(session, DEFAULT_TENANT, upload_id, {})
        return upload_id

    def submit(self, **request: Any) -> str:
        """A job with inputs of its own, and whatever else the request says."""
        body = job_request(self.upload("model"), self.upload("dataset"), **request)
        with self.database.write() as session:
            return jobs.create(session, DEFAULT_TENANT, body, {"model": "test"}).id

    def job(self, job_id: str) -> Job:
        with self.database.read() as session:
            job = jobs.get(session, DEFAULT_TENANT, job_id)
        assert job is not None
        return job

    def steps(self, job_id: str) -> list[int]:
        """Numbers of the committed steps."""
        with self.database.read() as session:
            return [step.step for step in jobs.steps(session, DEFAULT_TENANT, job_id)]


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data
