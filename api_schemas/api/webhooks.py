"""Webhooks: what is announced, how one is set up, and the log of what was delivered (Standard Webhooks 1.0)."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from api_schemas.base import FrozenModel, StrictModel
from api_schemas.enums import JobState


class WebhookEvent(StrEnum):
    """What a webhook can be told of."""

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
        description="An https URL on the public internet, on a port that the server calls. It is called by POST; redirects "
        "are not followed.",
        examples=["https://hooks.example.com/secateur"],
    ),
]


class WebhookRequest(StrictModel):
    """`POST /v1/webhooks`."""

    url: Address
    events: Events = Field(tuple(WebhookEvent), description="Which events are sent. Default: all.")


class WebhookUpdate(StrictModel):
    """`PATCH /v1/webhooks/{id}`: what is left out or null stays."""

    url: Address | None = None
    events: Events | None = None
    enabled: bool | None = Field(None, description="true also clears `disabled_reason`; false fails what still waits.")


class WebhookResource(FrozenModel):
    id: str
    url: str
    events: tuple[WebhookEvent, ...]
    enabled: bool
    disabled_reason: str | None
    """Why the server stopped calling it; null where it did not."""
    failing_since: datetime | None
    """Since when no delivery has succeeded; null where the last one did."""
    previous_secret_until: datetime | None
    """Until when deliveries are also signed with the secret before the last rotation."""
    created_at: datetime


class WebhookSecret(WebhookResource):
    """The only two answers with the secret: of creating and of rotating."""

    secret: str
    """`whsec_` and 32 bytes in base64. It is not shown again."""


class DeliveryResource(FrozenModel):
    """One event on its way to one webhook."""

    id: str
    message_id: str
    """`webhook-id` of the call: the same for every try and every redelivery of one event."""
    type: str
    state: DeliveryState
    attempts: int
    created_at: datetime
    next_attempt_at: datetime | None
    """Null once it is delivered or given up."""
    delivered_at: datetime | None
    last_status: int | None
    """HTTP status of the last try; null where there was no answer."""
    last_error: str | None
    last_latency_seconds: float | None
    body: str
    """What is sent, to the byte: a WebhookMessage."""


class JobNews(FrozenModel):
    """`data` of an event about a job: little, since the addresses have the rest."""

    id: str
    name: str | None
    state: JobState
    step: int | None = None
    """The finished step; of `job.step_finished` only."""
    url: str
    """Path of the job on this server."""
    checkpoints_url: str


class WebhookNews(FrozenModel):
    """`data` of `webhook.ping`."""

    id: str


class WebhookMessage(FrozenModel):
    """The body of a call."""

    type: WebhookEvent | Literal["webhook.ping"]
    timestamp: datetime
    """When it happened."""
    data: JobNews | WebhookNews
