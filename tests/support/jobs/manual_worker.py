"""A worker by hand: what a job's worker writes, written by a test into the database and the artifacts of a running service."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from api_schemas.api.resources import JobError, JobProgress
from api_schemas.results.events import Warned
from api_schemas.results.metrics import JobResult
from store.database.connection import Database
from store.files.artifacts import Artifacts
from store.jobs import logs, transitions
from store.jobs.transitions import Lease, StepFile
from tests.support.jobs.records import step_metrics


@dataclass
class ManualWorker:
    """Of one job at a time."""

    database: Database
    artifacts: Artifacts
    scratch: Path
    lease: Lease | None = None

    def claim(self, job_id: str) -> None:
        """Take the job, which must be the next."""
        with self.database.write() as session:
            job = transitions.claim(session, "by hand", 600, 3)
            assert job is not None
            assert job.id == job_id, "another job of the tests is in front"
            self.lease = Lease(job.id, job.epoch)

    def say(self, progress: JobProgress) -> None:
        """With a heartbeat."""
        with self.database.write() as session:
            transitions.renew(session, self._lease, 600, progress)

    def warn(self, count: int) -> None:
        """So many events."""
        with self.database.write() as session:
            transitions.record(
                session, self._lease, [Warned(code="test", detail=str(number)) for number in range(count)]
            )

    def log(self, start: int, text: str) -> None:
        with self.database.write() as session:
            logs.append(session, self._lease, start, text, 10**6)

    def commit(self, step: int, files: Mapping[str, bytes]) -> None:
        """A step; from the first on with a model."""
        stored = []
        for name, data in files.items():
            path = self.scratch / "staged"
            path.write_bytes(data)
            self.artifacts.put_file(self.key(step, name), path)
            stored.append(StepFile(name, len(data), hashlib.sha256(data).hexdigest(), self.key(step, name)))
        with self.database.write() as session:
            transitions.commit_step(session, self._lease, step_metrics(step), stored, downloadable=step > 0)

    def key(self, step: int, name: str) -> str:
        """Where a file of a step lies."""
        return f"jobs/{self._lease.job_id}/epoch-{self._lease.epoch}/step-{step}/{name}"

    def succeed(self, step: int) -> None:
        """With this step as the result."""
        result = JobResult(step=step, stopped=None, detail="The target was met.", test=step_metrics(step).validation)
        with self.database.write() as session:
            transitions.succeed(session, self._lease, result=result)

    def fail(self, error: JobError) -> None:
        with self.database.write() as session:
            transitions.fail(session, self._lease, error)

    @property
    def _lease(self) -> Lease:
        assert self.lease is not None
        return self.lease
