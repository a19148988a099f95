"""Requests a minute, counted in this process or in a real Valkey that several processes share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from api_schemas.errors import ErrorCode, SecateurError
from service.access.rate_limits import RateLimits
from store.settings import Settings
from tests.support.servers.databases import silent_server, valkey_server


@pytest.fixture(scope="module")
def broker_url() -> Iterator[str]:
    with valkey_server() as url:
        yield url


@pytest.fixture(params=["memory", "broker"])
def settings(request: pytest.FixtureRequest, tmp_path: Path, broker_url: str) -> Settings:
    return Settings(data_dir=tmp_path, broker_url=broker_url, rate_storage=request.param, requests_per_minute=5)


def test_a_tenant_has_its_requests_and_no_more(settings: Settings, request: pytest.FixtureRequest) -> None:
    rates = RateLimits.of(settings)
    tenant = request.node.name
    for _ in range(5):
        rates.count(tenant)
    with pytest.raises(SecateurError) as caught:
        rates.count(tenant)
    assert caught.value.code is ErrorCode.RATE_LIMITED
    assert 1 <= (caught.value.retry_after or 0) <= 60
    assert rates.used(tenant) == 5
    rates.count("another")
    assert rates.used("another") == 1


def test_processes_that_count_in_the_broker_count_together(tmp_path: Path, broker_url: str) -> None:
    shared = Settings(data_dir=tmp_path, broker_url=broker_url, rate_storage="broker", requests_per_minute=4)
    first, second = RateLimits.of(shared), RateLimits.of(shared)
    for rates in (first, second, first, second):
        rates.count("shared")
    with pytest.raises(SecateurError):
        first.count("shared")


def test_a_broker_that_does_not_answer_lets_requests_through(tmp_path: Path) -> None:
    with silent_server() as port:
        for url in (f"redis://127.0.0.1:{port}/0", "redis://127.0.0.1:1/0"):
            rates = RateLimits.of(
                Settings(data_dir=tmp_path, broker_url=url, rate_storage="broker", requests_per_minute=1)
            )
            rates.count("a")
            rates.count("a")
            assert rates.used("a") is None


def test_without_a_bound_nobody_counts(tmp_path: Path) -> None:
    rates = RateLimits.of(Settings(data_dir=tmp_path))
    rates.count("a")
    assert rates.used("a") is None
