"""What counts as waiting: only what somebody could do now."""

import math
from typing import Any

from api_schemas.spec.inputs import Columns
from store import backlogs
from store.backlogs import Backlog, Maintenance
from store.database import marks
from store.database.clock import moment, now
from store.database.connection import Database
from store.database.tables import OutboxMessage, Upload, UploadCheck, Webhook, WebhookDelivery

NOTHING = Backlog(0, 0.0)


def read(database: Database) -> Maintenance:
    with database.read() as session:
        return backlogs.read(session)


def add(database: Database, *rows: Any) -> None:
    with database.write() as session:
        for row in rows:
            session.add(row)
            session.flush()


def test_nothing(database: Database) -> None:
    assert read(database) == Maintenance(NOTHING, NOTHING, NOTHING, 0, math.inf, None)


def test_deliveries_that_are_due_and_wanted(database: Database) -> None:
    for webhook, enabled, ahead in (("whk_a", True, -90), ("whk_b", False, -900), ("whk_c", True, 60)):
        delivery = WebhookDelivery(id=f"d{webhook}", webhook_id=webhook, message_id="m", type="t", body="{}")
        delivery.due_at = now(plus=ahead)  # type: ignore[assignment]
        add(database, Webhook(id=webhook, url="https://a", events=[], secret="s", enabled=enabled), delivery)
    found = read(database).deliveries
    assert found.waiting == 1
    assert 90 <= found.oldest_seconds < 150


def test_datasets_that_wait_and_those_that_are_read(database: Database) -> None:
    columns = Columns().model_dump(mode="json")
    for upload, lease in (("dst_a", None), ("dst_b", now(plus=-1)), ("dst_c", now(plus=60))):
        check = UploadCheck(upload_id=upload, columns=columns, lease_until=lease, waits_since=now(plus=-90))
        add(database, Upload(id=upload, kind="dataset", state="checking"), check)
    found = read(database)
    assert (found.checks.waiting, found.checks_running) == (2, 1)
    assert found.checks.oldest_seconds >= 90


def test_messages_and_marks(database: Database) -> None:
    add(database, OutboxMessage(topic="wake", created_at=now(plus=-90)), OutboxMessage(topic="wake"))
    with database.write() as session:
        marks.put(session, {marks.SWEPT: 1, marks.DISK: 10})
        marks.put(session, {marks.SWEPT: int(moment(session).timestamp()) - 30, marks.DISK_FREE: 4})
    found = read(database)
    assert found.outbox.waiting == 2
    assert found.outbox.oldest_seconds >= 90
    assert 30 <= found.silent_seconds < 90
    assert found.disk == (10, 4)
