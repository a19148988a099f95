"""`secateur keys`: the API keys of your tenant, with a key whose scope is admin."""

from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from api_schemas.enums import KeyScope
from secateur.commands.shared import arguments
from secateur.commands.shared.group import SERVICE
from secateur.commands.shared.session import Session, served
from secateur.errors import InvalidRequest
from secateur.local_server import services
from secateur.terminal.formatting import moment
from secateur.terminal.listings import audit_table, keys_table

app = typer.Typer(no_args_is_help=True, help="Create, list and revoke API keys of your tenant. Needs the scope admin.")


def register(on: typer.Typer) -> None:
    """`secateur audit`."""
    served(on, SERVICE)(audit)


@served(app)
def create(
    session: Session,
    scope: Annotated[
        list[KeyScope] | None, typer.Option(help="Scope of the key; may be repeated. Default: all but admin.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Display name: who or what uses the key.", show_default=False)
    ] = None,
    days: Annotated[
        float | None,
        typer.Option(min=0.001, help="Days until it expires. Default: valid until revoked.", show_default=False),
    ] = None,
    bootstrap: Annotated[
        bool,
        typer.Option("--bootstrap", help="Create the first key, with every scope, directly in the database."),
    ] = False,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            help="With --bootstrap: data folder of `secateur up`; set SECATEUR_DATABASE_URL for other databases.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Create a key and print its token, which is shown only once."""
    if bootstrap:
        if scope or days is not None:
            raise InvalidRequest("--bootstrap creates a key that has every scope and does not expire.", code="usage")
        further = [*([] if name is None else ["--name", name]), *(["--json"] if session.as_json else [])]
        raise typer.Exit(services.keys(data_dir, ["create", "--bootstrap", *further]))
    if data_dir is not None:
        raise InvalidRequest("--data-dir is only for --bootstrap; other keys are created over HTTP.", code="usage")
    scopes = scope or [each for each in KeyScope if each is not KeyScope.ADMIN]
    expires = None if days is None else datetime.now(UTC) + timedelta(days=days)
    made = session.client.keys.create(scopes, name, expires)
    until = f", until {moment(made.expires_at)}" if made.expires_at else ""
    session.note(f"{made.id}: {', '.join(made.scopes)}{until}. Store the token, it is shown only once:")
    session.give(made, made.token)


@served(app, name="list")
def list_keys(session: Session) -> None:
    """List keys, newest first, without their tokens."""
    found = list(session.client.keys.list())
    session.give(found, keys_table(found, session.out.width))


@served(app)
def revoke(session: Session, identifier: Annotated[str, typer.Argument(metavar="KEY", help="key_…")]) -> None:
    """Revoke a key, immediately and permanently."""
    revoked = session.client.keys.revoke(identifier)
    session.give(revoked, f"{revoked.id} is revoked.")


def audit(session: Session, limit: arguments.Limit = 20) -> None:
    """Show who changed what, newest first. The key needs the scope admin."""
    found = list(islice(session.client.keys.audit(), limit))
    session.give(found, audit_table(found, session.out.width) if found else "The audit log is empty.")
