"""Every call of both clients, against a real service."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from secateur import errors
from tests.integration.secateur.conftest import Connect


def test_the_way_of_a_job_before_a_worker_takes_it(client: Any, model_folder: Path, data_folder: Path) -> None:
    model, data = client.upload_model(model_folder), client.upload_dataset(data_folder)
    assert (model.state, data.state) == ("ready", "ready")
    assert "README.md" not in {file.name for file in model.files}
    assert model.name == model_folder.name

    estimate = client.estimate(model, data, preset="paper", sparsity=0.5)
    assert estimate.steps[-1].attention_parameters < model.layout.attention_parameters
    preview = client.preview(model, data, preset="paper", sparsity=0.5)
    assert preview.request.pruning.target.attention_sparsity == 0.5

    job = client.submit(
        model, data, preset="paper", sparsity=0.5, name="mine", labels={"team": "speech"}, finetune=None
    )
    assert (job.state, job.name, job.view.request.finetune) == ("queued", "mine", None)
    assert job.view.request.pruning.preset == "paper"
    assert client.job(job.id).id == job.id
    assert job.refresh().refresh().state == "queued"
    assert job.checkpoints == []
    assert list(job.logs()) == []
    assert job.pause().state == "paused"
    assert job.pause().state == "paused"
    assert job.resume().state == "queued"
    assert job.cancel().state == "cancelled"
    assert job.cancel().state == "cancelled"
    assert [event.body.state for event in job.events()][-1] == "cancelled"
    with pytest.raises(errors.JobCancelled) as caught:
        job.wait()
    assert caught.value.job is getattr(job, "thing", job)
    with pytest.raises(errors.Conflict):
        job.pause()
    job.delete()
    job.delete()
    with pytest.raises(errors.NotFound) as gone:
        job.refresh()
    assert gone.value.code == "deleted"


def test_jobs_are_listed_by_state_label_model_and_time(client: Any, pair: tuple[str, str]) -> None:
    model, data = pair
    mine = {client.submit(model, data, sparsity=0.5, labels={"test": "lists", "n": str(n)}).id for n in range(3)}
    now = datetime.now(UTC)

    def found(**query: Any) -> set[str]:
        return {job.id for job in client.jobs(**query)} & mine

    assert found(state="queued", labels={"test": "lists"}, model=model) == mine
    assert found(state=["queued", "running"], labels={"test": "lists", "n": None}) == mine
    assert (
        found(
            labels=["test=lists"], created_after=now - timedelta(minutes=5), created_before=now + timedelta(minutes=5)
        )
        == mine
    )
    assert len(found(labels={"n": "1"})) == 1
    assert found(state="failed") == set()
    assert found(created_after=now + timedelta(minutes=5)) == set()
    for job in client.jobs(labels={"test": "lists"}):
        job.cancel()
        client.delete_job(job.id)
    assert found(labels={"test": "lists"}) == set()


def test_models_and_datasets_are_listed_looked_at_and_deleted(
    client: Any, model_folder: Path, data_folder: Path
) -> None:
    model = client.upload_model(str(model_folder), name="another name")
    data = client.upload_dataset(str(data_folder / "train.parquet"))
    assert model.id in {each.id for each in client.models()}
    assert data.id in {each.id for each in client.datasets()}
    assert client.model(model.id).name == "another name"
    assert client.dataset(data.id).contents.rows == {"train": 4}
    client.delete_model(model)
    client.delete_dataset(data.id)
    assert model.id not in {each.id for each in client.models()}
    for look in (lambda: client.model(model.id), lambda: client.dataset(data.id)):
        with pytest.raises(errors.NotFound):
            look()


def test_a_spec_and_what_is_given_beside_it(client: Any, pair: tuple[str, str]) -> None:
    model, data = pair
    spec = {
        "model": {"type": "upload", "id": model},
        "pruning": {"preset": "paper", "target": {"attention_sparsity": 0.25}},
        "seed": 7,
    }
    request = client.preview(
        data=data, spec=spec, sparsity=0.5, splits={"test": "validation", "validation": "test"}
    ).request
    assert (request.seed, request.pruning.target.attention_sparsity) == (7, 0.5)
    assert (request.pruning.preset, request.dataset.splits.test) == ("paper", "validation")


def test_what_is_wrong_is_said_by_field(client: Any, pair: tuple[str, str]) -> None:
    model, data = pair
    with pytest.raises(errors.InvalidRequest) as caught:
        client.submit(model, data, sparsity=2)
    assert caught.value.pointers == ("/pruning/target/attention_sparsity",)
    assert "/pruning/target/attention_sparsity" in str(caught.value)
    assert caught.value.request_id
    with pytest.raises(errors.InvalidRequest) as caught:
        client.submit(model, data, preset="paper", sparsity=0.99)
    assert caught.value.code == "sparsity_out_of_reach"
    with pytest.raises(errors.InvalidRequest, match="wrong_field"):
        client.submit(model, data, sparsity=0.5, wrong_field=1)
    with pytest.raises(errors.NotFound, match="mdl_aaaa"):
        client.submit("mdl_" + "a" * 26, data, sparsity=0.5)


def test_limits(client: Any) -> None:
    assert "ast" in client.limits().families
    assert list(client.workers()) == []


def test_webhooks(client: Any) -> None:
    made = client.webhooks.create("https://8.8.8.8/hook", ["job.succeeded"])
    assert made.secret.startswith("whsec_")
    assert made.id in {each.id for each in client.webhooks.list()}
    assert client.webhooks.update(made.id, events=["job.failed", "job.paused"]).events == ("job.failed", "job.paused")
    assert client.webhooks.get(made.id).url == made.url
    assert client.webhooks.rotate(made.id).secret != made.secret
    delivery = client.webhooks.ping(made.id)
    assert [each.id for each in client.webhooks.deliveries(made.id, state="pending")] == [delivery.id]
    with pytest.raises(errors.Conflict):
        client.webhooks.redeliver(made.id, delivery.id)
    client.webhooks.delete(made.id)
    with pytest.raises(errors.NotFound):
        client.webhooks.get(made.id)


def test_no_service_at_all_is_said_with_the_address(connect: Connect) -> None:
    client = connect("http://127.0.0.1:1", max_retries=0)
    with pytest.raises(errors.ConnectionFailed, match=r"http://127\.0\.0\.1:1"):
        client.limits()


def test_samples_of_a_dataset(client: Any, pair: tuple[str, str]) -> None:
    _, data = pair
    samples = client.datasets.samples(data)
    assert {sample.split for sample in samples} == {"train", "validation", "test"}
    assert samples[1].label is not None
    media = client.datasets.sample_media(data, 1)
    assert (media[:4], len(media)) == (b"RIFF", samples[1].media.size)
    with pytest.raises(errors.NotFound):
        client.datasets.sample_media(data, 9)
