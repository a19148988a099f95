"""A real service on the loopback interface, without a worker, and both clients of it."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from secateur import AsyncSecateur, Secateur
from store.database import Database
from store.settings import Settings
from tests.support.both_clients import Awaited
from tests.support.processes import service_process
from tests.support.uploads import checkpoint_files, dataset_files

Connect = Callable[..., Any]


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


@pytest.fixture(params=["sync", "async"])
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """Makes clients of either kind: arguments as Secateur has them. They are closed in the end."""
    opened: list[Any] = []
    loop = asyncio.new_event_loop()

    def make(url: str, **more: Any) -> Any:
        client = Secateur(url, **more) if request.param == "sync" else Awaited(AsyncSecateur(url, **more), loop)
        opened.append(client)
        return client

    yield make
    for client in opened:
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
