"""Refused keys, by address: who is counted together, who is still let in, and what it takes to remember them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from api_schemas.errors import ErrorCode, SecateurError
from service.access import failed_attempts
from service.access.failed_attempts import FailedAttempts
from store.settings import Settings
from tests.support.servers.databases import valkey_server


@pytest.fixture(scope="module")
def broker_url() -> Iterator[str]:
    with valkey_server() as url:
        yield url


@pytest.fixture(params=["memory", "broker"])
def few(request: pytest.FixtureRequest, tmp_path: Path, broker_url: str) -> FailedAttempts:
    settings = Settings(data_dir=tmp_path, broker_url=broker_url, rate_storage=request.param, refused_keys_per_minute=2)
    return FailedAttempts.of(settings)


def guess(
    few: FailedAttempts, address: str | None, token: str = "wrong", says: ErrorCode = ErrorCode.UNAUTHENTICATED
) -> None:
    """A key that is nobody's; `says` is what is answered."""
    with pytest.raises(SecateurError) as caught, few.counted(address, token):
        raise SecateurError(ErrorCode.UNAUTHENTICATED, "no key")
    assert caught.value.code is says
    assert (caught.value.retry_after is not None) == (says is ErrorCode.RATE_LIMITED)


@pytest.mark.parametrize(
    ("first", "second", "together"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.2", "192.0.2.3", False),
        ("192.0.2.4", "::ffff:192.0.2.4", True),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8:1:1::1", "2001:db8:1:2::1", False),
        (None, None, True),
    ],
)
def test_who_is_one_address(few: FailedAttempts, first: str | None, second: str | None, together: bool) -> None:
    guess(few, first)
    guess(few, first, "another")
    guess(few, second, says=ErrorCode.RATE_LIMITED if together else ErrorCode.UNAUTHENTICATED)


def test_over_the_bound_nobody_is_asked(few: FailedAttempts) -> None:
    guess(few, "198.51.100.1")
    guess(few, "198.51.100.1")
    with pytest.raises(SecateurError, match="Too many invalid keys"), few.counted("198.51.100.1", "right"):
        pytest.fail("the database is asked")


def test_a_key_that_was_let_in_is_let_in_beside_a_guesser_until_it_is_refused(few: FailedAttempts) -> None:
    with few.counted("198.51.100.2", "right"):
        pass
    guess(few, "198.51.100.2")
    guess(few, "198.51.100.2")
    with few.counted("198.51.100.2", "right"):
        pass
    guess(few, "198.51.100.2", "right")  # It was revoked.
    guess(few, "198.51.100.2", "right", says=ErrorCode.RATE_LIMITED)


def test_other_failures_are_not_counted(few: FailedAttempts) -> None:
    for _ in range(5):
        with pytest.raises(SecateurError, match="away"), few.counted("198.51.100.3", "right"):
            raise SecateurError(ErrorCode.UNAVAILABLE, "the database is away")


def test_only_so_many_keys_are_remembered(few: FailedAttempts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failed_attempts, "REMEMBERED", 2)
    for token in ("first", "second", "first", "third"):
        with few.counted("198.51.100.4", token):
            pass
    guess(few, "198.51.100.4")
    guess(few, "198.51.100.4")
    for token in ("first", "third"):
        with few.counted("198.51.100.4", token):
            pass
    guess(few, "198.51.100.4", "second", says=ErrorCode.RATE_LIMITED)


def test_without_a_bound_nobody_counts(tmp_path: Path) -> None:
    unbounded = FailedAttempts.of(Settings(data_dir=tmp_path, refused_keys_per_minute=None))
    for _ in range(200):
        guess(unbounded, "192.0.2.1")
    with unbounded.counted("192.0.2.1", "right"):
        pass


def test_a_broker_that_does_not_answer_lets_keys_be_looked_up(tmp_path: Path) -> None:
    away = FailedAttempts.of(
        Settings(
            data_dir=tmp_path, broker_url="redis://127.0.0.1:1/0", rate_storage="broker", refused_keys_per_minute=1
        )
    )
    guess(away, "192.0.2.1")
    guess(away, "192.0.2.1")
    with away.counted("192.0.2.1", "right"):
        pass
