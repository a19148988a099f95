"""Deliveries to a receiver on loopback, which verifies them with the Standard Webhooks library."""

import json
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update
from standardwebhooks.webhooks import Webhook as Verifier
from standardwebhooks.webhooks import WebhookVerificationError

from api_schemas.api.webhooks import DeliveryState, WebhookEvent
from api_schemas.enums import JobState
from store.database.clock import now
from store.database.connection import Database
from store.database.tables import Webhook, WebhookDelivery
from store.database.tenancy import DEFAULT_TENANT
from store.jobs import jobs, transitions
from store.jobs.transitions import Lease
from store.outbound.client import OutboundClient
from store.outbound.url_rules import UrlRules
from store.settings import Settings
from store.webhooks import deliveries, enqueue, webhooks
from tests.support.jobs.records import job_request, step_file, step_metrics
from tests.support.servers.receiver import Received, Receiver, Reply, receiver
from worker.webhooks import Sender

ALL = tuple(WebhookEvent)


@dataclass
class Post:
    """A database with one webhook, its receiver, and what sends."""

    database: Database
    receiver: Receiver
    sender: Sender
    settings: Settings
    webhook_id: str
    secret: str
    status: int = 204

    def webhook(self) -> Webhook:
        with self.database.read() as session:
            return webhooks.get(session, DEFAULT_TENANT, self.webhook_id)

    def deliveries(self) -> list[WebhookDelivery]:
        with self.database.read() as session:
            query = select(WebhookDelivery).order_by(WebhookDelivery.created_at, WebhookDelivery.id)
            return list(session.scalars(query))

    def ping(self) -> None:
        with self.database.write() as session:
            enqueue.ping(session, webhooks.get(session, DEFAULT_TENANT, self.webhook_id))

    def make_due(self) -> None:
        """As if the wait were over."""
        self.set(WebhookDelivery, due_at=now())

    def set(self, table: Any, **values: Any) -> None:
        with self.database.write() as session:
            session.execute(update(table).values(**values))

    def try_now(self) -> WebhookDelivery:
        self.make_due()
        assert sent(self.sender) == 1
        return self.deliveries()[-1]


@pytest.fixture
def post(database: Database, tmp_path: Path) -> Iterator[Post]:
    with receiver() as receiving:
        settings = Settings(data_dir=tmp_path, outbound_test_target=receiving.netloc, webhook_timeout_seconds=5)
        with database.write() as session:
            webhook = webhooks.create(session, DEFAULT_TENANT, f"{receiving.url}/hook", ALL, most=10)
        sender = Sender(database, settings, OutboundClient(UrlRules.of(settings)), random.Random(0).random)
        made = Post(database, receiving, sender, settings, webhook.id, webhook.secret)
        receiving.reply = lambda _: Reply(made.status)
        yield made


def sent(sender: Sender) -> int:
    """How many tries were made until nothing was due."""
    sender.send_due()
    return sender.wait()


def submit(database: Database) -> str:
    with database.write() as session:
        return jobs.create(session, DEFAULT_TENANT, job_request(name="mine"), {}).id


def begin(database: Database) -> Lease:
    with database.write() as session:
        job = transitions.claim(session, "a", 60, 3)
        assert job is not None
        return Lease(job.id, job.epoch)


def verified(secret: str, request: Received) -> dict[str, Any]:
    answer: dict[str, Any] = Verifier(secret).verify(request.body, dict(request.headers))
    return answer


def test_what_happens_to_a_job_arrives_signed(post: Post) -> None:
    job_id = submit(post.database)
    assert post.deliveries() == []  # being queued is no news
    lease = begin(post.database)
    with post.database.write() as session:
        transitions.commit_step(session, lease, step_metrics(0), [], downloadable=False)
    with post.database.write() as session:
        files = [step_file(job_id, 1)]
        transitions.commit_step(session, lease, step_metrics(1), files, downloadable=True)
    with post.database.write() as session:
        transitions.succeed(session, lease)
    assert sent(post.sender) == 2
    messages = {
        message["type"]: message for message in (verified(post.secret, each) for each in post.receiver.received)
    }
    assert set(messages) == {"job.step_finished", "job.succeeded"}
    address = f"/v1/jobs/{job_id}"
    expected = {"id": job_id, "name": "mine", "url": address, "checkpoints_url": f"{address}/checkpoints"}
    assert messages["job.succeeded"]["data"] == expected | {"state": "succeeded", "step": None}
    assert messages["job.step_finished"]["data"] == expected | {"state": "running", "step": 1}
    assert {each.path for each in post.receiver.received} == {"/hook"}
    for row in post.deliveries():
        assert (row.state, row.attempts, row.last_status, row.last_error) == (DeliveryState.DELIVERED, 1, 204, None)
        assert row.last_latency is not None
        assert row.delivered_at is not None
    assert sent(post.sender) == 0


