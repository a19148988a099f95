"""A job's model, by reference: a step, a bucket, the hub; judged when submitted as far as can be, fetched by the worker."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from starlette.testclient import TestClient

from api_schemas.enums import JobState
from api_schemas.spec.inputs import BucketModel, HubModel
from checkpoints.file_names import checkpoint_names
from service.app import create_app
from service.services import Services
from store import retention
from store.database.clock import now
from store.database.connection import Database
from store.database.tables import Job
from store.database.tenancy import DEFAULT_TENANT
from store.files.model_buckets import BucketFolder, parse_buckets
from store.jobs import jobs, transitions
from store.settings import Settings
from tests.integration.service.conftest import claim, commit, problem
from tests.support.jobs.bench import fake_engine
from tests.support.local import local_client
from tests.support.servers.bucket import Bucket, bucket_server
from tests.support.servers.hub import REVISION, hub_server
from tests.support.uploads import ast_config, checkpoint_files, pruned_ast_config
from worker.inputs import kept_inputs, remote_models
from worker.inputs.kept_inputs import KeptInputs
from worker.supervisor.scratch import Scratch
from worker.supervisor.supervisor import Supervisor

REPO = "some/model"
NESTED = {"modules.json": b"[]", "1_Pooling/config.json": b"{}"}
FILES = checkpoint_files() | NESTED
CODE = dict.fromkeys(("configuration_pruned.py", "modeling_pruned.py", "pruned_layers.py"), b"raise SystemExit('ran')")
PRUNED = checkpoint_files(pruned_ast_config()) | CODE | {"README.md": b"# card", "pruning.json": b"{}"}
FURTHER = {"pruning": {"target": {"attention_sparsity": 0.5}, "align": 1}}
OURS = {"README.md": b"# card", "report.html": b"<html>", "pruning.json": b"{}"}
BESIDE = OURS | {"pytorch_model.bin": b"\x80\x02pickle", "run.py": b"import os", "onnx/model.onnx": b"graph"}


@pytest.fixture
def data_dir(stocked: Path) -> Path:
    return stocked


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    with bucket_server() as made:
        made.put("good", FILES | BESIDE)
        made.put("good/deeper", {"model.safetensors": b"not of this folder"})
        made.put("other", checkpoint_files(ast_config(model_type="nobody-knows")))
        made.put("empty/deeper", {"a": b"1"})
        yield made


@pytest.fixture
def settings(data_dir: Path, bucket: Bucket) -> Settings:
    return Settings(
        data_dir=data_dir,
        broker_url="redis://127.0.0.1:1/0",
        model_buckets=bucket.setting,
        engine_command=fake_engine("finish"),
        heartbeat_seconds=0.2,
        retry_delay_seconds=0,
        failure_cap=2,
        engine_threads=1,
    )


@pytest.fixture
def source(services: Services, job_id: str, tmp_path: Path) -> str:
    """An earlier job with a step 1."""
    lease = claim(services)
    commit(services, lease, 0, {"pruning.json": b"{}"}, tmp_path)
    commit(
        services,
        lease,
        1,
        PRUNED,
        tmp_path,
    )
    with services.database.write() as session:
        transitions.succeed(session, lease)
    return job_id


def lineage(services: Services, job_id: str) -> dict[str, str]:
    with services.database.read() as session:
        job = jobs.get(session, DEFAULT_TENANT, job_id)
        assert job is not None
        return job.lineage


def work(services: Services, settings: Settings) -> None:
    """As a worker of these settings does."""
    database = Database(settings.database_url)
    supervisor = Supervisor(settings, database, services.artifacts, Scratch(settings.scratch), threading.Event())
    supervisor.run_until_empty()
    database.close()


# --- a step ---


def test_a_step_of_an_earlier_job_is_pruned_further(
    client: TestClient, services: Services, settings: Settings, source: str, job_body: dict[str, Any]
) -> None:
    answer = client.post("/v1/jobs", json=job_body | FURTHER | {"model": {"type": "step", "job": source, "step": 1}})
    assert answer.status_code == 202, answer.text
    submitted = answer.json()["id"]
    known = lineage(services, submitted)
    assert (known["model"], known["model_step"], len(known["model_sha256"])) == (source, "1", 64)
    work(services, settings)
    assert client.get(f"/v1/jobs/{submitted}").json()["state"] == "succeeded"


def test_a_step_can_be_taken_while_its_job_still_runs(
    client: TestClient, services: Services, source: str, job_body: dict[str, Any]
) -> None:
    with services.database.write() as session:
        running = {"state": JobState.RUNNING, "finished_at": None, "result": None}
        session.execute(update(Job).where(Job.id == source).values(**running))
    page = client.get(f"/jobs/{source}/steps/1", headers={"Accept": "text/html"}).text
    assert "Start a job from this step" in page
    answer = client.post("/v1/jobs", json=job_body | FURTHER | {"model": {"type": "step", "job": source, "step": 1}})
    assert answer.status_code == 202, answer.text


def test_a_step_keeps_its_files_while_a_living_job_needs_them(
    client: TestClient, services: Services, source: str, job_body: dict[str, Any]
) -> None:
    short = Settings(result_retention_seconds=3600)
    answer = client.post("/v1/jobs", json=job_body | FURTHER | {"model": {"type": "step", "job": source, "step": 1}})
    with services.database.write() as session:
        session.execute(update(Job).where(Job.id == source).values(finished_at=now(plus=-7200)))
    assert retention.expire(services.database, short).jobs == 0
    problem(client.delete(f"/v1/jobs/{source}"), 409, "conflict")
    client.post(f"/v1/jobs/{answer.json()['id']}/cancel")
    assert retention.expire(services.database, short).jobs == 1
    again = client.post("/v1/jobs", json=job_body | FURTHER | {"model": {"type": "step", "job": source, "step": 1}})
    assert problem(again, 410, "expired")["errors"][0]["pointer"] == "/model/step"
    assert client.delete(f"/v1/jobs/{source}").status_code == 204
    deleted = client.post("/v1/jobs", json=job_body | FURTHER | {"model": {"type": "step", "job": source, "step": 1}})
    assert problem(deleted, 410, "deleted")["errors"][0]["pointer"] == "/model/job"


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_step_that_the_store_has_lost_is_said_at_once_or_ends_the_job(
    client: TestClient, services: Services, settings: Settings, source: str, job_body: dict[str, Any], when: str
) -> None:
    """Before the job is submitted, and after it was."""
    body = job_body | FURTHER | {"model": {"type": "step", "job": source, "step": 1}}
    lost = next(found.key for found in services.artifacts.list("jobs") if found.key.endswith("/model.safetensors"))
    if when == "before":
        services.artifacts.delete(lost)
        error = problem(client.post("/v1/jobs", json=body), 410, "artifact_lost")
        assert error["errors"][0]["pointer"] == "/model/step"
        return
    job_id = client.post("/v1/jobs", json=body).json()["id"]
    services.artifacts.delete(lost)
    work(services, settings)
    job = client.get(f"/v1/jobs/{job_id}").json()
    assert (job["state"], job["error"]["code"]) == ("failed", "input_lost")
    assert f"run {source} again" in job["error"]["detail"]


def test_steps_that_cannot_be_taken(
    client: TestClient, services: Services, source: str, job_body: dict[str, Any]
) -> None:
    def refused(job: str, step: int, status: int, code: str, pointer: str) -> str:
        answer = client.post(
            "/v1/jobs", json=job_body | FURTHER | {"model": {"type": "step", "job": job, "step": step}}
        )
        found = problem(answer, status, code)
        assert found["errors"][0]["pointer"] == pointer
        return str(found["detail"])

    refused("job_" + "a" * 26, 1, 404, "not_found", "/model/job")
    assert "available steps: 1" in refused(source, 2, 404, "no_checkpoint", "/model/step")
    refused(source, 0, 422, "invalid_request", "/model/step")
    with services.database.write() as session:
        session.execute(update(Job).where(Job.id == source).values(tenant="other"))
    refused(source, 1, 404, "not_found", "/model/job")


# --- a bucket ---


def test_a_folder_of_a_named_bucket(
    client: TestClient, services: Services, settings: Settings, job_body: dict[str, Any]
) -> None:
    assert client.get("/v1/limits").json()["model_buckets"] == ["models"]
    answer = client.post("/v1/jobs", json=job_body | {"model": {"type": "s3", "bucket": "models", "prefix": "good"}})
    assert answer.status_code == 202, answer.text
    known = lineage(services, answer.json()["id"])
    assert (known["model"], len(known["model_state"])) == ("s3:models/good", 64)
    work(services, settings)
    assert client.get(f"/v1/jobs/{answer.json()['id']}").json()["state"] == "succeeded"


def test_a_folder_that_has_changed_since_is_not_taken(
    client: TestClient, services: Services, settings: Settings, bucket: Bucket, job_body: dict[str, Any]
) -> None:
    bucket.put("moving", FILES)
    answer = client.post("/v1/jobs", json=job_body | {"model": {"type": "s3", "bucket": "models", "prefix": "moving"}})
    assert answer.status_code == 202, answer.text
    bucket.put("moving", {"config.json": json.dumps(ast_config(), indent=1).encode()})
    work(services, settings)
    job = client.get(f"/v1/jobs/{answer.json()['id']}").json()
    assert (job["state"], job["error"]["code"]) == ("failed", "input_lost")


@pytest.mark.parametrize(
    ("reference", "status", "code"),
    [
        ({"bucket": "nobody", "prefix": "good"}, 404, "not_found"),
        ({"bucket": "models", "prefix": "nothing"}, 404, "not_found"),
        ({"bucket": "models", "prefix": "empty"}, 404, "not_found"),
        ({"bucket": "models", "prefix": "other"}, 422, "architecture_unsupported"),
        ({"bucket": "models", "prefix": "../good"}, 422, "invalid_request"),
        ({"bucket": "models", "prefix": "good/"}, 422, "invalid_request"),
        ({"bucket": "models", "prefix": "a/../../good"}, 422, "invalid_request"),
        ({"bucket": "s3://theirs", "prefix": "good"}, 422, "invalid_request"),
        ({"bucket": "models", "prefix": "good", "url": "s3://theirs"}, 422, "invalid_request"),
    ],
)
def test_folders_that_cannot_be_taken(
    client: TestClient, job_body: dict[str, Any], reference: dict[str, str], status: int, code: str
) -> None:
    problem(client.post("/v1/jobs", json=job_body | {"model": {"type": "s3", **reference}}), status, code)


def test_what_is_checked_of_an_upload_is_checked_of_a_bucket(client: TestClient, job_body: dict[str, Any]) -> None:
    model = {"type": "s3", "bucket": "models", "prefix": "good"}
    pruning = {"target": {"attention_sparsity": 0.99}, "granularity": "entire_head", "min_heads": 1}
    problem(client.post("/v1/jobs", json=job_body | {"model": model, "pruning": pruning}), 422, "sparsity_out_of_reach")


def test_a_bucket_that_is_away_is_said(stocked: Path, job_body: dict[str, Any]) -> None:
    options = {"aws_endpoint": "http://127.0.0.1:1", "aws_access_key_id": "a", "aws_secret_access_key": "secret"}
    setting = {"url": "s3://bucket", "options": options, "client_options": {"allow_http": True}}
    buckets = json.dumps({"models": setting})
    settings = Settings(data_dir=stocked, broker_url="redis://127.0.0.1:1/0", model_buckets=buckets)
    assert "secret" not in repr(settings)
    with local_client(create_app(settings), raise_server_exceptions=False) as client:
        model = {"type": "s3", "bucket": "models", "prefix": "good"}
        answer = problem(client.post("/v1/jobs", json=job_body | {"model": model}), 503, "storage_unavailable")
    assert "127.0.0.1" not in answer["detail"]


def test_what_a_bucket_holds_can_be_estimated(client: TestClient, job_body: dict[str, Any]) -> None:
    model = {"type": "s3", "bucket": "models", "prefix": "good"}
    there = client.post("/v1/jobs:estimate", json=job_body | {"model": model}).json()
    assert there["steps"] == client.post("/v1/jobs:estimate", json=job_body).json()["steps"]


def test_files_in_known_folders_are_fetched_and_no_others(settings: Settings, tmp_path: Path) -> None:
    kept = KeptInputs(tmp_path / "caches", 0)
    folders = tmp_path / "bucket", tmp_path / "hub"
    for folder in folders:
        folder.mkdir()
    reference = BucketModel(type="s3", bucket="models", prefix="good")
    found = BucketFolder(parse_buckets(settings.model_buckets), reference)
    state = found.narrowed(checkpoint_names(found.sizes)).state
    remote_models.from_bucket(reference, {"model_state": state}, folders[0], settings, lambda: None, kept)
    with hub_server({REPO: FILES | BESIDE}) as endpoint:
        changes = {"hub_url": endpoint, "outbound_test_target": endpoint.removeprefix("http://")}
        hub = HubModel(type="hf", id=REPO, revision=REVISION)
        remote_models.from_hub(hub, folders[1], settings.model_copy(update=changes), lambda: None, kept)
    for folder in folders:
        paths = (path for path in folder.rglob("*") if path.is_file())
        assert {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths} == FILES


def test_a_version_of_a_file_in_a_bucket_is_read_once_a_worker(
    settings: Settings, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put("changing", FILES)
    monkeypatch.setattr(kept_inputs, "LEAST_BYTES", 1)
    read: list[str] = []
    chunks = BucketFolder.chunks
    monkeypatch.setattr(BucketFolder, "chunks", lambda self, name: (read.append(name), chunks(self, name))[1])
    kept, reference = KeptInputs(tmp_path / "caches", 10**9), BucketModel(type="s3", bucket="models", prefix="changing")

    def fetched(name: str) -> bytes:
        folder = tmp_path / name
        folder.mkdir()
        found = BucketFolder(parse_buckets(settings.model_buckets), reference)
        state = found.narrowed(checkpoint_names(found.sizes)).state
        remote_models.from_bucket(reference, {"model_state": state}, folder, settings, lambda: None, kept)
        return (folder / "config.json").read_bytes()

    before = fetched("first")
    assert set(read) == set(FILES)
    read.clear()
    assert (fetched("second"), read) == (before, [])
    bucket.put("changing", {"config.json": before + b" "})
    assert (fetched("third"), read) == (before + b" ", ["config.json"])


# --- the hub ---


def test_what_only_the_worker_can_see_is_not_estimated(client: TestClient, job_body: dict[str, Any]) -> None:
    body = job_body | {"model": {"type": "hf", "id": REPO, "revision": REVISION}}
    refused = problem(client.post("/v1/jobs:estimate", json=body), 422, "invalid_request")
    assert refused["errors"][0]["pointer"] == "/model/type"
    preview = client.post("/v1/jobs", params={"validate_only": True}, json=body)
    assert (preview.status_code, preview.json()["estimate"]) == (200, None)


def hub_job(
    client: TestClient,
    services: Services,
    settings: Settings,
    body: dict[str, Any],
    files: dict[str, bytes],
    **more: Any,
) -> dict[str, Any]:
    """The ended job whose model are these files on a hub."""
    with hub_server({REPO: files}) as endpoint:
        model = {"type": "hf", "id": REPO, "revision": REVISION}
        answer = client.post("/v1/jobs", json=body | {"model": model})
        assert answer.status_code == 202, answer.text
        assert lineage(services, answer.json()["id"])["model_revision"] == REVISION
        changes = {"hub_url": endpoint, "outbound_test_target": endpoint.removeprefix("http://")} | more
        work(services, settings.model_copy(update=changes))
    ended: dict[str, Any] = client.get(f"/v1/jobs/{answer.json()['id']}").json()
    return ended


def test_a_model_of_the_hub(
    client: TestClient, services: Services, settings: Settings, job_body: dict[str, Any]
) -> None:
    assert hub_job(client, services, settings, job_body, FILES | BESIDE)["state"] == JobState.SUCCEEDED


@pytest.mark.parametrize(
    ("files", "code"),
    [
        (BESIDE, "file_missing"),
        (checkpoint_files(weights=b"junk"), "safetensors_invalid"),
        (checkpoint_files(config=None) | {"config.json": b"{"}, "config_invalid"),
        (checkpoint_files(ast_config(custom_pipelines={"a": {"impl": "a.B"}})), "code_refused"),
        (checkpoint_files(ast_config(model_type="nobody-knows")), "architecture_unsupported"),
        (FILES | {"config.json": json.dumps(ast_config(intermediate_size=65)).encode()}, "weights_mismatch"),
    ],
    ids=["pickles alone", "weights", "config", "code", "family", "shapes"],
)
def test_a_model_of_the_hub_is_judged_as_an_upload_is(
    client: TestClient,
    services: Services,
    settings: Settings,
    job_body: dict[str, Any],
    files: dict[str, bytes],
    code: str,
) -> None:
    job = hub_job(client, services, settings, job_body, files)
    assert (job["state"], job["error"]["code"], job["attempts"]) == ("failed", code, 1)


def test_a_model_of_the_hub_that_is_too_large_is_not_fetched(
    client: TestClient, services: Services, settings: Settings, job_body: dict[str, Any]
) -> None:
    job = hub_job(client, services, settings, job_body, FILES, max_model_bytes=1000)
    assert (job["state"], job["error"]["code"]) == ("failed", "request_too_large")


def test_a_hub_that_is_away_is_tried_up_to_the_cap(
    client: TestClient, services: Services, settings: Settings, job_body: dict[str, Any]
) -> None:
    job = hub_job(
        client, services, settings, job_body, FILES, hub_url="http://127.0.0.1:1", outbound_test_target="127.0.0.1:1"
    )
    assert (job["state"], job["error"]["code"], job["attempts"]) == ("failed", "model_fetch_failed", 2)


@pytest.mark.parametrize(
    "reference",
    [
        {"id": REPO, "revision": "main"},
        {"id": REPO, "revision": "A" * 40},
        {"id": "model", "revision": REVISION},
        {"id": "../../etc", "revision": REVISION},
        {"id": "https://evil.example.com/a", "revision": REVISION},
        {"id": REPO, "revision": REVISION, "token": "mine"},
    ],
)
def test_a_reference_to_the_hub_names_a_repository_and_a_commit(
    client: TestClient, job_body: dict[str, Any], reference: dict[str, str]
) -> None:
    problem(client.post("/v1/jobs", json=job_body | {"model": {"type": "hf", **reference}}), 422, "invalid_request")


# --- the settings ---


@pytest.mark.parametrize(
    "text",
    [
        "not json",
        '{"models": "s3://bucket"}',
        '{"models": {"url": "file:///etc"}}',
        '{"models": {"url": "s3://bucket", "options": {"aws_nonsense": "secret"}}}',
        '{"models": {"url": "s3://bucket", "secret": "secret"}}',
    ],
)
def test_buckets_that_cannot_be_used_are_refused_at_the_start(text: str) -> None:
    with pytest.raises(ValueError, match="model bucket") as caught:
        Settings(model_buckets=text)
    assert ': "secret' not in str(caught.value)
