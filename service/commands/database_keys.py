"""`python -m service.commands.database_keys`: lets the operator manage keys directly in the database.

`secateur database-keys` starts it. The first key of a database cannot be created over HTTP, and neither can keys of another
tenant: anyone with access to the database can do both here. Only tokens go to standard output.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer
from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.table import Table
from sqlalchemy.exc import OperationalError

from api_schemas.api.access import KeyResource, NewKey
from api_schemas.enums import AuditAction, KeyScope
from api_schemas.errors import SecateurError
from api_schemas.ids import Name, TenantName
from service.core import resources
from store.access import api_keys, audit
from store.database.connection import Database
from store.database.tenancy import DEFAULT_TENANT
from store.settings import get_settings

PAGE = 100
app = typer.Typer(no_args_is_help=True, add_completion=False, help="API keys: create, list, revoke.")
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document, as the API returns it.")]
Tenant = Annotated[str, typer.Option(help="Tenant of the key. Keys see only what keys of the same tenant created.")]


@app.command()
def create(
    tenant: Tenant = DEFAULT_TENANT,
    name: Annotated[str | None, typer.Option(help="Display name: who or what uses the key.")] = None,
    scope: Annotated[
        list[KeyScope] | None, typer.Option(help="Scope of the key; may be repeated. Default: all but admin.")
    ] = None,
    days: Annotated[
        float | None, typer.Option(min=0.001, help="Days until it expires. Default: valid until revoked.")
    ] = None,
    bootstrap: Annotated[
        bool, typer.Option("--bootstrap", help="Create the first key of a new database, with every scope.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Create a key and print its token, which is shown only once."""
    if bootstrap and (scope or days is not None):
        _stop("--bootstrap creates a key that has every scope and does not expire; leave out --scope and --days.", 2)
    _check(TenantName, tenant, "tenant")
    if name is not None:
        _check(Name, name, "name")
    scopes = scope or [one for one in KeyScope if one is not KeyScope.ADMIN]
    expires_at = None if days is None else datetime.now(UTC) + timedelta(days=days)
    with _database() as database, database.write() as session:
        if bootstrap:
            key, token = api_keys.bootstrap(session, tenant, name)
        else:
            key, token = api_keys.create(session, tenant, name, scopes, expires_at)
        audit.record(session, tenant, AuditAction.CREATE_KEY, key.id)
    if as_json:
        print(NewKey(**resources.key(key).model_dump(), token=token).model_dump_json(indent=2))
        return
    print(f"{key.id} of tenant {tenant}: {', '.join(key.scopes)}. Keep the token, it is shown once:", file=sys.stderr)
    print(token)


@app.command("list")
def list_keys(tenant: Tenant = DEFAULT_TENANT, as_json: AsJson = False) -> None:
    """List the keys of a tenant, newest first, without their tokens."""
    found: list[KeyResource] = []
    table = Table("key", "token begins", "name", "scopes", "made", "expires", "last used", "revoked")
    with _database() as database, database.read() as session:
        cursor = None
        while True:
            rows = api_keys.page(session, tenant, cursor, PAGE)
            found += [resources.key(key) for key in rows.items]
            for key in rows.items:
                moments = (key.created_at, key.expires_at, key.last_used_at, key.revoked_at)
                named = (key.id, api_keys.prefix(key.id), key.name or "", " ".join(key.scopes))
                table.add_row(*named, *(moment.strftime("%Y-%m-%d %H:%M") if moment else "" for moment in moments))
            cursor = rows.next_cursor
            if cursor is None:
                break
    if as_json:
        print(TypeAdapter(list[KeyResource]).dump_json(found, indent=2).decode())
        return
    Console(width=None if sys.stdout.isatty() else 240).print(table)


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(help="`key_…`, as listed.")],
    tenant: Tenant = DEFAULT_TENANT,
    as_json: AsJson = False,
) -> None:
    """Revoke a key, immediately and permanently."""
    with _database() as database, database.write() as session:
        if api_keys.revoke(session, tenant, key_id):
            audit.record(session, tenant, AuditAction.REVOKE_KEY, key_id)
        revoked = resources.key(api_keys.get(session, tenant, key_id))
    if as_json:
        print(revoked.model_dump_json(indent=2))
        return
    print(f"{key_id} is revoked.", file=sys.stderr)


@contextmanager
def _database() -> Iterator[Database]:
    """Of the settings, at the newest schema. An expected failure ends the program with its sentence and status 1."""
    settings = get_settings()
    database = Database(settings.database_url, settings.database_seconds)
    try:
        database.migrate()
        yield database
    except SecateurError as error:
        _stop(error.detail, 1)
    except OperationalError as error:
        _stop(f"The database of SECATEUR_DATABASE_URL does not answer: {error.orig}", 1)
    finally:
        database.close()


def _check(kind: Any, value: str, option: str) -> None:
    try:
        TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        _stop(f"--{option}: {error.errors()[0]['msg']}", 2)


def _stop(sentence: str, status: int) -> None:
    print(f"error: {sentence}", file=sys.stderr)
    raise typer.Exit(status)


if __name__ == "__main__":
    app(prog_name="secateur database-keys")
