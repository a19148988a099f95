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

app = typer.Typer(no_args_is_help=True, help="API keys of your tenant: create, list, revoke. Needs the scope admin.")


def register(on: typer.Typer) -> None:
    """`secateur audit`."""
    served(on, SERVICE)(audit)


@served(app)
def create(
    session: Session,
    scope: Annotated[
        list[KeyScope] | None, typer.Option(help="What it allows; may be repeated. Default: all but admin.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="For people: who or what uses it.", show_default=False)] = None,
    days: Annotated[
        float | None, typer.Option(min=0.001, help="How long it is valid. Default: until revoked.", show_default=False)
    ] = None,
    bootstrap: Annotated[
        bool,
        typer.Option("--bootstrap", help="The first key of a database, with every scope, straight at the database."),
    ] = False,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            help="With --bootstrap: the folder of `secateur up`; other databases by SECATEUR_DATABASE_URL.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Make a key and print its token, which is shown this once."""
    if bootstrap:
        if scope or days is not None:
            raise InvalidRequest("--bootstrap makes a key with every scope that does not expire.", code="usage")
        further = [*([] if name is None else ["--name", name]), *(["--json"] if session.as_json else [])]
        raise typer.Exit(services.keys(data_dir, ["create", "--bootstrap", *further]))
    if data_dir is not None:
        raise InvalidRequest("--data-dir goes with --bootstrap; other keys are made over HTTP.", code="usage")
    scopes = scope or [each for each in KeyScope if each is not KeyScope.ADMIN]
    expires = None if days is None else datetime.now(UTC) + timedelta(days=days)
    made = session.client.keys.create(scopes, name, expires)
    until = f", until {moment(made.expires_at)}" if made.expires_at else ""
    session.note(f"{made.id}: {', '.join(made.scopes)}{until}. Keep the token, it is shown once:")
    session.give(made, made.token)


@served(app, name="list")
def list_keys(session: Session) -> None:
    """Keys, newest first, without their tokens."""
    found = list(session.client.keys.list())
    session.give(found, keys_table(found, session.out.width))


@served(app)
def revoke(session: Session, identifier: Annotated[str, typer.Argument(metavar="KEY", help="key_…")]) -> None:
    """End a key, at once and for good."""
    revoked = session.client.keys.revoke(identifier)
    session.give(revoked, f"{revoked.id} is revoked.")


def audit(session: Session, limit: arguments.Limit = 20) -> None:
    """Who changed what, newest first. Needs a key whose scope is admin."""
    found = list(islice(session.client.keys.audit(), limit))
    session.give(found, audit_table(found, session.out.width) if found else "Nothing was changed yet.")
