"""Runs jobs: claims one, brings its inputs, starts the engine, publishes each step, and sees the job to its end.

The supervisor never computes: it watches a child process and a lease. Whatever happens, exactly one of these follows:

    the engine finished                    → succeeded
    it failed for a reason that stays      → failed
    it crashed, or the inputs did not come → queued again, failed at the cap
    somebody cancelled                     → the engine is ended (TERM, wait, KILL), then cancelled
    this worker shuts down                 → the engine is ended, the job handed back, no failure counted
    the lease was lost                     → the engine is killed and nothing is written: the job is somebody else's
"""

import logging
import os
import queue
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.events import DataReady, EngineEvent, Failed, Finished, PhaseChanged, Progress, StepDone
from api_schemas.metrics import JobResult
from api_schemas.resources import JobError, JobProgress
from store import transitions
from store.artifacts import Artifacts
from store.database import Database
from store.settings import Settings
from store.tables import Job
from store.transitions import Lease, LeaseLost
from worker.child import Child, minimal_environment
from worker.engine_output import Crashed, committed_result, obituary, parse_event, verdict
from worker.heartbeat import Heartbeat, Interrupted, Reason
from worker.inputs import Inputs, TransientFailure, Workplace
from worker.scratch import Scratch
from worker.steps import upload_step

log = logging.getLogger(__name__)

POLL_SECONDS = 0.2
EXIT_SECONDS = 30.0  # Between the end of the engine's output and its own.
LOG_LINES = 12

T = TypeVar("T")


