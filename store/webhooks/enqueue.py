"""Enqueues webhook deliveries: for each event of a job and each webhook subscribed to it, in the transaction of the event."""

from datetime import UTC, datetime

from sqlalchemy.orm import Session

from api_schemas import ids
from api_schemas.api.webhooks import OF_STATE, PING, JobNews, WebhookEvent, WebhookMessage, WebhookNews
from store.database.tables import Job, Webhook, WebhookDelivery
from store.database.tenancy import select_owned


def state_changed(session: Session, job: Job) -> None:
    """The job has come to a state; some of them are told to webhooks."""
    if job.state in OF_STATE:
        _enqueue_event(session, job, OF_STATE[job.state], None)


def step_committed(session: Session, job: Job, step: int) -> None:
    """A step with a model is committed."""
    _enqueue_event(session, job, WebhookEvent.JOB_STEP_FINISHED, step)


def ping(session: Session, webhook: Webhook) -> WebhookDelivery:
    """A delivery that says nothing but that it comes."""
    message = WebhookMessage(type=PING, timestamp=datetime.now(UTC), data=WebhookNews(id=webhook.id))
    return _enqueue(session, webhook, ids.new_id(ids.MESSAGE), message)


def redelivery(session: Session, delivery: WebhookDelivery) -> WebhookDelivery:
    """The same message once more, to the byte."""
    return _add(
        session,
        WebhookDelivery(
            id=ids.new_id(ids.DELIVERY),
            tenant=delivery.tenant,
            webhook_id=delivery.webhook_id,
            message_id=delivery.message_id,
            type=delivery.type,
            body=delivery.body,
        ),
    )


def _enqueue_event(session: Session, job: Job, event: WebhookEvent, step: int | None) -> None:
    # Locked against removal: a webhook that goes meanwhile must not make the job's transaction fail.
    listening = select_owned(Webhook, job.tenant).where(Webhook.enabled).with_for_update(key_share=True, read=True)
    wanting = [webhook for webhook in session.scalars(listening) if event.value in webhook.events]
    if not wanting:
        return
    url = f"/v1/jobs/{job.id}"
    data = JobNews(id=job.id, name=job.name, state=job.state, step=step, url=url, checkpoints_url=f"{url}/checkpoints")
    message = WebhookMessage(type=event, timestamp=datetime.now(UTC), data=data)
    message_id = ids.new_id(ids.MESSAGE)
    for webhook in wanting:
        _enqueue(session, webhook, message_id, message)


def _enqueue(session: Session, webhook: Webhook, message_id: str, message: WebhookMessage) -> WebhookDelivery:
    delivery = WebhookDelivery(
        id=ids.new_id(ids.DELIVERY),
        tenant=webhook.tenant,
        webhook_id=webhook.id,
        message_id=message_id,
        type=str(message.type),
        body=message.model_dump_json(),
    )
    return _add(session, delivery)


def _add(session: Session, delivery: WebhookDelivery) -> WebhookDelivery:
    session.add(delivery)
    session.flush()
    return delivery
