"""A receiver that does not answer holds up nobody else's deliveries, and fewer of its own with every time."""

import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sqlalchemy import select, update

from api_schemas.api.webhooks import DeliveryState, WebhookEvent
from store.database.clock import now
from store.database.connection import Database
from store.database.tables import Webhook, WebhookDelivery
from store.outbound.client import OutboundClient
from store.outbound.url_rules import UrlRules
from store.settings import Settings
from store.webhooks import deliveries, enqueue, webhooks
from store.webhooks.deliveries import (
    LEAST_SECONDS,
    MOST_OF_A_TENANT,
    MOST_OF_AN_ADDRESS,
    Claimed,
    Outcome,
)
from tests.support.servers.databases import wait_for
from tests.support.servers.receiver import Received, Receiver, Reply, receiver
from worker.webhooks import AT_ONCE, Sender

TIMEOUT = 64.0
IN_TIME, TOO_LATE = (
    Outcome(204, None, 0.1),
    Outcome(None, "the server did not respond in time", TIMEOUT, timed_out=True),
)


@dataclass
class Tarpit:
    """A receiver whose every path below /slow answers when it is told to, and the others at once."""

    receiver: Receiver
    free: threading.Event = field(default_factory=threading.Event)
    held: Counter[str] = field(default_factory=Counter)
    """Calls that have come, by path."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def reply(self, request: Received) -> Reply:
        with self.lock:
            self.held[request.path] += 1
        if request.path.startswith("/slow"):
            self.free.wait(60)
        return Reply()


@pytest.fixture
def tarpit() -> Iterator[Tarpit]:
    with receiver() as receiving:
        made = Tarpit(receiving)
        receiving.reply = made.reply
        yield made
        made.free.set()


@pytest.fixture
def sender(database: Database, tarpit: Tarpit, tmp_path: Path) -> Iterator[Sender]:
    settings = Settings(data_dir=tmp_path, outbound_test_target=tarpit.receiver.netloc, webhook_timeout_seconds=TIMEOUT)
    made = Sender(database, settings, OutboundClient(UrlRules.of(settings)))
    yield made
    made.close()
    tarpit.free.set()
    made.wait()


def webhook(database: Database, tenant: str, url: str, pings: int = 1) -> str:
    """The id of a webhook that so many deliveries wait for."""
    with database.write() as session:
        made = webhooks.create(session, tenant, url, tuple(WebhookEvent), most=100)
        for _ in range(pings):
            enqueue.ping(session, made)
        return made.id


def claim(database: Database) -> Claimed | None:
    with database.write() as session:
        return deliveries.claim(session, TIMEOUT)


def claim_of(database: Database, webhook_id: str) -> Claimed:
    claimed = claim(database)
    assert claimed is not None
    assert claimed.webhook_id == webhook_id
    return claimed


def record(database: Database, claimed: Claimed, outcome: Outcome) -> None:
    with database.write() as session:
        deliveries.record(session, claimed, outcome, Settings(), 0.5)


def make_due(database: Database) -> None:
    with database.write() as session:
        session.execute(update(WebhookDelivery).values(due_at=now(plus=-1)))


def states(database: Database, webhook_id: str) -> list[DeliveryState]:
    with database.read() as session:
        query = select(WebhookDelivery.state).where(WebhookDelivery.webhook_id == webhook_id)
        return list(session.scalars(query))


def test_anothers_first_delivery_does_not_wait_for_a_tarpit(database: Database, sender: Sender, tarpit: Tarpit) -> None:
    webhook(database, "slow", f"{tarpit.receiver.url}/slow", pings=64)
    sender.send_due()
    wait_for(lambda: tarpit.held["/slow"] == MOST_OF_AN_ADDRESS, what="the tarpit's calls")
    other = webhook(database, "other", f"{tarpit.receiver.url}/quick", pings=20)
    sender.send_due()
    wait_for(lambda: set(states(database, other)) == {DeliveryState.DELIVERED}, what="the other's deliveries")
    assert tarpit.held == {"/slow": MOST_OF_AN_ADDRESS, "/quick": 20}


def test_nor_for_twenty_tarpits_of_one_tenant(database: Database, sender: Sender, tarpit: Tarpit) -> None:
    for number in range(20):
        webhook(database, "slow", f"{tarpit.receiver.url}/slow/{number}", pings=5)
    sender.send_due()
    wait_for(lambda: tarpit.held.total() == MOST_OF_A_TENANT, what="the tarpits' calls")
    other = webhook(database, "other", f"{tarpit.receiver.url}/quick")
    sender.send_due()
    wait_for(lambda: states(database, other) == [DeliveryState.DELIVERED], what="the other's delivery")
    assert tarpit.held.total() == MOST_OF_A_TENANT + 1
    assert MOST_OF_A_TENANT < AT_ONCE


def test_a_receiver_counts_once_however_many_webhooks_have_its_address(database: Database) -> None:
    url = "https://hooks.example.com/"
    for _ in range(3):
        webhook(database, "a", url, pings=3)
    assert [claim(database) is not None for _ in range(MOST_OF_AN_ADDRESS + 1)] == [True] * MOST_OF_AN_ADDRESS + [False]
    elsewhere = webhook(database, "b", url)
    assert claim_of(database, elsewhere).url == url


def test_tenants_take_turns_however_many_deliveries_each_has(database: Database) -> None:
    many = webhook(database, "many", "https://many.example.com/", pings=10)
    few = [webhook(database, tenant, f"https://{tenant}.example.com/", pings=2) for tenant in ("x", "y")]
    turns = []
    for _ in range(6):
        claimed = claim(database)
        assert claimed is not None
        turns.append(claimed.webhook_id)
        record(database, claimed, IN_TIME)
    assert {many, *few} == set(turns[:3]) == set(turns[3:])


def test_what_is_under_way_with_a_process_that_died_holds_a_place_no_longer_than_its_lease(database: Database) -> None:
    only = webhook(database, "a", "https://hooks.example.com/", pings=5)
    for _ in range(MOST_OF_AN_ADDRESS):
        claim_of(database, only)
    assert claim(database) is None
    with database.write() as session:
        session.execute(update(WebhookDelivery).values(sending_until=now(plus=-1)))
    claim_of(database, only)


def test_a_receiver_that_times_out_is_given_half_as_long_and_all_of_it_once_it_answers(database: Database) -> None:
    slow = webhook(database, "a", "https://hooks.example.com/")
    given = []
    for _ in range(8):
        claimed = claim_of(database, slow)
        given.append(claimed.seconds)
        record(database, claimed, TOO_LATE)
        make_due(database)
    assert given == [64, 32, 16, 8, 4, LEAST_SECONDS, LEAST_SECONDS, LEAST_SECONDS]
    # A refusal is an answer, too.
    record(database, claim_of(database, slow), Outcome(500, "it answered 500", 0.1))
    make_due(database)
    assert claim_of(database, slow).seconds == TIMEOUT


def test_a_time_out_is_forgiven_after_an_hour(database: Database) -> None:
    slow = webhook(database, "a", "https://hooks.example.com/")
    record(database, claim_of(database, slow), TOO_LATE)
    make_due(database)
    with database.write() as session:
        session.execute(update(Webhook).values(timed_out_at=now(plus=-3601)))
    assert claim_of(database, slow).seconds == TIMEOUT


def test_a_call_without_an_answer_is_ended_in_time_and_counted(
    sqlite_database: Database, tarpit: Tarpit, tmp_path: Path
) -> None:
    settings = Settings(data_dir=tmp_path, outbound_test_target=tarpit.receiver.netloc, webhook_timeout_seconds=0.3)
    sending = Sender(sqlite_database, settings, OutboundClient(UrlRules.of(settings)))
    webhook(sqlite_database, "slow", f"{tarpit.receiver.url}/slow")
    sending.send_due()
    assert sending.wait() == 1
    with sqlite_database.read() as session:
        assert session.scalars(select(Webhook.timeouts)).one() == 1
