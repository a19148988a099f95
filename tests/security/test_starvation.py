"""Nobody can keep others waiting: not with requests that take long, and not with datasets that take longer."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import httpx
import psutil
import pytest
from fastapi import FastAPI

from api_schemas import ids
from api_schemas.enums import UploadState
from service.access.turns import MOST_THREADS
from service.app import create_app
from service.core.uploads import complete
from service.core.uploads.uploads import judged
from service.services import Services
from store.database.tables import Upload
from store.database.tenancy import DEFAULT_TENANT
from store.settings import Settings
from store.uploads import uploads
from store.uploads.inspection.incoming_file import IncomingFile
from tests.security.conftest import OWNER, STRANGER, bearer, token_of
from tests.support.servers.databases import wait_for
from tests.support.servers.processes import maintenance_worker, service_process
from tests.support.uploads import dataset_files, declared, repeated_rows, safetensors_bytes

PATIENCE = 60


@pytest.fixture
def app(tmp_path: Path) -> FastAPI:
    app = create_app(Settings(data_dir=tmp_path, broker_url="redis://127.0.0.1:1/0", auth="keys"))
    app.state.services.database.migrate()
    return app


def asking(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:8000", timeout=PATIENCE)


def test_health_and_readiness_wait_for_no_thread(app: FastAPI) -> None:
    async def story() -> None:
        threads = anyio.to_thread.current_default_thread_limiter()
        for _ in range(int(threads.total_tokens)):
            await threads.acquire_on_behalf_of(object())
        async with asking(app) as client:
            assert (await client.get("/healthz")).json()["status"] == "ok"
            checks = (await client.get("/readyz")).json()["checks"]
            assert checks == {"database": "ok", "broker": "unreachable", "artifacts": "ok"}

    asyncio.run(asyncio.wait_for(story(), PATIENCE))


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_megabytes_of_json_are_parsed_beside_the_event_loop(app: FastAPI, name: str) -> None:
    services: Services = app.state.services
    header = {f"layer.{index}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for index in range(20_000)}
    text = json.dumps(header)
    data = safetensors_bytes(text, b"") if name.endswith(".safetensors") else text.encode()
    incoming, threads = IncomingFile(name, len(data), 2**24), set()

    class Watched(IncomingFile):
        def __init__(self) -> None:
            vars(self).update(vars(incoming))

        def feed(self, chunk: bytes) -> None:
            super().feed(chunk)
            if self._header_seen:
                threads.add(threading.current_thread())

        def finish(self) -> None:
            super().finish()
            if name.endswith(".json"):
                threads.add(threading.current_thread())

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(data), 2**16):
            yield data[start : start + 2**16]

    async def story() -> bytes:
        assert len(text) > 2**20
        return b"".join([chunk async for chunk in judged(services, pieces(), Watched(), len(data))])

    assert asyncio.run(asyncio.wait_for(story(), PATIENCE)) == data
    assert threads
    assert threading.main_thread() not in threads


HANGING: dict[str, tuple[Any, str, str, str, int]] = {
    "route": (uploads, "page", "GET", "/v1/models", MOST_THREADS),
    "coroutine": (complete, "request_check", "POST", f"/v1/datasets/{ids.new_id(ids.DATASET)}/complete", 1),
}
"""What a request of each kind does in a thread: a function of a module, method, path, how many threads a tenant has for it."""


@pytest.mark.parametrize("kind", HANGING)
def test_a_tenant_whose_requests_hang_keeps_nobody_else_waiting(
    app: FastAPI, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    services: Services = app.state.services
    keys = {tenant: bearer(token_of(services, tenant)) for tenant in (OWNER, STRANGER)}
    go_on, inside = threading.Event(), threading.Semaphore(0)
    module, name, method, path, most = HANGING[kind]
    work = getattr(module, name)

    def slow(*given: Any) -> Any:
        if OWNER in given or getattr(given[0], "tenant", None) == OWNER:
            inside.release()
            go_on.wait()
        return work(*given)

    monkeypatch.setattr(module, name, slow)

    async def story() -> None:
        async with asking(app) as client:
            stuck = [asyncio.create_task(client.request(method, path, headers=keys[OWNER])) for _ in range(60)]
            try:
                for _ in range(most):
                    assert await asyncio.to_thread(inside.acquire, timeout=PATIENCE)
                for _ in range(20):
                    assert (await client.request(method, path, headers=keys[STRANGER])).status_code in (200, 404)
                assert not any(task.done() for task in stuck)
                assert not inside.acquire(blocking=False)
            finally:
                go_on.set()
            assert {answer.status_code for answer in await asyncio.gather(*stuck)} <= {200, 404}

    asyncio.run(asyncio.wait_for(story(), PATIENCE))


def test_a_few_requests_of_a_tenant_wait_for_checks_and_others_are_answered(
    app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = app.state.services.settings.model_copy(update={"check_wait_seconds": 10 * PATIENCE})
    services = replace(app.state.services, settings=settings)
    monkeypatch.setattr(complete.waking, "wake", lambda _: None)
    ended = threading.Event()

    def get(_: Services, __: str, upload_id: str) -> Upload:
        return Upload(id=upload_id, state=UploadState.READY if ended.is_set() else UploadState.CHECKING)

    monkeypatch.setattr(complete.core, "get", get)

    async def asked(number: int) -> UploadState:
        upload = Upload(id=f"dst_{number}", state=UploadState.CHECKING)
        return (await complete.wait_for_check(services, upload)).state

    async def story() -> None:
        waiting = [asyncio.create_task(asked(number)) for number in range(complete.MOST_WAITING)]
        await asyncio.sleep(0)
        assert await asked(99) is UploadState.CHECKING
        ended.set()
        assert set(await asyncio.gather(*waiting)) == {UploadState.READY}
        assert not services.check_waits

    asyncio.run(asyncio.wait_for(story(), PATIENCE))


@pytest.fixture
def running(valkey_url: str, tmp_path: Path) -> Iterator[tuple[Settings, httpx.Client, psutil.Process]]:
    """A service and its maintenance worker. `complete` waits for nothing."""
    settings = Settings(data_dir=tmp_path, broker_url=valkey_url, auth="keys", check_wait_seconds=0, sweep_seconds=1)
    with (
        service_process(settings, tmp_path / "service.log", maintained=True) as client,
        maintenance_worker(settings, tmp_path / "maintenance.log") as maintenance,
    ):
        wait_for(lambda: maintenance.ready, PATIENCE, "maintenance")
        yield settings, client, psutil.Process(maintenance.process.pid)


def sent(client: httpx.Client, files: dict[str, bytes]) -> str:
    """The address of a dataset whose check was asked for."""
    address = str(client.post("/v1/datasets", json={"files": declared(files)}).headers["location"])
    for name, data in files.items():
        client.put(f"{address}/files/{name}", content=data).raise_for_status()
    answer = client.post(f"{address}/complete")
    assert (answer.status_code, answer.json()["state"]) == (202, "checking"), answer.text
    assert answer.headers["location"] == address
    assert int(answer.headers["retry-after"]) > 0
    return address


def inspectors(maintenance: psutil.Process) -> list[psutil.Process]:
    found = []
    for child in maintenance.children(recursive=True):
        try:
            if "store.uploads.inspection.dataset" in child.cmdline() and child.status() != psutil.STATUS_ZOMBIE:
                found.append(child)
        except psutil.NoSuchProcess:
            continue
    return found


def test_datasets_that_take_long_keep_no_other_tenant_waiting(
    running: tuple[Settings, httpx.Client, psutil.Process],
) -> None:
    settings, client, maintenance = running
    services = Services.of(settings)
    client.headers = bearer(token_of(services, "hostile"))
    data = repeated_rows()
    assert len(data) < 2**20
    # The same bytes need no second sending: each is another dataset nevertheless.
    addresses = [sent(client, {"train.parquet": data}) for _ in range(20)]
    wait_for(lambda: len(inspectors(maintenance)) == 1, PATIENCE, "an inspector")
    client.headers = bearer(token_of(services, DEFAULT_TENANT))
    small = sent(client, dataset_files())
    wait_for(lambda: client.get(small).json()["state"] == "ready", PATIENCE, "the small dataset of another tenant")
    client.headers = bearer(token_of(services, "hostile"))
    states = [client.get(address).json()["state"] for address in addresses]
    assert states.count("checking") >= 19
    assert len(inspectors(maintenance)) <= 1
    assert client.put(f"{addresses[-1]}/files/train.parquet", content=data).json()["code"] == "upload_closed"
    for address in addresses:
        assert client.delete(address).status_code == 204
    wait_for(lambda: not inspectors(maintenance), PATIENCE, "the end of the inspectors")
    with services.database.read() as session:
        assert uploads.page(session, "hostile", "dataset", None, 20).items == []
    services.database.close()
