"""Removing artifacts that no row names: what a worker staged and never committed, what an upload replaced or gave up.

A key is somebody's while a row names it, or while the claim that staged it lives. Everything else is nobody's for ever:
keys are never written twice, and a claim that has ended cannot commit (store/jobs/transitions.py). Only the time between
writing an upload's file and recording it needs the grace.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from sqlalchemy import select
from sqlalchemy.orm import Session

from api_schemas.enums import TERMINAL_STATES, JobState
from store.database.clock import now
from store.database.connection import Database
from store.database.tables import Job, JobStepFile, ResumablePart, UploadFile
from store.files.artifacts import Artifacts

PREFIXES = ("jobs", "uploads")
BATCH = 500
_STAGED = re.compile(r"jobs/([^/]+)/epoch-(\d+)/.*")


def collect(database: Database, artifacts: Artifacts, grace_seconds: float) -> int:
    """Delete every orphan older than `grace_seconds`; returns how many. Several may run at once."""
    with database.read() as session:
        before = session.execute(now(plus=-grace_seconds).select()).scalar_one()
    removed = 0
    for prefix in PREFIXES:
        old = (found.key for found in artifacts.list(prefix) if found.written_at < before)
        for keys in _in_batches(old):
            with database.read() as session:
                orphans = set(keys) - _named(session, keys)
            for key in sorted(orphans):
                artifacts.delete(key)
            removed += len(orphans)
    return removed


def _named(session: Session, keys: Sequence[str]) -> set[str]:
    """Those of `keys` that are somebody's."""
    named = set(session.scalars(select(JobStepFile.key).where(JobStepFile.key.in_(keys))))
    named |= {key for key in session.scalars(select(UploadFile.key).where(UploadFile.key.in_(keys))) if key}
    named |= set(session.scalars(select(ResumablePart.key).where(ResumablePart.key.in_(keys))))
    staged = {key: match.groups() for key in keys if (match := _STAGED.fullmatch(key))}
    living = select(Job).where(Job.id.in_({job for job, _ in staged.values()}), Job.state.not_in(TERMINAL_STATES))
    jobs = {job.id: job for job in session.scalars(living)}
    for key, (job_id, epoch) in staged.items():
        job = jobs.get(job_id)
        if job is None:
            continue
        claimed = job.state in (JobState.RUNNING, JobState.CANCELLING) and job.epoch == int(epoch)
        if claimed or (job.training is not None and job.training.key == key):
            named.add(key)
    return named


def _in_batches(keys: Iterable[str]) -> Iterator[tuple[str, ...]]:
    rest = iter(keys)
    while batch := tuple(islice(rest, BATCH)):
        yield batch
