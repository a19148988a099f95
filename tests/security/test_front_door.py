"""The door as a network sees it: a real server, bound to every address, called from this machine's outer one."""

import socket
from pathlib import Path

import httpx
import pytest

from api_schemas.enums import KeyScope
from store.access import api_keys
from store.database.connection import Database
from store.settings import Settings
from tests.integration.service.conftest import problem
from tests.support.servers.processes import service_process


@pytest.fixture(scope="module")
def outer_address() -> str:
    """An address of this machine that is not loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: asks which of our addresses would be used
        except OSError:
            pytest.skip("this machine has no address but loopback")
        return str(probe.getsockname()[0])


def test_without_keys_a_server_on_every_address_answers_on_loopback_only(tmp_path: Path, outer_address: str) -> None:
    with service_process(Settings(data_dir=tmp_path), tmp_path / "log", host="0.0.0.0") as here:
        assert here.get("/v1/limits").status_code == 200
        outside = f"http://{outer_address}:{here.base_url.port}"
        for path in ("/v1/limits", "/healthz", "/docs", "/openapi.json"):
            for host in (outer_address, "127.0.0.1"):
                detail = problem(httpx.get(f"{outside}{path}", headers={"Host": host}), 403, "forbidden")["detail"]
        assert "SECATEUR_AUTH=keys" in detail
        # A proxy on this machine that passes on who called.
        forwarded = here.get("/v1/limits", headers={"X-Forwarded-For": "203.0.113.9"})
        problem(forwarded, 403, "forbidden")
        problem(here.get("/v1/limits", headers={"Host": "evil.example"}), 421, "host_refused")
        problem(here.post("/v1/jobs", headers={"Origin": "https://evil.example"}), 403, "forbidden")


def test_with_keys_others_are_answered_by_the_names_the_operator_lists(tmp_path: Path, outer_address: str) -> None:
    settings = Settings(data_dir=tmp_path, auth="keys", allowed_hosts=(outer_address,))
    with service_process(settings, tmp_path / "log", host="0.0.0.0") as here:
        database = Database(settings.database_url)
        with database.write() as session:
            _, token = api_keys.create(session, "acme", None, (KeyScope.JOBS_READ,))
        database.close()
        outside = f"http://{outer_address}:{here.base_url.port}"
        problem(httpx.get(f"{outside}/v1/limits"), 401, "unauthenticated")
        given = {"Authorization": f"Bearer {token}"}
        assert httpx.get(f"{outside}/v1/limits", headers=given).status_code == 200
        problem(httpx.get(f"{outside}/v1/limits", headers={**given, "Host": "evil.example"}), 421, "host_refused")
    log = (tmp_path / "log").read_text()
    assert token not in log
    assert token.rpartition("_")[2] not in log
