"""Messages that must not be lost between a commit and the broker.

A message is written in the transaction that makes it true, published after the commit, and removed once the broker has it. If the
broker is down, the row stays and maintenance publishes it later. Publishing twice is harmless: a message is a wake-up and
contains nothing that the database does not know.
"""

import logging
from collections.abc import Callable

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from store import tracing
from store.database.connection import Database
from store.database.tables import OutboxMessage

log = logging.getLogger(__name__)

WAKE, CHECK = "wake", "check"
BATCH = 100


def add_wake(session: Session, tenant: str) -> None:
    """A worker should look for work once this transaction has committed."""
    session.add(OutboxMessage(tenant=tenant, topic=WAKE, traceparent=tracing.traceparent()))


def add_check(session: Session, tenant: str) -> None:
    """Maintenance should look for datasets to check once this transaction has committed."""
    session.add(OutboxMessage(tenant=tenant, topic=CHECK, traceparent=tracing.traceparent()))


def dispatch(database: Database, publish: Callable[[str, str | None], None]) -> int:
    """Publish the topics that wait, oldest first, each with its `traceparent`; returns how many. Stops quietly at the first
    failure: the rest waits on."""
    oldest = (
        select(OutboxMessage.id, OutboxMessage.topic, OutboxMessage.traceparent).order_by(OutboxMessage.id).limit(BATCH)
    )
    with database.read() as session:
        waiting = session.execute(oldest).all()
    sent: list[int] = []
    for message_id, topic, traceparent in waiting:
        try:
            publish(topic, traceparent)
        except OSError as error:
            log.warning("the broker does not answer, %d messages wait: %s", len(waiting) - len(sent), error)
            break
        sent.append(message_id)
    if sent:
        with database.write() as session:
            session.execute(delete(OutboxMessage).where(OutboxMessage.id.in_(sent)))
    return len(sent)
