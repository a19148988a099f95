"""Quotas: counted where something is added, also by several at once; a tenant at its running quota is passed over."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session

from api_schemas.api.resources import DeclaredFile
from api_schemas.enums import UploadState
from api_schemas.errors import ErrorCode, SecateurError
from store.access import quotas
from store.database.clock import now
from store.database.connection import Database
from store.database.tables import Job
from store.jobs import deletion, jobs, transitions
from store.jobs.transitions import Lease
from store.settings import Settings
from store.uploads import uploads
from tests.support.jobs.records import job_request, step_file, step_metrics

CAP = 3


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, max_stored_bytes=1000, max_waiting_jobs=2)


def declare(session: Session, settings: Settings, tenant: str, size: int) -> str:
    quotas.check_upload(session, tenant, settings, size)
    file = DeclaredFile(name="config.json", size=size, sha256="ab" * 32)
    return uploads.create(session, tenant, "model", None, [file]).id


def submit(session: Session, settings: Settings, tenant: str) -> str:
    quotas.check_jobs(session, tenant, settings)
    return jobs.create(session, tenant, job_request(), {}).id


def claim(database: Database, most: int | None) -> Job | None:
    with database.write() as session:
        return transitions.claim(session, "worker", 60, CAP, most)


def refused(database: Database, add: Callable[[Session], object]) -> SecateurError:
    with pytest.raises(SecateurError) as caught, database.write() as session:
        add(session)
    assert caught.value.code is ErrorCode.QUOTA_EXCEEDED
    assert caught.value.retry_after
    return caught.value


def test_announced_bytes_count_until_they_are_given_up_or_expire(database: Database, settings: Settings) -> None:
    with database.write() as session:
        first = declare(session, settings, "a", 600)
        second = declare(session, settings, "a", 400)
        declare(session, settings, "b", 1000)
    assert "1000 of 1000" in refused(database, lambda session: declare(session, settings, "a", 1)).detail
    with database.write() as session:
        assert uploads.discard(session, "a", "model", first)
        declare(session, settings, "a", 600)
        deletion.give_up(session, {second}, UploadState.EXPIRED)
    with database.read() as session:
        assert quotas.usage(session, "a").stored_bytes == 600


def test_checkpoints_count_and_a_full_tenant_starts_no_job(database: Database, settings: Settings) -> None:
    with database.write() as session:
        job_id = submit(session, settings, "a")
    job = claim(database, None)
    assert job is not None
    with database.write() as session:
        lease = Lease(job.id, job.epoch)
        transitions.commit_step(session, lease, step_metrics(0), [step_file(job_id, 0)], downloadable=False)
    with database.write() as session:
        declare(session, settings, "a", 997)
    with database.read() as session:
        assert quotas.usage(session, "a") == quotas.Usage(1000, 0, 1)
    refused(database, lambda session: submit(session, settings, "a"))


def test_jobs_that_wait_are_counted_paused_ones_included(database: Database, settings: Settings) -> None:
    with database.write() as session:
        first = submit(session, settings, "a")
        submit(session, settings, "a")
        submit(session, settings, "b")
        transitions.pause(session, "a", first)
    refused(database, lambda session: submit(session, settings, "a"))
    with database.write() as session:
        transitions.cancel(session, "a", first)
        submit(session, settings, "a")


@pytest.mark.parametrize("what", ["jobs", "bytes"])
def test_several_at_once_do_not_share_the_last_place(database: Database, settings: Settings, what: str) -> None:
    start = threading.Barrier(4)

    def try_to_add(_: int) -> str:
        start.wait()
        try:
            with database.write() as session:
                if what == "jobs":
                    submit(session, settings, "a")
                else:
                    declare(session, settings, "a", 400)
                time.sleep(0.05)  # The transaction stays open for long enough to meet the others.
        except SecateurError as error:
            return error.code.value
        return "done"

    with ThreadPoolExecutor(4) as pool:
        answers = Counter(pool.map(try_to_add, range(4)))
    assert answers == {"done": 2, "quota_exceeded": 2}


def test_a_tenant_at_its_running_quota_is_passed_over(database: Database) -> None:
    with database.write() as session:
        mine = [jobs.create(session, "a", job_request(priority=5), {}).id for _ in range(3)]
        other = jobs.create(session, "b", job_request(), {}).id
    first, second = claim(database, 1), claim(database, 1)
    assert first is not None
    assert second is not None
    assert (first.id, second.id) == (mine[0], other)
    assert claim(database, 1) is None
    with database.read() as session:
        assert jobs.count_claimable(session, CAP, 1) == 0
        assert jobs.count_claimable(session, CAP) == 2
    with database.write() as session:
        transitions.succeed(session, Lease(first.id, first.epoch))
    third = claim(database, 1)
    assert third is not None
    assert third.id == mine[1]


def test_a_job_whose_worker_is_gone_takes_its_own_place_again(database: Database) -> None:
    with database.write() as session:
        job_id = jobs.create(session, "a", job_request(), {}).id
        jobs.create(session, "a", job_request(), {})
    assert claim(database, 1) is not None
    with database.write() as session:
        session.execute(update(Job).where(Job.id == job_id).values(lease_until=now(plus=-1)))
    again = claim(database, 1)
    assert again is not None
    assert (again.id, again.epoch) == (job_id, 2)
    assert claim(database, 1) is None


def test_many_workers_at_once_stay_within_the_quota(database: Database) -> None:
    with database.write() as session:
        for tenant in "abc":
            for _ in range(6):
                jobs.create(session, tenant, job_request(), {})
    start = threading.Barrier(4)

    def claim_all(_: int) -> list[str]:
        start.wait()
        mine = []
        while job := claim(database, 2):
            mine.append(job.tenant)
        return mine

    with ThreadPoolExecutor(4) as pool:
        claimed = Counter(tenant for mine in pool.map(claim_all, range(4)) for tenant in mine)
    assert claimed == {"a": 2, "b": 2, "c": 2}
