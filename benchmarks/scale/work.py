"""Tenants, their tiny jobs, and what became of these: as the database has it, and as clients read it."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from api_schemas.enums import TERMINAL_STATES, JobState, KeyScope
from benchmarks.faults.client import Client
from benchmarks.scale.cost import by_part
from benchmarks.scale.stack import Stack
from benchmarks.scale.turns import Claim, shares
from store.access import api_keys
from store.database.tables import Job, JobStep
from tests.support.uploads import checkpoint_files, dataset_files

SPEC: Mapping[str, Any] = {"pruning": {"target": {"attention_sparsity": 0.5}, "schedule": {"steps": 2}}}
"""As many steps as the sleeping engine makes; of the rest it knows nothing."""
STEPS = 3
JOB_SECONDS = 60.0
"""Far more than a job takes; as a bound on waiting."""


@dataclass(frozen=True)
class Tenant:
    """Somebody with a key, a model and a dataset."""

    name: str
    client: Client
    model: str
    dataset: str

    def submit(self) -> str:
        """The id of a new job."""
        return self.client.submit(self.model, self.dataset, SPEC)


def tenants(stack: Stack, folder: Path, names: Sequence[str]) -> list[Tenant]:
    """Each with uploads of its own."""
    found = []
    for name in names:
        with stack.database.write() as session:
            _, token = api_keys.create(session, name, None, tuple(KeyScope))
        client, uploads = stack.client(token), {}
        for kind, files in (("models", checkpoint_files()), ("datasets", dataset_files())):
            place = folder / f"{name}-{kind}"
            place.mkdir()
            for file, data in files.items():
                (place / file).write_bytes(data)
            uploads[kind] = client.upload(kind, place)
        found.append(Tenant(name, client, uploads["models"], uploads["datasets"]))
    return found


def submit(crowd: Sequence[Tenant], count: int) -> dict[str, Tenant]:
    """That many jobs by id: half of them the first tenant's, who comes before the others, who share the rest."""
    first, others = crowd[0], crowd[1:]
    half = count - count // 2 if others else count
    jobs = {first.submit(): first for _ in range(half)}
    for number in range(count - half):
        tenant = others[number % len(others)]
        jobs[tenant.submit()] = tenant
    return jobs


def ended(stack: Stack, jobs: Mapping[str, Tenant]) -> int:
    """How many of them."""
    with stack.database.read() as session:
        done = Job.state.in_(TERMINAL_STATES)
        return session.scalar(select(func.count()).select_from(Job).where(Job.id.in_(jobs), done)) or 0


def wait(stack: Stack, jobs: Mapping[str, Tenant], count: int, seconds: float) -> None:
    """Until that many have ended; asks the database, so that waiting costs little. Raises TimeoutError, RuntimeError."""
    until = time.monotonic() + seconds
    while (done := ended(stack, jobs)) < count:
        if dead := stack.dead():
            raise RuntimeError(f"{', '.join(dead)} ended")
        if time.monotonic() > until:
            raise TimeoutError(f"{done} of {count} jobs had ended after {seconds:.0f} s")
        time.sleep(0.5)


def throughput(stack: Stack, crowd: Sequence[Tenant], workers: int, jobs_each: int) -> dict[str, Any]:
    """Jobs a second with that many workers, from the first submission to the last end; turns, and processor seconds."""
    stack.grow_to(workers)
    before = stack.spent()
    jobs = submit(crowd, workers * jobs_each)
    wait(stack, jobs, len(jobs), JOB_SECONDS * jobs_each)
    for job, tenant in jobs.items():
        tenant.client.job(job)  # Who submits asks how it went, too; that is a part of the cost.
    after = stack.spent()
    rows = _rows(stack, jobs)
    began = min(row.created_at.timestamp() for row in rows)
    last = max(row.finished_at.timestamp() for row in rows if row.finished_at)
    held = [(row.finished_at - row.started_at).total_seconds() for row in rows if row.finished_at and row.started_at]
    claims = [
        Claim(row.tenant, row.created_at.timestamp(), row.started_at.timestamp()) for row in rows if row.started_at
    ]
    return {
        "workers": workers,
        "jobs": len(jobs),
        "succeeded": sum(row.state == JobState.SUCCEEDED for row in rows),
        "seconds": last - began,
        "jobs_a_second": len(jobs) / (last - began),
        "job_seconds": sum(held) / len(held),
        "turns": shares(claims),
        "cost": by_part({name: each.since(before[name]) for name, each in after.items()}, len(jobs)),
    }


def account(stack: Stack, jobs: Mapping[str, Tenant]) -> dict[str, Any]:
    """What was lost, and what was done twice: every job, its steps, its events, and the bytes of its files."""
    rows = _rows(stack, jobs)
    with stack.database.read() as session:
        of_steps = select(JobStep.job_id, JobStep.step).where(JobStep.job_id.in_(jobs)).order_by(JobStep.step)
        steps: dict[str, list[int]] = {}
        for job, step in session.execute(of_steps):
            steps.setdefault(job, []).append(step)
    broken = [job for job, tenant in jobs.items() if not _whole(tenant.client, job)]
    return {
        "jobs": len(jobs),
        "lost": sum(row.state != JobState.SUCCEEDED for row in rows) + len(jobs) - len(rows),
        "steps_wrong": sum(steps.get(job) != list(range(STEPS)) for job in jobs),
        "broken": len(broken),
        "claimed_again": sum(row.epoch > 1 for row in rows),
    }


def _whole(client: Client, job: str) -> bool:
    """Whether its events are numbered without gaps, it succeeded once, and each file that a step names has the bytes it says."""
    events = client.events(job)
    numbered = [event["seq"] for event in events] == list(range(1, len(events) + 1))
    succeeded = [event for event in events if event["body"].get("state") == "succeeded"]
    try:
        files = client.fingerprint(job)
    except AssertionError:
        return False
    return numbered and len(succeeded) == 1 and len(files) == STEPS - 1


def _rows(stack: Stack, jobs: Mapping[str, Tenant]) -> Sequence[Job]:
    with stack.database.read() as session:
        return session.scalars(select(Job).where(Job.id.in_(jobs))).all()