class Supervisor:
    """One device's worth of work. Not for several threads at once."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        artifacts: Artifacts,
        scratch: Scratch,
        shutdown: threading.Event,
    ) -> None:
        self._settings = settings
        self._database = database
        self._artifacts = artifacts
        self._scratch = scratch
        self._shutdown = shutdown
        self._inputs = Inputs(database, artifacts, settings)
        self._name = f"{socket.gethostname()}:{os.getpid()}"

    def run_until_empty(self) -> int:
        """Run job after job until none is left or the worker shuts down; returns how many were begun."""
        begun = 0
        while not self._shutdown.is_set() and self.run_one():
            begun += 1
        return begun

    def run_one(self) -> bool:
        """Claim the best job and see it to its end. False where there was none."""
        claimed_at = time.monotonic()
        settings = self._settings
        with self._database.write() as session:
            job = transitions.claim(session, self._name, settings.lease_seconds, settings.failure_cap)
        if job is None:
            return False
        lease = Lease(job.id, job.epoch)
        log.info("job %s claimed, epoch %d", job.id, job.epoch)
        with Heartbeat(self._database, settings, lease, self._shutdown, claimed_at) as beat:
            try:
                self._run(job, lease, beat)
            except LeaseLost:
                log.warning("job %s is no longer this worker's (epoch %d)", job.id, job.epoch)
        return True

    def _run(self, job: Job, lease: Lease, beat: Heartbeat) -> None:
        """To the end of the work, and then the one transition that fits. Raises LeaseLost."""
        try:
            with self._scratch.job(job.id) as folder:
                result = self._work(job, lease, Workplace(folder), beat)
        except Interrupted as stop:
            self._stopped(lease, stop.reason)
        except SecateurError as error:
            failure = JobError(code=error.code, detail=error.detail, errors=error.errors)
            self._unless_cancelled(lease, lambda session: transitions.fail(session, lease, failure))
        except TransientFailure as failure_now:
            self._crash(lease, JobError(code=failure_now.error.code, detail=failure_now.error.detail))
        except Crashed as crash:
            self._crash(lease, crash.error)
        except LeaseLost:
            # The write was refused: because of a cancel that came first, or because the job is gone.
            self._unless_cancelled(lease, None)
        except Exception:
            log.exception("job %s: the supervisor itself failed", job.id)
            detail = "The worker could not run the job; its log says why. The job is tried again on its own."
            self._crash(lease, JobError(code=ErrorCode.INTERNAL, detail=detail))
        else:
            self._unless_cancelled(lease, lambda session: transitions.succeed(session, lease, result=result))

    # --- the work ---

    def _work(self, job: Job, lease: Lease, place: Workplace, beat: Heartbeat) -> JobResult | None:
        """Returns what the job comes to when the engine has finished; raises in every other case."""
        self._inputs.fetch(job, place, beat)
        beat.check()
        child = Child(
            self._command(job, place),
            folder=place.root,
            environment=minimal_environment(place.home, self._settings.engine_threads),
            log_file=place.root / "engine.log",
            max_log_bytes=self._settings.max_log_bytes,
        )
        beat.kill_when_lost(child.kill)
        try:
            return self._watch(child, lease, place, beat, 0 if job.last_step is None else job.last_step + 1)
        except Interrupted as stop:
            child.terminate(0 if stop.reason is Reason.LOST else self._settings.cancel_grace_seconds)
            raise
        finally:
            child.close()

    def _command(self, job: Job, place: Workplace) -> list[str]:
        settings = self._settings
        command = [
            *settings.engine_command,
            "--model",
            str(place.model),
            "--data",
            str(place.data),
            "--spec",
            str(place.spec),
        ]
        command += ["--out", str(place.out), "--cache", str(place.cache), "--threads", str(settings.engine_threads)]
        command += ["--device", settings.device, "--watch-stdin"]
        return command + (["--resume", str(job.last_step)] if job.last_step is not None else [])

    def _watch(self, child: Child, lease: Lease, place: Workplace, beat: Heartbeat, next_step: int) -> JobResult | None:
        last: EngineEvent | None = None
        while True:
            beat.check()
            try:
                line = child.next_line(timeout=POLL_SECONDS)
            except queue.Empty:
                continue
            if line is None:
                break
            if not line.startswith("{"):
                log.debug("engine: %s", line)  # A library that prints.
                continue
            last = parse_event(line)
            if isinstance(last, StepDone):
                self._commit_step(last, lease, place, beat, next_step)
                next_step += 1
            else:
                self._handle(last, lease, beat)
        status = child.wait(EXIT_SECONDS)
        beat.check()
        if isinstance(last, Failed):
            raise verdict(last)
        if isinstance(last, Finished) and status == 0:
            return committed_result(last, next_step - 1)
        raise Crashed(ErrorCode.ENGINE_CRASHED, obituary(status, child.log_tail(LOG_LINES)))

    def _handle(self, event: EngineEvent, lease: Lease, beat: Heartbeat) -> None:
        match event:
            case Progress():
                beat.report(JobProgress.model_validate(event.model_dump(exclude={"type"})))
            case Failed():
                if event.traceback:
                    log.error("job %s: the engine failed\n%s", lease.job_id, event.traceback)
                self._record(lease, event.model_copy(update={"traceback": None}))
            case PhaseChanged():
                self._record(lease, event, phase=event.phase)
            case DataReady():
                self._record(lease, event, data=event.data)
            case _:
                self._record(lease, event)

    def _commit_step(self, event: StepDone, lease: Lease, place: Workplace, beat: Heartbeat, next_step: int) -> None:
        if event.metrics.step != next_step:
            raise Crashed(ErrorCode.ENGINE_ERROR, f"The engine announced step {event.metrics.step}, not {next_step}.")
        files = upload_step(self._artifacts, lease, place.out, event, beat)
        beat.check()
        downloadable = any(file.name.endswith(".safetensors") for file in files)
        self._write(
            lambda session: transitions.commit_step(
                session, lease, event.metrics, files, downloadable=downloadable, events=[event]
            )
        )
        log.info("job %s: step %d committed", lease.job_id, event.metrics.step)

    def _record(self, lease: Lease, event: EngineEvent, **about_job: Any) -> None:
        self._write(lambda session: transitions.record(session, lease, [event], **about_job))

    # --- the end ---

    def _stopped(self, lease: Lease, reason: Reason) -> None:
        match reason:
            case Reason.LOST:
                raise LeaseLost(lease)
            case Reason.CANCELLED:
                self._write(lambda session: transitions.confirm_cancel(session, lease))
            case Reason.SHUTDOWN:
                self._write(lambda session: transitions.release(session, lease))
        log.info("job %s: %s", lease.job_id, reason.value)

    def _crash(self, lease: Lease, error: JobError) -> None:
        settings = self._settings
        log.error("job %s: %s", lease.job_id, error.detail)
        self._write(
            lambda session: transitions.crash(
                session,
                lease,
                error,
                failure_cap=settings.failure_cap,
                retry_delay_seconds=settings.retry_delay_seconds,
            )
        )

    def _unless_cancelled(self, lease: Lease, transition: Callable[[Session], None] | None) -> None:
        """Make the transition; where a cancel came first, that wins. Raises LeaseLost."""
        try:
            if transition is None:
                raise LeaseLost(lease)
            self._write(transition)
        except LeaseLost:
            self._write(lambda session: transitions.confirm_cancel(session, lease))

    def _write(self, action: Callable[[Session], T]) -> T:
        """One transaction; a database that is away for less than a lease does not end the job. Raises LeaseLost."""
        give_up = time.monotonic() + self._settings.lease_seconds
        while True:
            try:
                with self._database.write() as session:
                    return action(session)
            except OperationalError as error:
                if time.monotonic() > give_up:
                    raise LeaseLost from error
                log.warning("the database does not answer, trying again: %s", error.orig)
                time.sleep(POLL_SECONDS)
