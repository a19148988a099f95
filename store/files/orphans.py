"""Removes artifacts that no row references: files that a worker staged and never committed, or that an upload replaced or
abandoned.

A key is in use while a row references it, or while the claim that staged it is alive. All others are unused forever: keys are
never written twice, and a claim that has ended cannot commit (store/jobs/transitions.py). The grace period is needed only for the
time between writing an upload's file and recording it.

The exception is a database restored from a backup that is older than the store: files that it does not reference may be ones that
it does not know yet. Each run stores its number in both, so a restored database is recognised by the lower number. Then nothing
is removed for a time in which the operator can look (`secateur doctor --verify`) and restore what belongs to it.
"""

import logging
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice

from sqlalchemy import select
from sqlalchemy.orm import Session

from api_schemas.enums import TERMINAL_STATES, JobState
from store.database.clock import moment
from store.database.connection import Database
from store.database.tables import Job, JobStepFile, MaintenanceMark, ResumablePart, UploadFile
from store.files.artifacts import Artifacts, Found

log = logging.getLogger(__name__)

PREFIXES = ("jobs", "uploads")
MARKS = "marks"
BATCH = 500
_MARK = "orphans"
_STAGED = re.compile(r"jobs/([^/]+)/epoch-(\d+)/.*")


def collect(
    database: Database,
    artifacts: Artifacts,
    grace_seconds: float,
    restored_seconds: float = 0,
    *,
    dry_run: bool = False,
) -> int:
    """Delete every orphan older than `grace_seconds`; returns how many. Several may run at once.

    Nothing for `restored_seconds` after the database was found to be older than the store. `dry_run`: they are only counted.
    """
    if not dry_run and _is_held_back(database, artifacts, restored_seconds):
        return 0
    removed = 0
    for found in orphans(database, artifacts, grace_seconds):
        removed += 1
        if not dry_run:
            artifacts.delete(found.key)
    return removed


def orphans(database: Database, artifacts: Artifacts, grace_seconds: float) -> Iterator[Found]:
    """Objects that no row references and that are older than `grace_seconds`."""
    with database.read() as session:
        before = moment(session, -grace_seconds)
    for prefix in PREFIXES:
        old = (found for found in artifacts.list(prefix) if found.written_at < before)
        for batch in _in_batches(old):
            with database.read() as session:
                named = _named(session, [found.key for found in batch])
            yield from (found for found in batch if found.key not in named)


def _is_held_back(database: Database, artifacts: Artifacts, seconds: float) -> bool:
    """Whether the database is an older one than the store has seen, or was found to be less than `seconds` ago."""
    marks = {found.key: int(found.key.rpartition("-")[2]) for found in artifacts.list(MARKS)}
    newest = max(marks.values(), default=0)
    with database.write() as session:
        mark = session.get(MaintenanceMark, _MARK, with_for_update=True)
        if mark is None:
            mark = MaintenanceMark(name=_MARK, number=0)
            session.add(mark)
        if mark.number < newest:
            log.warning("the database is older than the artifact store (%d, %d): restored?", mark.number, newest)
            mark.number, mark.wait_until = newest, moment(session, seconds)
        held_until = mark.wait_until
        held = held_until is not None and held_until > moment(session)
        mark.number += 1
        number = mark.number
    artifacts.put_bytes(f"{MARKS}/collected-{number}", b"")
    for key, earlier in marks.items():
        if earlier < number:
            artifacts.delete(key)
    if held:
        log.warning(
            "no artifact is removed before %s; `secateur doctor --verify` compares rows and objects", held_until
        )
    return held


def _named(session: Session, keys: Collection[str]) -> set[str]:
    """Those of `keys` that are somebody's."""
    staged = {key: match.groups() for key in keys if (match := _STAGED.fullmatch(key))}
    owners = {job for job, _ in staged.values()}
    # By the jobs that their keys tell: there is no index of a step's files by key.
    of_steps = select(JobStepFile.key).where(JobStepFile.job_id.in_(owners), JobStepFile.key.in_(keys))
    named = set(session.scalars(of_steps))
    named |= {key for key in session.scalars(select(UploadFile.key).where(UploadFile.key.in_(keys))) if key}
    named |= set(session.scalars(select(ResumablePart.key).where(ResumablePart.key.in_(keys))))
    living = select(Job).where(Job.id.in_(owners), Job.state.not_in(TERMINAL_STATES))
    jobs = {job.id: job for job in session.scalars(living)}
    for key, (job_id, epoch) in staged.items():
        job = jobs.get(job_id)
        if job is None:
            continue
        claimed = job.state in (JobState.RUNNING, JobState.CANCELLING) and job.epoch == int(epoch)
        if claimed or (job.training is not None and job.training.key == key):
            named.add(key)
    return named


def _in_batches(objects: Iterable[Found]) -> Iterator[Sequence[Found]]:
    rest = iter(objects)
    while batch := tuple(islice(rest, BATCH)):
        yield batch
