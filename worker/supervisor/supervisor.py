"""Runs jobs: claims one, fetches its inputs, starts the engine, publishes each step, and sees the job to its end.

The supervisor never computes: it watches a child process and a lease. Whatever happens, exactly one of these follows:

    the engine finished                    → succeeded
    it failed for a permanent reason       → failed
    it crashed, or fetching inputs failed  → queued again, failed at the cap
    a user cancelled                       → the engine is ended (TERM, wait, KILL), then cancelled
    this worker shuts down                 → the engine is ended, the job handed back, no failure counted
    a pause was requested                  → after the running step the engine is ended, then paused
    a job of higher priority needs it      → after the running step, or the next saved epoch, the engine is ended, queued again
    it ran out of memory                   → queued again with half as many samples in a pass, failed the next time
    its time limit is over                 → failed
    the lease was lost                     → the engine is killed, nothing is written; before the next claim the job is handed
                                             back if it is still this worker's, as are those of workers that were killed
"""

import errno
import logging
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import structlog
from sqlalchemy.orm import Session

from api_schemas.api.resources import JobError
from api_schemas.enums import Phase
from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.results.events import PhaseChanged
from api_schemas.results.metrics import JobResult
from store import tracing
from store.database.connection import UNREACHABLE, Database
from store.database.tables import Job
from store.files.artifacts import Artifacts
from store.jobs import job_costs, transitions
from store.jobs.transitions import Lease, LeaseLost
from store.jobs.workers.capabilities import ANY, Capability
from store.machine import running_engine
from store.settings import Settings
from worker.children.engine_output import RETRIED, Crashed, OutOfMemory
from worker.children.job_folders import JobFolders
from worker.children.job_log import JobLog
from worker.inputs.inputs import Inputs
from worker.inputs.kept_inputs import SCRATCH_FULL, KeptInputs
from worker.inputs.remote_models import TransientFailure
from worker.lease import retries
from worker.lease.heartbeat import Heartbeat, Interrupted, Reason
from worker.supervisor.attempt import Attempt
from worker.supervisor.engines import Engines
from worker.supervisor.job_trace import JobTrace
from worker.supervisor.scratch import Scratch
from worker.supervisor.tenant_caches import TenantCaches

log = logging.getLogger(__name__)

T = TypeVar("T")


