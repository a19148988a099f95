"""A real service on the loopback interface, without a worker, and both clients of it."""

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from api_schemas.api.resources import JobError
from api_schemas.errors import ErrorCode
from secateur import AsyncSecateur, Secateur
from store import structured_logs
from store.database.connection import Database
from store.files.artifacts import Artifacts
from store.settings import Settings
from tests.support.both_clients import Awaited, sleeping
from tests.support.jobs.manual_worker import ManualWorker
from tests.support.servers.processes import service_process
from tests.support.uploads import checkpoint_files, dataset_files


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("service")
    return Settings(data_dir=folder / "data", broker_url="redis://127.0.0.1:1/0", event_poll_seconds=0.05)


@pytest.fixture(scope="session")
def server(settings: Settings) -> Iterator[httpx.Client]:
    with service_process(settings, settings.data_dir.parent / "log") as client:
        yield client


@pytest.fixture(scope="session")
def url(server: httpx.Client) -> str:
    return str(server.base_url).rstrip("/")


@pytest.fixture
def database(settings: Settings, server: httpx.Client) -> Iterator[Database]:
    """The service's own: for doing what a worker does."""
    del server
    database = Database(settings.database_url)
    yield database
    database.close()


class Connect:
    """Makes clients of one kind: arguments as Secateur has them."""

    def __init__(self, kind: str, loop: asyncio.AbstractEventLoop) -> None:
        self._kind, self._loop = kind, loop
        self.opened: list[Any] = []

    def __call__(self, url: str, *, naps: list[float] | None = None, **more: Any) -> Any:
        """With `naps`, it notes there how long it would have waited, and does not wait."""
        blocking = self._kind == "sync"
        if naps is not None:
            more["sleep"] = naps.append if blocking else sleeping(naps.append)
        client = Secateur(url, **more) if blocking else Awaited(AsyncSecateur(url, **more), self._loop)
        self.opened.append(client)
        return client


@pytest.fixture(params=["sync", "async"])
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """Of either kind. What it made is closed in the end."""
    loop = asyncio.new_event_loop()
    made = Connect(request.param, loop)
    yield made
    for client in made.opened:
        client.close()
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


@pytest.fixture
def client(connect: Connect, url: str) -> Any:
    return connect(url)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small checkpoint, with a card beside it."""
    return written(tmp_path_factory.mktemp("my-ast"), {**checkpoint_files(), "README.md": b"# A card"})


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("my-data"), dataset_files())


@pytest.fixture(scope="session")
def pair(url: str, model_folder: Path, data_folder: Path) -> tuple[str, str]:
    """Ids of a ready model and of ready data for it."""
    with Secateur(url) as client:
        return client.upload_model(model_folder).id, client.upload_dataset(data_folder).id


def written(folder: Path, files: dict[str, bytes]) -> Path:
    """A folder with these files."""
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture
def worker(settings: Settings, database: Database, tmp_path: Path) -> ManualWorker:
    return ManualWorker(database, Artifacts(settings.artifacts_url), tmp_path)


@pytest.fixture
def running(client: Any, pair: tuple[str, str], worker: ManualWorker) -> Iterator[Any]:
    """A job that `worker` has claimed."""
    job = client.submit(*pair, sparsity=0.5, priority=10)
    worker.claim(job.id)
    yield job
    if not job.refresh().ended:
        worker.fail(JobError(code=ErrorCode.ENGINE_ERROR, detail="The test is over."))


@pytest.fixture(autouse=True)
def a_users_own_process() -> Iterator[None]:
    """Without the log that an application made earlier in this process writes to standard error."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    root.handlers = [handler for handler in before if handler.get_name() != structured_logs.__name__]
    root.setLevel(logging.WARNING)
    yield
    root.handlers[:] = before
    root.setLevel(level)
