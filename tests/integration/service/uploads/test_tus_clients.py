"""Resumable uploads by the public clients of the protocol, over connections that break: tuspy and tus-js-client."""

import json
import os
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tusclient.client import TusClient
from tusclient.exceptions import TusCommunicationError, TusUploadFailed

from store.settings import Settings
from tests.support.servers.cutting_proxy import cutting_proxy
from tests.support.servers.processes import service_process
from tests.support.uploads import ast_config, checkpoint_files, declared

MIB = 2**20
NAME = "model.safetensors"
CLIENT = Path(__file__).parents[3] / "support" / "tus"


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    """A checkpoint of 12 MB."""
    return checkpoint_files(ast_config(hidden_size=256, intermediate_size=1024, num_hidden_layers=4))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("tus")
    settings = Settings(data_dir=folder / "data", broker_url="redis://127.0.0.1:1/0")
    with service_process(settings, folder / "log") as client:
        yield client


@pytest.fixture
def address(server: httpx.Client, files: dict[str, bytes]) -> str:
    """A declared model that lacks its weights."""
    where = str(server.post("/v1/models", json={"files": declared(files)}).headers["location"])
    for name, data in files.items():
        if name != NAME:
            assert server.put(f"{where}/files/{name}", content=data).status_code == 200
    return where


def port_of(server: httpx.Client) -> int:
    port = server.base_url.port
    assert port is not None
    return port


def test_tuspy_goes_on_where_it_stopped(
    server: httpx.Client, address: str, files: dict[str, bytes], tmp_path: Path
) -> None:
    path = tmp_path / NAME
    path.write_bytes(files[NAME])
    assert path.stat().st_size > 10 * MIB
    with cutting_proxy(port_of(server), after=7 * MIB, times=1) as proxy:
        client = TusClient(f"http://127.0.0.1:{proxy.port}{address}/uploads")
        uploader = client.uploader(str(path), metadata={"filename": NAME}, chunk_size=20 * MIB)
        with pytest.raises((TusUploadFailed, TusCommunicationError)):
            uploader.upload()
        assert proxy.cuts == 1
        again = client.uploader(str(path), url=uploader.url, chunk_size=3 * MIB, upload_checksum=True)
        assert 6 * MIB < again.offset < path.stat().st_size
        again.upload()
        assert again.offset == path.stat().st_size
    assert server.post(f"{address}/complete").json()["state"] == "ready"


def test_tus_js_client_goes_on_by_itself(
    server: httpx.Client, address: str, files: dict[str, bytes], tmp_path: Path, tus_js_client: Path
) -> None:
    path = tmp_path / NAME
    path.write_bytes(files[NAME])
    with cutting_proxy(port_of(server), after=2 * MIB, times=2) as proxy:
        endpoint = f"http://127.0.0.1:{proxy.port}{address}/uploads"
        command = [node("node"), str(tus_js_client / "send.mjs"), endpoint, str(path), NAME]
        run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert run.returncode == 0, run.stdout + run.stderr
        assert proxy.cuts == 2
    requests = json.loads(run.stdout)["requests"]
    # Asked where the file stands after each break, and went on from what had come of the piece that broke off.
    asked = [int(offset) for method, status, offset in requests if method == "HEAD" and status == 200]
    assert len(asked) >= 2
    assert any(offset % (4 * MIB) for offset in asked), requests
    assert server.post(f"{address}/complete").json()["state"] == "ready"


@pytest.fixture(scope="module")
def tus_js_client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client as npm installs it."""
    folder = tmp_path_factory.mktemp("node")
    for name in ("package.json", "send.mjs"):
        (folder / name).write_text((CLIENT / name).read_text())
    command = [node("npm"), "install", "--no-audit", "--no-fund", "--ignore-scripts"]
    subprocess.run(command, cwd=folder, check=True, timeout=300, stdout=subprocess.DEVNULL, env=_environment())
    return folder


def node(program: str) -> str:
    """Of the wheel that the tests install: whatever else is on this machine does not matter."""
    return str(Path(sysconfig.get_path("scripts")) / program)


def _environment() -> dict[str, str]:
    return os.environ | {"PATH": f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ['PATH']}"}