class Supervisor:
    """Runs the jobs of one device. Not thread-safe."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        artifacts: Artifacts,
        scratch: Scratch,
        shutdown: threading.Event,
        has: Capability = ANY,
    ) -> None:
        """`has`: only jobs that fit it are claimed."""
        self._settings = settings
        self._database = database
        self._artifacts = artifacts
        self._scratch = scratch
        self._shutdown = shutdown
        self._has = has
        self.idle = True
        """Whether no job is running."""
        caches = scratch.folder / "caches"
        # If the artifact store is a folder, a kept copy would be no faster.
        fetched = 0 if settings.artifacts_url.startswith("file:") else settings.shared_bytes
        self._inputs = Inputs(database, artifacts, settings, KeptInputs(caches, fetched))
        self._engines = Engines(settings, scratch.folder)
        self._caches = TenantCaches(caches, settings.shared_bytes)
        # Workers whose jobs must be handed back before the next claim, and whether that is a planned end.
        self._owed = dict.fromkeys(scratch.predecessors, False)

    def warm_up(self) -> None:
        """Start what the first job would otherwise wait for; returns at once."""
        self._engines.warm_up()

    def close(self) -> None:
        """Stop what was started for future jobs."""
        self._engines.close()

    def run_until_empty(self, wake: str | None = None) -> int:
        """Run job after job until none is left or the worker shuts down; returns how many were started. `wake`: see `run_one`."""
        begun = 0
        self.idle = False
        try:
            while not self._shutdown.is_set() and self.run_one(wake if begun == 0 else None):
                begun += 1
        finally:
            self.idle = True
        return begun

    def run_one(self, wake: str | None = None) -> bool:
        """Claim the first job and run it to its end. False if there was none, or the worker shuts down first.

        `wake`: the `traceparent` of the message that led here.
        """
        wait = retries.POLL_SECONDS
        while True:
            claimed_at = time.monotonic()
            try:
                self._hand_back()
                job = self._claim()
                break
            except UNREACHABLE as error:
                log.warning("no job can be claimed, because the database does not respond: %s", error)
            if self._shutdown.wait(wait):
                return False
            wait = min(2 * wait, retries.LONGEST_WAIT)
        if job is None:
            return False
        with (
            JobTrace(job, wake) as trace,
            structlog.contextvars.bound_contextvars(job_id=job.id, attempt=job.epoch, **tracing.log_fields()),
        ):
            self._hold(job, claimed_at, trace)
        return True

    def _claim(self) -> Job | None:
        settings = self._settings
        # If there is no response, the claim may have been made all the same.
        self._owe(planned=True)
        with self._database.write() as session:
            job = transitions.claim(
                session,
                self._scratch.name,
                settings.lease_seconds,
                settings.failure_cap,
                settings.max_running_jobs,
                self._has,
            )
        self._settled()
        return job

    def _hand_back(self) -> None:
        """Hand back jobs that no process works on: those of dead workers, and those that this one lost. It holds none now."""
        if not self._owed:
            return
        with self._database.write() as session:
            for planned in set(self._owed.values()):
                names = [name for name, end in self._owed.items() if end is planned]
                count = transitions.hand_back(session, names, self._settings.failure_cap, planned=planned)
                if count:
                    log.warning("handed back %d jobs of %s", count, ", ".join(names))
        self._settled()

    def _owe(self, *, planned: bool) -> None:
        self._owed[self._scratch.name] = planned
        self._scratch.remember()

    def _settled(self) -> None:
        self._owed.clear()
        self._scratch.forget()

    def _hold(self, job: Job, claimed_at: float, trace: JobTrace) -> None:
        """Run the job under a heartbeat. All log lines meanwhile name it."""
        settings = self._settings
        lease = Lease(job.id, job.epoch)
        log.info("job %s claimed, epoch %d", job.id, job.epoch)
        job_log = JobLog(settings.max_log_bytes)
        limit = job.request.limits.max_runtime
        left = None if limit is None else limit - job.ran_seconds
        with Heartbeat(self._database, settings, lease, self._shutdown, job_log, claimed_at, left) as beat:
            try:
                self._say_starting(job, lease, trace)
                self._run(job, lease, beat, job_log, claimed_at, trace)
            except LeaseLost:
                trace.ended("lease_lost", failed=True)
                log.warning("job %s no longer belongs to this worker (epoch %d)", job.id, job.epoch)
                # Neither the job nor the worker is to blame if the database did not respond.
                self._owe(planned=beat.unanswered)
            except BaseException:
                self._owe(planned=False)
                raise

    def _say_starting(self, job: Job, lease: Lease, trace: JobTrace) -> None:
        step = 0 if job.last_step is None else job.last_step + 1
        trace.phase(Phase.STARTING, step)
        starting = PhaseChanged(phase=Phase.STARTING, step=step, steps=job.request.pruning.steps)
        self._write(lambda session: transitions.record(session, lease, [starting]))

    def _run(
        self, job: Job, lease: Lease, beat: Heartbeat, job_log: JobLog, claimed_at: float, trace: JobTrace
    ) -> None:
        """Do the work, then make the one transition that fits its outcome. Raises LeaseLost."""
        end: Callable[[], None]
        try:
            with self._scratch.job(job.id) as folder:
                place = JobFolders(folder)
                with self._caches.lent(job.tenant, place.cache):
                    result = self._work(job, place, beat, job_log, claimed_at, trace)
        except Interrupted as stop:
            trace.ended(stop.reason.name.lower())
            end = partial(self._stopped, job, lease, stop.reason)
        except SecateurError as error:
            failure = JobError(code=error.code, detail=error.detail, errors=error.errors)
            trace.ended(error.code.value, failed=True)
            end = partial(self._crash if error.code in RETRIED else self._fail, lease, failure)
        except TransientFailure as failure_now:
            trace.ended(failure_now.error.code.value, failed=True)
            end = partial(self._crash, lease, JobError(code=failure_now.error.code, detail=failure_now.error.detail))
        except OutOfMemory as too_much:
            trace.ended(ErrorCode.OUT_OF_MEMORY.value, failed=True)
            end = partial(self._too_much, job, lease, too_much)
        except Crashed as crash:
            trace.ended(crash.error.code.value, failed=True)
            end = partial(self._crash, lease, crash.error)
        except LeaseLost:
            # The write was refused: a cancel came first, or the job was deleted.
            trace.ended("cancelled")
            end = partial(self._unless_cancelled, lease, None)
        except Exception as error:
            log.exception("job %s: the supervisor failed", job.id)
            trace.ended(ErrorCode.INTERNAL.value, failed=True)
            end = partial(self._crash, lease, _own_failure(error))
        else:
            trace.ended("succeeded")
            end = partial(self._unless_cancelled, lease, partial(self._succeed, lease, result))
        beat.flush()
        end()

    def _work(
        self, job: Job, place: JobFolders, beat: Heartbeat, job_log: JobLog, claimed_at: float, trace: JobTrace
    ) -> JobResult | None:
        """Returns the job's result if the engine has finished; raises in every other case."""
        with tracing.current(tracing.begin("fetch inputs")):
            self._inputs.fetch(job, place, beat, job_log)
        beat.check()
        with running_engine(self._settings.engine_threads, self._earlier_threads(job)) as threads:
            log.info("job %s: its engine gets %d threads: %s", job.id, threads.count, threads.why)
            attempt = Attempt(
                self._settings,
                self._database,
                self._artifacts,
                job,
                place,
                beat,
                job_log,
                self._engines,
                # Per process.
                max(1, threads.count // self._settings.engine_devices),
                claimed_at,
                trace,
            )
            return attempt.run()

    def _earlier_threads(self, job: Job) -> int | None:
        """The threads of the engine that this attempt continues from; None if it starts from the beginning."""
        if job.last_step is None:
            return None
        started = self._write(lambda session: job_costs.first_started(session, job.id))
        if started is None or started.processes != self._settings.engine_devices:
            return None  # With another number of processes the sums differ anyway.
        return started.threads * started.processes

    # --- the end ---

    def _stopped(self, job: Job, lease: Lease, reason: Reason) -> None:
        match reason:
            case Reason.LOST:
                raise LeaseLost(lease)
            case Reason.CANCELLED:
                self._write(lambda session: transitions.confirm_cancel(session, lease))
            case Reason.OVERTIME:
                detail = f"The job ran for longer than its limit of {job.request.limits.max_runtime} seconds."
                self._fail(lease, JobError(code=ErrorCode.MAX_RUNTIME, detail=detail))
            case Reason.SHUTDOWN | Reason.PAUSED:
                self._write(lambda session: transitions.release(session, lease))
            case Reason.PREEMPTED:
                self._write(lambda session: transitions.release(session, lease, preempted=True))
        log.info("job %s: %s", lease.job_id, reason.value)

    def _succeed(self, lease: Lease, result: JobResult | None, session: Session) -> None:
        transitions.succeed(session, lease, result=result)
        job_costs.record(session, lease.job_id)

    def _fail(self, lease: Lease, error: JobError) -> None:
        self._unless_cancelled(lease, lambda session: transitions.fail(session, lease, error))

    def _too_much(self, job: Job, lease: Lease, crash: OutOfMemory) -> None:
        """Retry once with half as many samples per pass; after that, the user has to decide."""
        if job.microbatch is None and crash.samples > 1:
            half = crash.samples // 2
            advice = f"The job will be retried with at most {half} samples at a time instead of {crash.samples}."
            self._crash(lease, crash.error(advice), microbatch=half)
        else:
            self._fail(lease, crash.error(f"It used at most {crash.samples} samples at a time."))

    def _crash(self, lease: Lease, error: JobError, microbatch: int | None = None) -> None:
        settings = self._settings
        log.error("job %s: %s", lease.job_id, error.detail)
        self._write(
            lambda session: transitions.crash(
                session,
                lease,
                error,
                # One retry with half the samples is guaranteed, whatever failed before.
                failure_cap=settings.failure_cap if microbatch is None else sys.maxsize,
                retry_delay_seconds=settings.retry_delay_seconds,
                microbatch=microbatch,
            )
        )

    def _unless_cancelled(self, lease: Lease, transition: Callable[[Session], None] | None) -> None:
        """Make the transition, unless a cancel came first, which wins. Raises LeaseLost."""
        try:
            if transition is None:
                raise LeaseLost(lease)
            self._write(transition)
        except LeaseLost:
            self._write(lambda session: transitions.confirm_cancel(session, lease))

    def _write(self, action: Callable[[Session], T]) -> T:
        """One transaction, waiting for the database for up to one lease. Raises LeaseLost."""
        return retries.write(self._database, action, self._settings.lease_seconds)


def _own_failure(error: Exception) -> JobError:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return JobError(code=ErrorCode.SCRATCH_FULL, detail=SCRATCH_FULL)
    detail = "The worker could not run the job; its log contains the reason. The job is retried automatically."
    return JobError(code=ErrorCode.INTERNAL, detail=detail)
