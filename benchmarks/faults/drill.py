"""The drill: jobs run, something is killed at a random moment, again and again; then everything is counted."""

import logging
import random
import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import select

from api_schemas.enums import JobState
from benchmarks.faults.client import SPEC, Client, Fingerprint
from benchmarks.faults.faults import KILLS
from benchmarks.faults.stack import Stack, wait_until
from store.database.tables import Job

log = logging.getLogger(__name__)

LONGEST_PAUSE = 8.0
JOB_SECONDS = 600.0
RESUME_SECONDS = 60.0
STRAY_SECONDS = 10.0
RECORD = "pruning.json"


@dataclass
class Outcome:
    """What a drill has come to."""

    kills: Counter[str] = field(default_factory=Counter)
    jobs: int = 0
    lost: list[str] = field(default_factory=list)
    """Accepted jobs that did not succeed."""
    duplicated: list[str] = field(default_factory=list)
    """Jobs of which a step was committed twice, or left out."""
    differing: list[str] = field(default_factory=list)
    """Jobs whose files are not those of the undisturbed one."""
    strays: int = 0
    """Engines that outlived their worker by more than ten seconds."""
    resumed_after: list[float] = field(default_factory=list)
    """Seconds from a kill that stopped work until an engine said that it had started on the job."""

    def as_json(self) -> dict[str, Any]:
        """One flat object."""
        resumed = self.resumed_after
        return {
            "kills": sum(self.kills.values()),
            "by_kind": dict(sorted(self.kills.items())),
            "jobs": self.jobs,
            "lost": len(self.lost),
            "duplicated": len(self.duplicated),
            "differing": len(self.differing),
            "strays": self.strays,
            "median_seconds_to_resume": round(statistics.median(resumed), 2) if resumed else None,
            "slowest_seconds_to_resume": round(max(resumed), 2) if resumed else None,
        }


class Drill:
    """One stack, one model, one dataset, and one undisturbed job that all others are compared with."""

    def __init__(
        self,
        stack: Stack,
        model: Path,
        data: Path,
        spec: Mapping[str, Any] = SPEC,
        reference: Fingerprint | None = None,
    ) -> None:
        """`spec`: of every job. `reference`: of an undisturbed job with the same inputs in another stack; none runs here then.

        What such a job's record says of its inputs is how they are called in its stack, so that records are not compared.
        """
        self.stack = stack
        self.spec = spec
        self.client = Client(stack.url)
        self.inputs = self.client.upload("models", model), self.client.upload("datasets", data)
        self.outcome = Outcome()
        self._records_differ = reference is not None
        self._reference = None if reference is None else self._compared(reference)

    def submit(self, **changes: Any) -> str:
        """An accepted job."""
        job_id = self.client.submit(*self.inputs, {**self.spec, **changes})
        self.outcome.jobs += 1
        return job_id

    def reference(self) -> Fingerprint:
        """Of a job that nothing disturbed; run once, so to be asked for before anything is broken."""
        if self._reference is None:
            job_id = self.submit()
            assert self.client.wait(job_id, JOB_SECONDS)["state"] == "succeeded", "the undisturbed job did not succeed"
            self._reference = self.client.fingerprint(job_id)
        return self._reference

    def fingerprint(self, job_id: str) -> Fingerprint:
        """Of a job's steps so far, as it is compared with the reference."""
        return self._compared(self.client.fingerprint(job_id))

    def _compared(self, found: Fingerprint) -> Fingerprint:
        if not self._records_differ:
            return found
        return {step: {name: sha for name, sha in files.items() if name != RECORD} for step, files in found.items()}

    def run(self, kills: int, seed: int, kinds: Mapping[str, float], say: Callable[[str], None] = log.info) -> Outcome:
        """Kill `kills` times, with two jobs under way at all times; then wait and judge.

        Every kind once, as far as there are kills enough, and then kinds drawn by weight.
        """
        random_ = random.Random(seed)
        first = random_.sample(list(kinds), len(kinds))
        self.reference()
        jobs: list[str] = []
        for number in range(kills):
            jobs += self._refill(jobs)
            time.sleep(random_.uniform(0.2, LONGEST_PAUSE))
            kind = first.pop() if first else random_.choices(list(kinds), list(kinds.values()))[0]
            said = self._kill(kind)
            self.outcome.kills[kind] += 1
            say(f"{number + 1:>3} {kind:<12} {said}")
        for job_id in jobs:
            self.judge(job_id)
        return self.outcome

    def judge(self, job_id: str) -> None:
        """Wait for the job, and note what is wrong with it."""
        outcome = self.outcome
        try:
            state = self.client.wait(job_id, JOB_SECONDS)["state"]
        except TimeoutError as error:
            state = str(error)
        if state != "succeeded":
            outcome.lost.append(f"{job_id}: {state}")
            return
        steps = [
            event["body"]["metrics"]["step"] for event in self.client.events(job_id) if event["body"]["type"] == "step"
        ]
        if steps != list(range(len(steps))) or len(steps) != 1 + len(self.reference()):
            outcome.duplicated.append(f"{job_id}: {steps}")
        if self.fingerprint(job_id) != self.reference():
            outcome.differing.append(job_id)

    def _refill(self, jobs: Sequence[str]) -> list[str]:
        """Two that have not ended are enough to keep two workers busy."""
        live = [job_id for job_id in jobs[-4:] if self.client.job(job_id)["state"] in ("queued", "running")]
        new: list[str] = []
        while len(live) + len(new) < 2:
            try:
                new.append(self.submit())
            except (
                httpx.HTTPError
            ):  # Refused while something is down; whether it was accepted is judged by its absence.
                time.sleep(0.5)
        return new

    def _kill(self, kind: str) -> str:
        """Break it; where that stopped work, wait until somebody goes on with it. Returns a few words."""
        held = self._held()
        starts = {job_id: self._starts(job_id) for job_id in held.values()}
        began = time.monotonic()
        hit = [held[pid] for pid in KILLS[kind](self.stack) if pid in held]
        self._count_strays()
        said = []
        for job_id in hit:
            while self._starts(job_id) == starts[job_id] and time.monotonic() - began < RESUME_SECONDS:
                if self.client.job(job_id)["state"] == "succeeded":
                    break
                time.sleep(0.1)
            else:
                self.outcome.resumed_after.append(time.monotonic() - began)
                said.append(f"went on after {self.outcome.resumed_after[-1]:.1f} s")
        return ", ".join(said)

    def _held(self) -> dict[int, str]:
        """Jobs that run, by the process number of their worker."""
        with self.stack.database.read() as session:
            rows = session.execute(select(Job.id, Job.worker).where(Job.state == JobState.RUNNING)).all()
        return {int(worker.rpartition(":")[2]): job_id for job_id, worker in rows if worker}

    def _starts(self, job_id: str) -> int:
        return sum(event["body"]["type"] == "started" for event in self.client.events(job_id))

    def _count_strays(self) -> None:
        try:
            wait_until(lambda: not self.stack.stray_engines(), STRAY_SECONDS, "the end of engines without a worker")
        except TimeoutError:
            self.outcome.strays += len(self.stack.stray_engines())
