"""A service with keys: what the client says without one, and what it does with one. And a submission whose answer is lost."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from secateur import errors
from store.access import api_keys
from store.database.connection import Database
from store.settings import Settings
from tests.integration.secateur.conftest import Connect
from tests.support.servers.cutting_proxy import cutting_proxy
from tests.support.servers.processes import service_process


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """URL of a service with keys, and its first key."""
    folder = tmp_path_factory.mktemp("guarded")
    settings = Settings(data_dir=folder / "data", broker_url="redis://127.0.0.1:1/0", auth="keys")
    with service_process(settings, folder / "log") as http:
        database = Database(settings.database_url)
        with database.write() as session:
            _, token = api_keys.bootstrap(session, "acme", "first")
        database.close()
        yield str(http.base_url), token


def test_keys_are_made_listed_and_revoked(connect: Connect, guarded: tuple[str, str]) -> None:
    url, token = guarded
    admin = connect(url, api_key=token)
    made = admin.keys.create(["jobs:read"], name="nightly", expires_at=datetime.now(UTC) + timedelta(days=1))
    assert made.id in {key.id for key in admin.keys.list()}
    reader = connect(url, api_key=made.token)
    assert list(reader.jobs()) == []
    with pytest.raises(errors.Forbidden, match="admin"):
        reader.keys.create(["admin"])
    assert admin.keys.get(made.id).name == "nightly"
    assert admin.keys.revoke(made.id).revoked_at is not None
    with pytest.raises(errors.Unauthorized):
        reader.limits()
    assert next(iter(admin.keys.audit())).action == "revoke_key"


def test_without_a_key_the_error_says_how_to_pass_one(connect: Connect, guarded: tuple[str, str]) -> None:
    url, _ = guarded
    with pytest.raises(errors.Unauthorized, match="SECATEUR_API_KEY"):
        connect(url).limits()


def test_a_job_whose_answer_was_lost_is_there_once(connect: Connect, url: str, pair: tuple[str, str]) -> None:
    client = connect(url)
    before = sum(1 for _ in client.jobs(labels=["lost"]))
    naps: list[float] = []
    with cutting_proxy(httpx.URL(url).port or 0, after=0, times=1, answers=True) as proxy:
        # The first two kilobytes of the answer come, and the rest is lost.
        through = connect(f"http://127.0.0.1:{proxy.port}", naps=naps)
        job = through.submit(*pair, sparsity=0.5, labels={"lost": "yes", "more": "x" * 100}, name="y" * 100)
        assert proxy.cuts == 1
    assert len(naps) == 1
    assert sum(1 for _ in client.jobs(labels=["lost"])) == before + 1
    client.job(job.id).cancel()
