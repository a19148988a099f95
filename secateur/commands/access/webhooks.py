"""`secateur webhooks`: addresses that are notified about jobs."""

from itertools import islice
from typing import Annotated

import typer

from api_schemas.api.webhooks import DeliveryState, WebhookEvent
from secateur.commands.shared import arguments
from secateur.commands.shared.session import Session, served
from secateur.documents import Deleted
from secateur.terminal.listings import deliveries_table, webhooks_table

app = typer.Typer(
    no_args_is_help=True, help="Manage webhooks: addresses of yours that the service notifies about jobs."
)

Webhook = Annotated[str, typer.Argument(metavar="WEBHOOK", help="whk_…")]
Events = Annotated[
    list[WebhookEvent] | None,
    typer.Option("--event", help="Only this event; may be repeated. Default: all.", show_default=False),
]


@served(app)
def create(
    session: Session,
    address: Annotated[str, typer.Argument(metavar="URL", help="An https address on the public internet.")],
    event: Events = None,
) -> None:
    """Create a webhook and print the secret that signs its messages. The secret is shown only once."""
    made = session.client.webhooks.create(address, event)
    session.note(f"{made.id}: {', '.join(made.events)}. Store the secret, it is shown only once:")
    session.give(made, made.secret)


@served(app, name="list")
def list_webhooks(session: Session) -> None:
    """List webhooks, newest first."""
    found = list(session.client.webhooks.list())
    empty = "There are no webhooks. Create one: secateur webhooks create https://…"
    session.give(found, webhooks_table(found, session.out.width) if found else empty)


@served(app)
def update(
    session: Session,
    identifier: Webhook,
    address: Annotated[str | None, typer.Option(help="New address.", show_default=False)] = None,
    event: Events = None,
    enabled: Annotated[
        bool | None, typer.Option("--enable/--disable", help="Enable or disable the webhook.", show_default=False)
    ] = None,
) -> None:
    """Change the given fields; the others stay."""
    found = session.client.webhooks.update(identifier, url=address, events=event, enabled=enabled)
    session.give(found, webhooks_table([found], session.out.width))


@served(app)
def ping(session: Session, identifier: Webhook) -> None:
    """Send a test message; `secateur webhooks deliveries` shows its outcome."""
    sent = session.client.webhooks.ping(identifier)
    session.give(sent, f"{sent.id} is on its way: secateur webhooks deliveries {identifier}")


@served(app)
def deliveries(
    session: Session,
    identifier: Webhook,
    state: Annotated[
        DeliveryState | None, typer.Option(help="Only deliveries in this state.", show_default=False)
    ] = None,
    limit: arguments.Limit = 20,
) -> None:
    """List deliveries and their outcomes, newest first."""
    found = list(islice(session.client.webhooks.deliveries(identifier, state), limit))
    session.give(found, deliveries_table(found, session.out.width) if found else "There are no deliveries.")


@served(app)
def redeliver(
    session: Session, identifier: Webhook, delivery: Annotated[str, typer.Argument(metavar="DELIVERY", help="dlv_…")]
) -> None:
    """Send the same message again."""
    sent = session.client.webhooks.redeliver(identifier, delivery)
    session.give(sent, f"{sent.id} is on its way.")


@served(app)
def rotate(session: Session, identifier: Webhook) -> None:
    """Create and print a new secret; for a day, messages are signed with both."""
    made = session.client.webhooks.rotate(identifier)
    session.note("Store the secret, it is shown only once:")
    session.give(made, made.secret)


@served(app)
def delete(session: Session, identifier: Webhook) -> None:
    """Delete a webhook with its log."""
    session.client.webhooks.delete(identifier)
    session.give(Deleted(id=identifier), f"{identifier} is deleted.")
