"""Webhooks: what is announced, how one is set up, and the log of what was delivered (Standard Webhooks 1.0)."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from api_schemas.base import FrozenModel, StrictModel
from api_schemas.enums import JobState


class WebhookEvent(StrEnum):
    """Events that a webhook can receive."""

    JOB_SUCCEEDED = "job.succeeded"
    JOB_FAILED = "job.failed"
    JOB_CANCELLED = "job.cancelled"
    JOB_PAUSED = "job.paused"
    JOB_STEP_FINISHED = "job.step_finished"


PING: Literal["webhook.ping"] = "webhook.ping"
OF_STATE = {
    JobState.SUCCEEDED: WebhookEvent.JOB_SUCCEEDED,
    JobState.FAILED: WebhookEvent.JOB_FAILED,
    JobState.CANCELLED: WebhookEvent.JOB_CANCELLED,
    JobState.PAUSED: WebhookEvent.JOB_PAUSED,
}


class DeliveryState(StrEnum):
    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


def _each_once(events: tuple[WebhookEvent, ...]) -> tuple[WebhookEvent, ...]:
    if len(set(events)) != len(events):
        raise ValueError("name each event once")
    return events


Events = Annotated[
    tuple[WebhookEvent, ...],
    Field(min_length=1, max_length=len(WebhookEvent), json_schema_extra={"uniqueItems": True}),
    AfterValidator(_each_once),
]
Address = Annotated[
    str,
    Field(
        min_length=1,
        max_length=2048,
        description="An https URL on the public internet, on a port that the server may call. It is called by POST; "
        "redirects are not followed.",
        examples=["https://hooks.example.com/secateur"],
    ),
]


class WebhookRequest(StrictModel):
    """`POST /v1/webhooks`."""

    url: Address
    events: Events = Field(tuple(WebhookEvent), description="The events to send. Default: all.")


class WebhookUpdate(StrictModel):
    """`PATCH /v1/webhooks/{id}`: fields that are missing or null do not change."""

    url: Address | None = None
    events: Events | None = None
    enabled: bool | None = Field(
        None, description="true also clears `disabled_reason`; false marks pending deliveries as failed."
    )


class WebhookResource(FrozenModel):
    id: str
    url: str
    events: tuple[WebhookEvent, ...]
    enabled: bool
    disabled_reason: str | None
    """Why the server disabled the webhook; null if it did not."""
    failing_since: datetime | None
    """Since when no delivery has succeeded; null if the last one succeeded."""
    previous_secret_until: datetime | None
    """Until when deliveries are also signed with the previous secret."""
    created_at: datetime


class WebhookSecret(WebhookResource):
    """A webhook with its secret, returned only on creation and rotation."""

    secret: str
    """`whsec_` and 32 bytes in base64. It is not shown again."""


class DeliveryResource(FrozenModel):
    """The delivery of one event to one webhook."""

    id: str
    message_id: str
    """The `webhook-id` header of the call: the same for all attempts and redeliveries of an event."""
    type: str
    state: DeliveryState
    attempts: int
    created_at: datetime
    next_attempt_at: datetime | None
    """Null once the event is delivered or given up."""
    delivered_at: datetime | None
    last_status: int | None
    """HTTP status of the last attempt; null if there was no response."""
    last_error: str | None
    last_latency_seconds: float | None
    body: str
    """The exact body that is sent: a WebhookMessage."""


class JobNews(FrozenModel):
    """`data` of an event about a job. It is short; the URLs lead to the rest."""

    id: str
    name: str | None
    state: JobState
    step: int | None = None
    """The finished step; only for `job.step_finished`."""
    url: str
    """Path of the job on this server."""
    checkpoints_url: str


class WebhookNews(FrozenModel):
    """`data` of `webhook.ping`."""

    id: str


class WebhookMessage(FrozenModel):
    """The body of a webhook call."""

    type: WebhookEvent | Literal["webhook.ping"]
    timestamp: datetime
    """When the event happened."""
    data: JobNews | WebhookNews
