"""The OpenAPI document as others use it: it changes on purpose only, its examples are true, and a client made of it works."""

import hashlib
import importlib
import io
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from fastapi import FastAPI
from jsonschema import Draft202012Validator

from api_schemas.spec.job import JobRequest
from api_schemas.spec.presets import PRESETS
from service.services import Services
from store.settings import Settings
from tests.integration.service.test_service import operations
from tests.support.jobs.bench import fake_engine
from tests.support.servers.processes import service_process
from tests.support.uploads import checkpoint_files, dataset_files, declared
from tests.unit.docs.test_docs import load_script
from worker.supervisor.scratch import Scratch
from worker.supervisor.supervisor import Supervisor

SNAPSHOT = Path(__file__).with_name("openapi.json")


def test_the_document_is_as_it_was_agreed_on() -> None:
    """Where the change is meant: `python scripts/write_openapi.py`, and look at what it changes for clients."""
    assert load_script("write_openapi").document() == SNAPSHOT.read_text(encoding="utf-8")


def test_answers_have_examples_and_they_are_true(app: FastAPI) -> None:
    document = app.openapi()
    shown = set()
    for _, _, operation in operations(app):
        for status, response in operation["responses"].items():
            media = response.get("content", {}).get("application/json", {})
            if "example" in media:
                schema = {**media["schema"], "components": document["components"]}
                Draft202012Validator(schema).validate(media["example"])
                shown.add((operation["operationId"], status))
    answering = {
        (operation["operationId"], status)
        for _, _, operation in operations(app)
        for status, response in operation["responses"].items()
        if status.startswith("2") and list(response.get("content", {}))[:1] == ["application/json"]
    }
    assert answering <= shown


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """The package that openapi-python-client makes of the document."""
    folder = tmp_path_factory.mktemp("client")
    config = folder / "config.yml"
    config.write_text(
        "content_type_overrides:\n"
        "  application/x-tar: application/octet-stream\n"
        "  application/offset+octet-stream: application/octet-stream\n"
        "post_hooks: []\n"
    )
    command = [
        *(str(Path(sys.executable).with_name("openapi-python-client")), "generate", "--path", str(SNAPSHOT)),
        *(
            "--config",
            str(config),
            "--meta",
            "none",
            "--output-path",
            str(folder / "secateur_client"),
            "--fail-on-warning",
        ),
    ]
    made = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    assert made.returncode == 0, made.stdout + made.stderr
    sys.path.insert(0, str(folder))
    try:
        return importlib.import_module("secateur_client")
    finally:
        sys.path.remove(str(folder))


def call(operation: str, *arguments: Any, **named: Any) -> Any:
    """The body of the answer of one of the client's calls, `jobs.get_job`; it must have been a success."""
    module = importlib.import_module(f"secateur_client.api.{operation}")
    answer = module.sync_detailed(*arguments, **named)
    assert answer.status_code < 300, answer.content
    return answer.parsed


def model_of(name: str, body: dict[str, Any]) -> Any:
    return getattr(importlib.import_module("secateur_client.models"), name).from_dict(body)


def test_a_generated_client_runs_the_main_job(generated: ModuleType, settings: Settings, tmp_path: Path) -> None:
    types = importlib.import_module("secateur_client.types")
    settings = settings.model_copy(update={"engine_command": fake_engine("finish"), "engine_threads": 1})
    with service_process(settings, tmp_path / "service.log") as http:
        client = generated.Client(base_url=str(http.base_url))

        def upload(kind: str, files: dict[str, bytes]) -> str:
            request = model_of("UploadRequest", {"name": kind, "files": declared(files)})
            made = call(f"{kind}s.create_{kind}", client=client, body=request)
            for name, content in files.items():
                body = types.File(payload=io.BytesIO(content))
                sent = call(f"{kind}s.upload_{kind}_file", made.id, name, client=client, body=body)
                assert sent.uploaded
            named = {"body": model_of("DatasetCompletion", {})} if kind == "dataset" else {}
            assert call(f"{kind}s.complete_{kind}", made.id, client=client, **named).state == "ready"
            return str(made.id)

        body = {
            "model": {"type": "upload", "id": upload("model", checkpoint_files())},
            "dataset": {"type": "upload", "id": upload("dataset", dataset_files())},
            "pruning": {"target": {"attention_sparsity": 0.5}},
            "finetune": {"epochs": 1},
            "labels": {"team": "speech"},
        }
        request = model_of("JobRequest", body)
        estimate = call("jobs.estimate_job", client=client, body=request)
        assert estimate.steps[-1].attention_sparsity == pytest.approx(0.5, abs=0.02)
        assert call("jobs.create_job", client=client, body=request, validate_only=True).request.seed == 0
        job = call("jobs.create_job", client=client, body=request, idempotency_key="a")
        assert call("jobs.create_job", client=client, body=request, idempotency_key="a").id == job.id
        assert job.queue_position == 1

        services = Services.of(settings)
        scratch, shutdown = Scratch(settings.scratch), threading.Event()
        assert Supervisor(settings, services.database, services.artifacts, scratch, shutdown).run_one()
        services.database.close()

        succeeded = importlib.import_module("secateur_client.models").JobState.SUCCEEDED
        (found,) = call("jobs.list_jobs", client=client, label=["team=speech"], state=[succeeded]).items
        assert found.to_dict() == call("jobs.get_job", job.id, client=client).to_dict()
        events = call("jobs.list_job_events", job.id, client=client).items
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        *_, newest = call("checkpoints.list_checkpoints", job.id, client=client).items
        for file in newest.files:
            content = call("checkpoints.download_checkpoint_file", job.id, newest.step, file.name, client=client)
            assert hashlib.sha256(content.payload.read()).hexdigest() == file.sha256
        call("jobs.delete_job", job.id, client=client)
        missing = importlib.import_module("secateur_client.api.jobs.get_job").sync(job.id, client=client)
        assert missing.code == "deleted"


@pytest.mark.parametrize("preset", PRESETS)
def test_a_generated_client_sends_no_default_that_undoes_a_preset(generated: ModuleType, preset: str) -> None:
    """Nor where its user makes every object that holds the rest."""
    models = importlib.import_module(f"{generated.__name__}.models")
    inputs = {
        "model": {"type": "upload", "id": f"mdl_{'a' * 26}"},
        "dataset": {"type": "upload", "id": f"dst_{'a' * 26}"},
    }
    pruning = models.Pruning(
        preset=models.PruningPreset(preset),
        target=models.Target(attention_sparsity=0.5),
        schedule=models.Schedule(),
        calibration=models.Calibration(),
    )
    whole = models.JobRequest(
        model=models.UploadedModel.from_dict(inputs["model"]),
        dataset=models.UploadedDataset.from_dict(inputs["dataset"]),
        pruning=pruning,
        finetune=models.Finetune(lora=models.Lora(), augment=models.Augment()),
        evaluate=models.Evaluate(),
        limits=models.JobLimits(),
    )
    bare = inputs | {"pruning": {"preset": preset, "target": {"attention_sparsity": 0.5}}}
    sent = whole.to_dict()
    assert sent["pruning"]["min_channels"] == 1, "the client sends the defaults that it knows"
    for body in (sent, model_of("JobRequest", bare).to_dict()):
        assert JobRequest.model_validate(body) == JobRequest.model_validate(bare)
