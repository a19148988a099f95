"""A wake-up is never lost: it waits in the database until the broker has it."""

import time
from pathlib import Path

import pytest
import redis

from store.database.connection import Database
from store.database.tables import OutboxMessage
from store.database.tenancy import DEFAULT_TENANT
from store.jobs import jobs
from store.queue import broker
from store.settings import Settings
from tests.support.jobs.records import job_request
from tests.support.servers.databases import silent_server


def submit(database: Database) -> None:
    with database.write() as session:
        jobs.create(session, DEFAULT_TENANT, job_request(), {})


def waiting(database: Database) -> int:
    with database.read() as session:
        return session.query(OutboxMessage).count()


def settings(tmp_path: Path, broker_url: str) -> Settings:
    return Settings(data_dir=tmp_path, broker_url=broker_url)


def test_messages_reach_the_broker_once(sqlite_database: Database, valkey_url: str, tmp_path: Path) -> None:
    redis.Redis(unix_socket_path=valkey_url.removeprefix("redis+socket://")).flushall()
    here = settings(tmp_path, valkey_url)
    submit(sqlite_database)
    submit(sqlite_database)
    assert broker.publish_outbox(sqlite_database, here) == 2
    assert waiting(sqlite_database) == 0
    assert broker.waiting_wakes(here) == 2
    assert broker.publish_outbox(sqlite_database, here) == 0


def test_without_a_broker_they_wait_and_nobody_is_held_up(
    sqlite_database: Database, valkey_url: str, tmp_path: Path
) -> None:
    submit(sqlite_database)
    started = time.monotonic()
    assert broker.publish_outbox(sqlite_database, settings(tmp_path, "redis+socket:///nowhere/socket")) == 0
    assert time.monotonic() - started < 2
    assert waiting(sqlite_database) == 1
    assert broker.publish_outbox(sqlite_database, settings(tmp_path, valkey_url)) == 1


def test_a_failure_in_the_middle_keeps_the_rest(sqlite_database: Database) -> None:
    from store.queue import outbox

    for _ in range(3):
        submit(sqlite_database)
    answers = iter([None, ConnectionError("gone")])

    def publish(topic: str, _: str | None) -> None:
        assert topic == outbox.WAKE
        if error := next(answers):
            raise error

    assert outbox.dispatch(sqlite_database, publish) == 1
    assert waiting(sqlite_database) == 2


def test_messages_are_json_and_settings_are_the_measured_ones(tmp_path: Path) -> None:
    conf = broker.make_celery(settings(tmp_path, "redis://127.0.0.1:1/0")).conf
    assert conf.accept_content == ["json"]
    assert not conf.task_acks_late
    assert conf.worker_prefetch_multiplier == 1
    assert conf.result_backend is None
    assert conf.broker_transport_options["socket_connect_timeout"] == 2
    assert conf.broker_transport_options["socket_timeout"] == 5
    assert conf.task_publish_retry_policy["max_retries"] == 1
    often = {broker.SWEEP, broker.DISPATCH_OUTBOX, broker.REDISPATCH, broker.SEND_WEBHOOKS, broker.CHECK_UPLOADS}
    assert set(conf.beat_schedule) == often | {broker.EXPIRE, broker.COLLECT_ORPHANS}


def test_a_broker_that_takes_connections_and_never_answers_is_given_up_in_seconds(
    sqlite_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert broker.CONNECT_SECONDS + broker.ANSWER_SECONDS < 10
    monkeypatch.setattr(broker, "ANSWER_SECONDS", 0.5)
    submit(sqlite_database)
    started = time.monotonic()
    with silent_server() as port:
        deaf = settings(tmp_path, f"redis://127.0.0.1:{port}/0")
        assert broker.publish_outbox(sqlite_database, deaf) == 0
        with pytest.raises(ConnectionError):
            broker.waiting_wakes(deaf)
    assert time.monotonic() - started < 8
    assert waiting(sqlite_database) == 1
