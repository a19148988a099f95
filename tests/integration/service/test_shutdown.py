"""SIGTERM to the service: what was begun is finished and answered, nothing new is taken. And what is left of it."""

import gc
import hashlib
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from service.app import create_app
from store.settings import Settings
from tests.support.local import local_client
from tests.support.servers.processes import process_of, service_process


def test_a_request_that_is_under_way_is_answered_before_the_service_ends(tmp_path: Path) -> None:
    content = b'{"a": 1}' + b" " * 500_000
    declared = {"name": "config.json", "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    with service_process(Settings(data_dir=tmp_path), tmp_path / "service.log") as client:
        process = process_of(client)
        others = [
            {"name": name, "size": 2, "sha256": "ab" * 32} for name in ("model.safetensors", "preprocessor_config.json")
        ]
        upload = client.post("/v1/models", json={"files": [declared, *others]}).json()["id"]

        def slowly() -> Iterator[bytes]:
            yield content[: len(content) // 2]
            process.terminate()
            time.sleep(1)
            assert process.is_running(), "the service has ended before its answer"
            with pytest.raises(httpx.TransportError):
                httpx.get(client.base_url.join("/healthz"))
            yield content[len(content) // 2 :]

        answer = client.put(f"/v1/models/{upload}/files/config.json", content=slowly())
        assert answer.status_code == 200, answer.text
        assert answer.json()["uploaded"]
        gone, _ = psutil.wait_procs([process], timeout=10)
        assert gone


def test_nothing_keeps_an_application_that_is_closed(settings: Settings) -> None:
    """FastAPI remembers every endpoint of the process: one that knows its application would keep all of it."""
    app = create_app(settings)
    with local_client(app) as client:
        assert client.get("/docs").status_code == 200
    closed = weakref.ref(app)
    del app, client
    gc.collect()
    assert closed() is None
