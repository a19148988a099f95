"""SIGTERM to the service: what was begun is finished and answered, nothing new is taken."""

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from store.settings import Settings
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
