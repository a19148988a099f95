"""One attempt at a job: starts the engine, acts on every line of its output, publishes its finished steps."""

import logging
import queue
import time
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from api_schemas.api.resources import JobProgress
from api_schemas.enums import Phase
from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.results.events import (
    DataReady,
    EngineEvent,
    Failed,
    Finished,
    PhaseChanged,
    Progress,
    Started,
    StepDone,
    TrainingSaved,
)
from api_schemas.results.metrics import JobResult
from store.database.connection import Database
from store.database.tables import Job
from store.files.artifacts import Artifacts
from store.jobs import preemption, transitions
from store.jobs.transitions import Lease
from store.settings import Settings
from worker.children import confinement
from worker.children.child import Child
from worker.children.engine_output import Crashed, OutOfMemory, committed_result, obituary, parse_event, verdict
from worker.children.job_folders import JobFolders
from worker.children.job_log import JobLog
from worker.lease import retries
from worker.lease.heartbeat import Heartbeat, Interrupted, Reason
from worker.supervisor.engines import Engines
from worker.supervisor.job_trace import JobTrace
from worker.supervisor.memory import SessionWatch, oom_kills, samples_at_once
from worker.supervisor.step_files import Uploads

log = logging.getLogger(__name__)

POLL_SECONDS = 0.2
EXIT_SECONDS = 30.0  # Between the end of the engine's output and the end of its process.
LOG_LINES = 12


