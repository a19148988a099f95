"""The same service over PostgreSQL: one walk through every table, from the upload to the download of a step."""

from pathlib import Path

import pytest

from service.app import create_app
from store.jobs import transitions
from store.settings import Settings
from tests.integration.service.conftest import claim, commit, problem
from tests.support.local import local_client
from tests.support.servers.databases import fresh_database, postgres_server
from tests.support.uploads import checkpoint_files, dataset_files, send


@pytest.fixture(scope="module")
def database_url():
    with postgres_server() as server, fresh_database(server) as url:
        yield url


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> Settings:
    return Settings(data_dir=tmp_path, database_url=database_url, broker_url="redis://127.0.0.1:1/0")


def test_the_main_job(settings: Settings, tmp_path: Path) -> None:
    app = create_app(settings)
    services = app.state.services
    with local_client(app) as client:
        assert services.database.sqlite is False
        model = send(client, "models", checkpoint_files()).json()["id"]
        dataset = send(client, "datasets", dataset_files()).json()["id"]
        body = {
            "model": {"type": "upload", "id": model},
            "dataset": {"type": "upload", "id": dataset},
            "pruning": {"target": {"attention_sparsity": 0.5}},
        }
        first = client.post("/v1/jobs", json=body)
        assert first.status_code == 202
        job_id = first.json()["id"]

        lease = claim(services)
        assert lease.job_id == job_id
        assert client.get(f"/v1/jobs/{job_id}").json()["state"] == "running"
        commit(services, lease, 0, {"pruning.json": b"{}"}, tmp_path)
        commit(services, lease, 1, {"model.safetensors": b"weights", "report.html": b"<p>report"}, tmp_path)
        with services.database.write() as session:
            transitions.succeed(session, lease)

        job = client.get(f"/v1/jobs/{job_id}").json()
        assert job["state"] == "succeeded"
        assert [metrics["step"] for metrics in job["metrics"]] == [0, 1]
        part = client.get(f"/v1/jobs/{job_id}/checkpoints/1/files/model.safetensors", headers={"Range": "bytes=0-3"})
        assert (part.status_code, part.content) == (206, b"weig")
        states = [
            event["body"]["state"]
            for event in client.get(f"/v1/jobs/{job_id}/events").json()["items"]
            if event["body"]["type"] == "state"
        ]
        assert states == ["queued", "running", "succeeded"]

        others = [client.post("/v1/jobs", json=body).json()["id"] for _ in range(3)]
        page = client.get("/v1/jobs", params={"limit": 2}).json()
        rest = client.get("/v1/jobs", params={"limit": 2, "cursor": page["next_cursor"]}).json()
        assert [item["id"] for item in (*page["items"], *rest["items"])] == [*reversed(others), job_id]
        assert client.post(f"/v1/jobs/{others[0]}/cancel").status_code == 202
        assert client.get("/v1/jobs", params={"state": "cancelled"}).json()["items"][0]["id"] == others[0]
        problem(client.post(f"/v1/jobs/{job_id}/cancel"), 409, "conflict")


@pytest.mark.parametrize("name", ["a\x00b", "a\nb", "a\x7fb"])
def test_names_with_control_characters_never_reach_the_database(settings: Settings, name: str) -> None:
    with local_client(create_app(settings)) as client:
        declared = {"name": "config.json", "size": 2, "sha256": "0" * 64}
        answer = client.post("/v1/models", json={"name": name, "files": [declared]})
        problem(answer, 422, "invalid_request")
