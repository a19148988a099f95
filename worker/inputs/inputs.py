"""Brings what a job needs into its scratch folder: model, dataset, the last committed step if there is one, the spec.

Afterwards the engine sees only local files. Every byte from the artifact store is checked against its SHA-256.
"""

import json
import logging
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel

from api_schemas.enums import UploadState
from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.spec.inputs import BucketModel, HubDataset, HubModel, StepModel, UploadedModel
from checkpoints.file_names import checkpoint_names
from store.database.connection import Database
from store.database.tables import Job, JobStepFile, TrainingFile, UploadFile
from store.files.artifacts import Artifacts
from store.jobs import jobs
from store.machine import threads_of_next
from store.settings import Settings
from store.uploads import uploads
from worker.children import confinement
from worker.children.child import Child, minimal_environment, spawned
from worker.children.job_folders import JobFolders
from worker.children.job_log import JobLog
from worker.inputs import remote_models
from worker.inputs.hub import Away, Hub, Refused
from worker.inputs.hub_dataset import fetch_dataset
from worker.inputs.kept_inputs import KeptInputs, room
from worker.inputs.remote_models import TransientFailure
from worker.lease.heartbeat import Heartbeat
from worker.lease.retries import stored

log = logging.getLogger(__name__)

POLL_SECONDS = 0.5


class FetchFailure(BaseModel):
    """The last line of a reader that did not succeed."""

    detail: str
    transient: bool
    """True where trying again later may help."""