@pytest.mark.parametrize(
    ("state", "kind"),
    [(JobState.FAILED, "job.failed"), (JobState.CANCELLED, "job.cancelled"), (JobState.PAUSED, "job.paused")],
)
def test_every_end_has_its_event(post: Post, state: JobState, kind: str) -> None:
    job_id = submit(post.database)
    if state is JobState.FAILED:
        lease = begin(post.database)
        with post.database.write() as session:
            transitions.fail(session, lease, transitions.WORKER_LOST)
    else:
        with post.database.write() as session:
            (transitions.cancel if state is JobState.CANCELLED else transitions.pause)(session, DEFAULT_TENANT, job_id)
    assert [row.type for row in post.deliveries()] == [kind]


def test_only_what_was_asked_for_and_only_of_the_own_tenant(post: Post) -> None:
    post.set(Webhook, events=["job.succeeded"])
    with post.database.write() as session:
        webhooks.create(session, "other", "https://other.example.com/", ALL, most=1)
    job_id = submit(post.database)
    with post.database.write() as session:
        transitions.cancel(session, DEFAULT_TENANT, job_id)
    assert post.deliveries() == []


def test_news_is_lost_with_the_transaction_that_made_it(post: Post) -> None:
    job_id = submit(post.database)

    def cancel_and_fail() -> None:
        with post.database.write() as session:
            transitions.cancel(session, DEFAULT_TENANT, job_id)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        cancel_and_fail()
    assert post.deliveries() == []


def test_a_failure_is_tried_again_later_and_later_under_the_same_id(post: Post) -> None:
    post.status = 500
    post.ping()
    waits = []
    for attempt in range(1, 5):
        row = post.try_now()
        assert (row.state, row.attempts, row.last_status) == (DeliveryState.PENDING, attempt, 500)
        assert row.last_error is not None
        assert "500" in row.last_error
        with post.database.read() as session:
            waits.append((row.due_at - session.execute(now().select()).scalar_one()).total_seconds())
        assert sent(post.sender) == 0  # not due yet
    for attempt, wait in enumerate(waits):
        assert 0.8 * 5 * 4**attempt - 1 < wait < 1.2 * 5 * 4**attempt + 0.1
    assert post.webhook().failing_since is not None
    post.status = 200
    assert post.try_now().state is DeliveryState.DELIVERED
    assert post.webhook().failing_since is None
    assert len({request.headers["webhook-id"] for request in post.receiver.received}) == 1
    assert len({request.body for request in post.receiver.received}) == 1
    for request in post.receiver.received:
        assert verified(post.secret, request)["type"] == "webhook.ping"


def test_a_wait_is_never_longer_than_the_longest(post: Post) -> None:
    post.status = 500
    post.ping()
    post.set(WebhookDelivery, attempts=60)
    row = post.try_now()
    with post.database.read() as session:
        wait = (row.due_at - session.execute(now().select()).scalar_one()).total_seconds()
    assert 0.79 * 86400 < wait < 1.21 * 86400


def test_a_redirect_is_no_success_and_not_followed(post: Post) -> None:
    with receiver() as elsewhere:
        post.receiver.reply = lambda _: Reply(307, {"Location": elsewhere.url})
        post.ping()
        assert post.try_now().last_status == 307
    assert elsewhere.connections == 0


def test_a_delivery_is_given_up_after_days(post: Post) -> None:
    post.status = 500
    post.ping()
    post.set(WebhookDelivery, created_at=now(plus=-4 * 86400))
    assert post.try_now().state is DeliveryState.FAILED
    assert post.webhook().enabled


def test_gone_disables_at_once(post: Post) -> None:
    post.status = 410
    post.ping()
    post.ping()
    post.make_due()
    sent(post.sender)
    webhook = post.webhook()
    assert (webhook.enabled, webhook.disabled_reason) == (False, "the receiver answered 410 Gone")
    assert {row.state for row in post.deliveries()} == {DeliveryState.FAILED}
    job_id = submit(post.database)
    with post.database.write() as session:
        transitions.cancel(session, DEFAULT_TENANT, job_id)
    assert len(post.deliveries()) == 2


