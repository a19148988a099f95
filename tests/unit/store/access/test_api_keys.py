"""Keys: what is kept of them, who is let in, and that the first one is made once."""

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, update

from api_schemas.enums import KeyScope
from api_schemas.errors import ErrorCode, SecateurError
from store.access import api_keys
from store.database.clock import now
from store.database.connection import Database
from store.database.tables import ApiKey

SCOPES = (KeyScope.JOBS_READ, KeyScope.JOBS_WRITE)


def make(database: Database, **options: object) -> tuple[ApiKey, str]:
    with database.write() as session:
        return api_keys.create(session, "acme", "ci", SCOPES, **options)  # type: ignore[arg-type]


def change(database: Database, key: ApiKey, **values: object) -> None:
    with database.write() as session:
        session.execute(update(ApiKey).where(ApiKey.id == key.id).values(values))


def kept(database: Database, key: ApiKey) -> ApiKey:
    with database.read() as session:
        return api_keys.get(session, "acme", key.id)


def refused(database: Database, token: str) -> str:
    with pytest.raises(SecateurError) as caught:
        api_keys.authenticate(database, token)
    assert caught.value.code is ErrorCode.UNAUTHENTICATED
    return caught.value.detail


def test_a_token_opens_and_only_its_hash_is_kept(database: Database) -> None:
    key, token = make(database)
    assert re.fullmatch(r"sk_[a-z2-7]{26}_[a-z2-7]{52}", token)
    assert token.startswith(api_keys.prefix(key.id) + "_")
    found = api_keys.authenticate(database, token)
    assert (found.id, found.tenant, tuple(found.scopes)) == (key.id, "acme", SCOPES)
    row = kept(database, key)
    secret = token.rpartition("_")[2]
    assert not any(secret in str(getattr(row, column.key)) for column in ApiKey.__table__.columns)
    assert make(database)[1] != token


def test_nothing_else_opens(database: Database) -> None:
    first, second = make(database)[1], make(database)[1]
    mixed = first.rpartition("_")[0] + "_" + second.rpartition("_")[2]
    for token in ("", "sk_", first[:-1], first + "a", first.upper(), mixed, "sk_" + "a" * 26 + "_" + "a" * 52):
        assert "not valid for this service" in refused(database, token)


def test_revoked_and_expired_keys_are_told_apart_to_who_knows_the_secret(database: Database) -> None:
    key, token = make(database)
    change(database, key, expires_at=now(plus=600))
    assert api_keys.authenticate(database, token).id == key.id
    change(database, key, expires_at=now(plus=-1))
    assert "has expired" in refused(database, token)
    with database.write() as session:
        assert api_keys.revoke(session, "acme", key.id) is True
        assert api_keys.revoke(session, "acme", key.id) is False
    assert "was revoked" in refused(database, token)
    other = make(database)[1]
    mixed = token.rpartition("_")[0] + "_" + other.rpartition("_")[2]
    assert "not valid for this service" in refused(database, mixed)


def test_a_key_is_its_tenants(database: Database) -> None:
    key, token = make(database)
    with database.write() as session:
        for look in (api_keys.get, api_keys.revoke):
            with pytest.raises(SecateurError, match="There is no key"):
                look(session, "other", key.id)
    assert api_keys.authenticate(database, token).id == key.id


def test_use_is_noted_once_a_minute(database: Database) -> None:
    key, token = make(database)
    assert kept(database, key).last_used_at is None
    api_keys.authenticate(database, token)
    first = kept(database, key).last_used_at
    assert first is not None
    api_keys.authenticate(database, token)
    assert kept(database, key).last_used_at == first
    change(database, key, last_used_at=now(plus=-api_keys.USED_SECONDS - 1))
    api_keys.authenticate(database, token)
    assert (kept(database, key).last_used_at or first) >= first


def test_a_key_that_would_have_expired_already_is_not_made(database: Database) -> None:
    with pytest.raises(SecateurError) as caught:
        make(database, expires_at=datetime.now(UTC) - timedelta(hours=1))
    assert caught.value.code is ErrorCode.INVALID_REQUEST


def test_of_many_first_keys_one_is_made(database: Database) -> None:
    def bootstrap(_: int) -> str | ErrorCode:
        try:
            with database.write() as session:
                return api_keys.bootstrap(session, "default", None)[1]
        except SecateurError as error:
            return error.code

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(bootstrap, range(4)))
    assert answers.count(ErrorCode.CONFLICT) == 3
    with database.read() as session:
        [row] = session.scalars(select(ApiKey)).all()
    assert set(row.scopes) == set(KeyScope)