class Attempt:
    """The engine's part of one claim; the inputs are in `place`."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        artifacts: Artifacts,
        job: Job,
        place: JobFolders,
        beat: Heartbeat,
        job_log: JobLog,
        engines: Engines,
        threads: int,
        claimed_at: float,
        trace: JobTrace,
    ) -> None:
        """`threads`: of the engine. `claimed_at`: by this process's monotonic clock."""
        self._settings, self._database, self._engines, self._threads = settings, database, engines, threads
        self._job, self._place, self._beat, self._log = job, place, beat, job_log
        self._trace = trace
        self._lease = Lease(job.id, job.epoch)
        self._uploads = Uploads(artifacts, self._lease, beat, settings.storage_patience_seconds)
        self._next_step = 0 if job.last_step is None else job.last_step + 1
        self._steps: int | None = None
        self._phase: Phase | None = None
        self._claimed_at = claimed_at
        self._starting_seconds: float | None = None
        """From the claim to the engine's first phase, until a step has reported it."""
        self._device: str = settings.device
        self._isolation: tuple[str, ...] | None = None

    def run(self) -> JobResult | None:
        """Returns the job's result if the engine has finished; raises in every other case.

        SecateurError: a retry would fail again. Crashed, OutOfMemory: a retry may succeed. Interrupted: the work must stop; the
        engine has ended. LeaseLost.
        """
        killed_before = oom_kills()
        place = self._place
        self._engines.furnish(place.home)
        confinement.hand_over(place, self._settings)
        cage = confinement.of_engine(place, self._settings)
        started = self._engines.start(
            self._arguments(), cage, place.root, place.home, self._threads, self._trace.traceparent
        )
        child = Child(started, self._log)
        self._beat.kill_when_lost(child.kill)
        try:
            last = self._watch(child)
            status = child.wait(EXIT_SECONDS)
        except Interrupted as stop:
            child.terminate(0 if stop.reason is Reason.LOST else self._settings.cancel_grace_seconds)
            raise
        finally:
            child.close()
        self._beat.check()
        if isinstance(last, Failed):
            raise self._out_of_memory(last.detail) if last.code is ErrorCode.OUT_OF_MEMORY else verdict(last)
        if isinstance(last, Finished) and status == 0:
            return committed_result(last, self._next_step - 1)
        if oom_kills() > killed_before:
            raise self._out_of_memory("The kernel killed the engine because the worker ran out of memory.")
        raise Crashed(ErrorCode.ENGINE_CRASHED, obituary(status, self._log.tail(LOG_LINES)))

    def _arguments(self) -> list[str]:
        settings, place, job = self._settings, self._place, self._job
        options: dict[str, Path | int | float | str | None] = {
            "--model": place.model,
            "--data": place.data,
            "--spec": place.spec,
            "--out": place.out,
            "--cache": place.cache,
            "--threads": self._threads,
            "--device": settings.device,
            "--training-seconds": settings.training_seconds,
            "--microbatch": job.microbatch,
            "--processes": settings.engine_devices if settings.engine_devices > 1 else None,
            "--resume": job.last_step,
            "--training": place.training if place.training.exists() else None,
        }
        given = [text for name, value in options.items() if value is not None for text in (name, str(value))]
        return [*given, "--watch-stdin"]

    def _watch(self, child: Child) -> EngineEvent | None:
        """Act on every event until the engine closes its output; returns the last one. Raises Crashed if the engine stalls."""
        last: EngineEvent | None = None
        heard = time.monotonic()
        orphaned = False
        taken = SessionWatch(child.process.pid, self._settings.engine_memory_bytes, self._settings.engine_processes)
        while True:
            self._beat.check()
            if (detail := taken.too_much_memory()) is not None:
                raise self._out_of_memory(detail)
            try:
                line = child.next_line(timeout=POLL_SECONDS)
            except queue.Empty:
                if child.wait(0) is not None:
                    # A process that the engine started still holds its output open. Its unread output arrives until the group is
                    # dead; a process that has left the group is not waited for.
                    if orphaned:
                        return last
                    child.kill()
                    orphaned = True
                elif time.monotonic() - heard > self._settings.stall_seconds:
                    detail = f"The engine sent nothing for {self._settings.stall_seconds:.0f} seconds and was stopped."
                    tail = self._log.tail(LOG_LINES)
                    raise Crashed(
                        ErrorCode.STALLED, f"{detail} The last lines of its log:\n{tail}" if tail else detail
                    ) from None
                continue
            if line is None:
                return last
            if not line.startswith("{"):
                log.debug("engine: %s", line)  # Output of a library that prints.
                continue
            heard = time.monotonic()
            if self._isolation is None:
                self._isolation = confinement.report(line)
                continue
            last = parse_event(line)
            self._handle(last)
            heard = time.monotonic()

    def _handle(self, event: EngineEvent) -> None:
        match event:
            case StepDone():
                with self._trace.committing(event.metrics.step):
                    self._commit_step(event)
            case TrainingSaved():
                self._save_training(event)
            case Progress():
                self._beat.report(JobProgress.model_validate(event.model_dump(exclude={"type"})))
            case Failed():
                if event.traceback:
                    log.error("job %s: the engine failed\n%s", self._job.id, event.traceback)
                self._record(event.model_copy(update={"traceback": None}))
            case PhaseChanged():
                if self._phase is None:
                    self._starting_seconds = round(time.monotonic() - self._claimed_at, 3)
                self._phase = event.phase
                self._trace.phase(event.phase, event.step)
                self._record(event, phase=event.phase)
            case DataReady():
                self._record(event, data=event.data)
            case Started():
                self._steps, self._device = event.steps, event.device
                self._trace.started(event.device, self._threads)
                self._record(event)
            case _:
                self._record(event)

    def _commit_step(self, event: StepDone) -> None:
        step = event.metrics.step
        if step != self._next_step:
            raise Crashed(
                ErrorCode.ENGINE_ERROR, f"The engine reported step {step}, but step {self._next_step} was expected."
            )
        # The sandbox layers and the start time are reported by the worker, not by the engine.
        seconds = dict(event.metrics.seconds)
        if self._starting_seconds is not None:
            seconds = {Phase.STARTING.value: self._starting_seconds, **seconds}
        metrics = event.metrics.model_copy(update={"isolation": self._isolation or (), "seconds": seconds})
        event = event.model_copy(update={"metrics": metrics})
        files = self._uploads.step(self._place.out, event)
        self._beat.check()
        downloadable = any(file.name.endswith(".safetensors") for file in files)

        def commit(session: Session) -> tuple[Job, bool]:
            committed = transitions.commit_step(
                session, self._lease, event.metrics, files, downloadable=downloadable, events=[event]
            )
            return committed, preemption.must_yield(session, committed)

        job, must_yield = retries.write(self._database, commit, self._settings.lease_seconds)
        self._next_step += 1
        self._starting_seconds = None
        log.info("job %s: step %d committed", self._job.id, step)
        # After the last step there is nothing to stop: the job ends by itself. If the target is a bound on the drop, only the
        # engine knows which step is the last.
        bounded = self._job.request.pruning.target.max_drop is not None
        if bounded or step != self._steps:
            if job.pause_requested:
                raise Interrupted(Reason.PAUSED)
            if must_yield:
                raise Interrupted(Reason.PREEMPTED)

    def _save_training(self, event: TrainingSaved) -> None:
        if event.step != self._next_step:
            raise Crashed(
                ErrorCode.ENGINE_ERROR, f"The engine is at step {event.step}, but step {self._next_step} was expected."
            )
        try:
            training = self._uploads.training(self._place.out, event)
        except SecateurError as error:
            log.warning("job %s: the saved state of its recovery is not kept: %s", self._job.id, error)
            return
        if training is None:
            return

        def save(session: Session) -> bool:
            return preemption.must_yield(session, transitions.save_training(session, self._lease, training, [event]))

        if retries.write(self._database, save, self._settings.lease_seconds):
            raise Interrupted(Reason.PREEMPTED)

    def _record(self, event: EngineEvent, **about_job: Any) -> None:
        retries.write(
            self._database,
            lambda session: transitions.record(session, self._lease, [event], **about_job),
            self._settings.lease_seconds,
        )

    def _out_of_memory(self, detail: str) -> OutOfMemory:
        samples = samples_at_once(self._job.request, self._phase, self._device, self._job.microbatch)
        return OutOfMemory(detail, samples)