def test_failing_for_days_disables_and_says_why(post: Post) -> None:
    post.status = 503
    post.ping()
    post.try_now()
    assert post.webhook().enabled
    post.set(Webhook, failing_since=now(plus=-6 * 86400))
    post.try_now()
    webhook = post.webhook()
    assert not webhook.enabled
    assert webhook.disabled_reason is not None
    assert "5 days" in webhook.disabled_reason
    assert "503" in webhook.disabled_reason


def test_while_rotating_both_secrets_verify_and_afterwards_the_new_one_alone(post: Post) -> None:
    with post.database.write() as session:
        new = webhooks.rotate(session, DEFAULT_TENANT, post.webhook_id, 3600).secret
    post.ping()
    post.try_now()
    both = post.receiver.received[-1]
    assert new != post.secret
    for secret in (new, post.secret):
        assert verified(secret, both)["type"] == "webhook.ping"
    post.set(Webhook, previous_secret_until=now(plus=-1))
    post.ping()
    sent(post.sender)
    after = post.receiver.received[-1]
    assert verified(new, after)
    with pytest.raises(WebhookVerificationError):
        verified(post.secret, after)


def test_an_address_that_leads_inside_by_now_is_not_called(post: Post) -> None:
    answers = [["93.184.215.14"], ["127.0.0.1"]]
    rules = UrlRules(ports=(443, post.receiver.port))
    outbound = OutboundClient(rules, resolve=lambda *_: answers.pop(0))
    url = f"https://hooks.example.com:{post.receiver.port}/"
    outbound.check(url)
    post.set(Webhook, url=url)
    post.ping()
    assert sent(Sender(post.database, post.settings, outbound)) == 1
    row = post.deliveries()[0]
    assert (row.state, row.last_status) == (DeliveryState.PENDING, None)
    assert row.last_error is not None
    assert "not on the public internet" in row.last_error
    assert post.receiver.connections == 0


def test_a_receiver_that_is_away_is_a_failure_like_others(post: Post) -> None:
    rules = UrlRules(test_target="127.0.0.1:1")
    post.set(Webhook, url="http://127.0.0.1:1/")
    post.ping()
    assert sent(Sender(post.database, post.settings, OutboundClient(rules))) == 1
    assert post.deliveries()[0].last_error == "no connection could be made to 127.0.0.1"


def test_several_senders_send_each_delivery_once(post: Post) -> None:
    for _ in range(40):
        post.ping()
    senders = [Sender(post.database, post.settings, OutboundClient(UrlRules.of(post.settings))) for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        assert sum(pool.map(sent, senders)) == 40
    assert len({request.headers["webhook-id"] for request in post.receiver.received}) == 40
    assert len(post.receiver.received) == 40


def test_a_try_whose_process_died_is_made_again_and_its_late_word_is_not_heard(post: Post) -> None:
    post.ping()
    with post.database.write() as session:
        lost = deliveries.claim(session, 60)
    assert lost is not None
    assert sent(post.sender) == 0
    assert post.try_now().attempts == 2
    with post.database.write() as session:
        deliveries.record(session, lost, deliveries.Outcome(500, "late", 1.0), post.settings, 0.5)
    assert (post.deliveries()[0].state, post.deliveries()[0].last_error) == (DeliveryState.DELIVERED, None)
    assert post.webhook().failing_since is None


def test_the_log_forgets_what_is_old_and_done(post: Post) -> None:
    post.ping()
    post.try_now()
    post.ping()
    assert deliveries.expire(post.database, 3600) == 0
    post.set(WebhookDelivery, created_at=now(plus=-7200))
    assert deliveries.expire(post.database, 3600) == 1
    assert [row.state for row in post.deliveries()] == [DeliveryState.PENDING]


def test_the_body_is_small(post: Post) -> None:
    job_id = submit(post.database)
    with post.database.write() as session:
        transitions.cancel(session, DEFAULT_TENANT, job_id)
    sent(post.sender)
    body = post.receiver.received[0].body
    assert len(body) < 500
    assert set(json.loads(body)) == {"type", "timestamp", "data"}