class Inputs:
    """Fetches for one worker."""

    def __init__(self, database: Database, artifacts: Artifacts, settings: Settings, kept: KeptInputs) -> None:
        self._database = database
        self._artifacts = artifacts
        self._settings = settings
        self._kept = kept

    def fetch(self, job: Job, place: JobFolders, beat: Heartbeat, job_log: JobLog) -> None:
        """Fill `place`. Raises SecateurError where the job cannot ever run, TransientFailure, or Interrupted."""
        for folder in (place.model, place.data, place.out, place.home):
            folder.mkdir()
        place.cache.mkdir(exist_ok=True)  # An earlier job of the tenant may have left it.
        self._fetch_model(job, place.model, beat)
        if isinstance(job.request.dataset, HubDataset):
            self._fetch_hub_dataset(job.request.dataset, place, beat, job_log)
        else:
            self._fetch_upload("dataset", job.request.dataset.id, job.tenant, place.data, beat)
        if job.last_step is not None:
            self._fetch_step(job, job.last_step, place.out, beat)
        if job.training is not None:
            self._fetch_training(job.training, place, beat)
        place.spec.write_text(job.request.engine_spec(job.lineage).model_dump_json(indent=2))

    def _fetch_model(self, job: Job, folder: Path, beat: Heartbeat) -> None:
        match job.request.model:
            case UploadedModel(id=upload_id):
                self._fetch_upload("model", upload_id, job.tenant, folder, beat)
            case StepModel() as reference:
                self._fetch_step_model(job, reference, folder, beat)
            case HubModel() as reference:
                with room():
                    remote_models.from_hub(reference, folder, self._settings, beat.check, self._kept)
            case BucketModel() as reference:
                with room():
                    remote_models.from_bucket(reference, job.lineage, folder, self._settings, beat.check, self._kept)

    def _fetch_step_model(self, job: Job, reference: StepModel, folder: Path, beat: Heartbeat) -> None:
        """Of the step's files those that a checkpoint is read from."""
        with self._database.read() as session:
            steps = jobs.steps(session, job.tenant, reference.job)
        files = [file for row in steps if row.step == reference.step for file in row.files]
        if not files:
            detail = f"Step {reference.step} of {reference.job} no longer exists; run that job again."
            raise SecateurError(ErrorCode.INPUT_LOST, detail)
        chosen = set(checkpoint_names(file.name for file in files))
        wanted = [file for file in files if file.name in chosen]
        self._fetch_files(wanted, folder, beat, f"run {reference.job} again and submit a new job")

    def _fetch_upload(
        self, kind: uploads.UploadKind, upload_id: str, tenant: str, folder: Path, beat: Heartbeat
    ) -> None:
        with self._database.read() as session:
            upload = uploads.get(session, tenant, kind, upload_id)
        if upload is None or upload.state is not UploadState.READY:
            raise SecateurError(ErrorCode.INPUT_LOST, f"The {kind} {upload_id} no longer exists; upload it again.")
        self._fetch_files(upload.files, folder, beat, f"delete {upload_id}, upload it again and submit a new job")

    def _fetch_step(self, job: Job, number: int, out: Path, beat: Heartbeat) -> None:
        """The last committed step alone: its records carry those of the steps before it."""
        with self._database.read() as session:
            steps = jobs.steps(session, job.tenant, job.id)
        step = next(step for step in steps if step.step == number)
        folder = out / f"step-{number}"
        folder.mkdir()
        self._fetch_files(step.files, folder, beat, "submit the job again")

    def _fetch_files(
        self, files: Sequence[UploadFile] | Sequence[JobStepFile], folder: Path, beat: Heartbeat, remedy: str
    ) -> None:
        """Raises INPUT_LOST, with what can be done about it, where the store has lost or damaged one."""
        for file in files:
            beat.check()
            try:
                if file.key is None:
                    raise FileNotFoundError(file.name)
                self._bring(file.key, folder / file.name, file.sha256, beat)
            except FileNotFoundError as error:
                raise _lost(file.name, remedy) from error
            except SecateurError as error:
                raise _lost(file.name, remedy) if error.code is ErrorCode.CHECKSUM_MISMATCH else error from error

    def _fetch_training(self, training: TrainingFile, place: JobFolders, beat: Heartbeat) -> None:
        """Where it is gone or damaged the recovery begins anew."""
        try:
            self._fetch(training.key, place.training, training.sha256, beat)
        except (FileNotFoundError, SecateurError) as error:
            log.warning("the recovery starts over, because its saved state cannot be fetched: %s", error)
            place.training.unlink(missing_ok=True)

    def _bring(self, key: str, path: Path, sha256: str, beat: Heartbeat) -> None:
        """The same, of what another job may need as well."""
        with room():
            self._kept.bring(f"{key} {sha256}", path, lambda: self._fetch(key, path, sha256, beat))

    def _fetch(self, key: str, path: Path, sha256: str, beat: Heartbeat) -> None:
        """Raises FileNotFoundError, CHECKSUM_MISMATCH, SCRATCH_FULL, or what the store says after all patience."""
        with room():
            stored(lambda: self._artifacts.fetch(key, path, sha256), self._settings.storage_patience_seconds, beat)

    def _fetch_hub_dataset(self, dataset: HubDataset, place: JobFolders, beat: Heartbeat, job_log: JobLog) -> None:
        """Fetched here, by the rules for outgoing calls; read by a child, because the datasets library parses untrusted files and
        this process holds the credentials."""
        settings = self._settings
        source = place.root / "download"
        try:
            with room():
                hub = Hub(settings, beat.check, self._kept)
                fetch_dataset(hub, dataset.id, dataset.revision, source, settings.max_dataset_bytes)
        except Refused as error:
            raise _fetch_failed(dataset, str(error)) from error
        except Away as error:
            raise TransientFailure(_fetch_failed(dataset, str(error))) from error
        command = [
            sys.executable,
            "-m",
            "worker.inputs.read_dataset",
            "--source",
            str(source),
            "--out",
            str(place.data),
        ]
        command += ["--config", dataset.config] if dataset.config else []
        environment = minimal_environment(place.home, threads_of_next(settings.engine_threads).count)
        child = Child(spawned(command, confinement.of_reader(place, settings), place.root, environment), job_log)
        beat.kill_when_lost(child.kill)
        try:
            waited = 0.0
            while (status := child.wait(POLL_SECONDS)) is None:
                beat.check()
                waited += POLL_SECONDS
                if waited > settings.fetch_timeout_seconds:
                    raise _fetch_failed(dataset, f"it took longer than {settings.fetch_timeout_seconds:.0f} seconds")
            if status != 0:
                raise _reported(dataset, child, job_log)
        finally:
            child.close()
            for leftover in (place.home / "huggingface", source, place.root / "converted"):
                shutil.rmtree(leftover, ignore_errors=True)


def _reported(dataset: HubDataset, child: Child, job_log: JobLog) -> Exception:
    last = None
    while (line := child.next_line(timeout=5)) is not None:
        last = line
    try:
        failure = FetchFailure.model_validate(json.loads(last or ""))
    except ValueError:
        detail = f"the process that reads it ended with status {child.process.returncode}: {job_log.tail(3)}"
        return TransientFailure(_fetch_failed(dataset, detail))
    error = _fetch_failed(dataset, failure.detail)
    return TransientFailure(error) if failure.transient else error


def _lost(name: str, remedy: str) -> SecateurError:
    detail = f"{name} is lost or damaged in the artifact store. The operator may have a backup; otherwise {remedy}."
    return SecateurError(ErrorCode.INPUT_LOST, detail)


def _fetch_failed(dataset: HubDataset, why: str) -> SecateurError:
    detail = f"The dataset {dataset.id} at {dataset.revision[:12]} could not be fetched: {why}"
    return SecateurError(ErrorCode.DATASET_FETCH_FAILED, detail)
