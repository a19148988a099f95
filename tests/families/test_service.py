"""Over HTTP, with nothing replaced: every class is taken up and described, images and texts are pruned, misfits are refused."""

import httpx
import pytest

from tests.families.folders import ARCHITECTURES, RECIPES, data_folder, model_folder
from tests.support.families import HEADS
from tests.support.gate import WHOLE
from tests.support.servers.up import upload, wait

JOB = {
    "pruning": {
        "target": {"attention_sparsity": 0.4},
        "schedule": {"steps": 1},
        "calibration": {"split": "train", "samples": 32, "labels": "model", "draws": 1},
    },
    "finetune": {"epochs": 1},
    "evaluate": {"latency_batch_sizes": [1], "latency_runs": 5, "sensitivity_samples": None},
}
PAPER = {"preset": "paper", "target": {"attention_sparsity": 0.4}}
IMAGES, TEXTS, TAGS = "ViTForImageClassification", "BertForSequenceClassification", "BertForTokenClassification"
SPEECH, SOUNDS, EMBEDDED = "WhisperForConditionalGeneration", "WavLMForSequenceClassification", "DistilBertModel"
TAKEN_UP = ARCHITECTURES if WHOLE else sorted({*HEADS, IMAGES, TEXTS, TAGS, SPEECH, SOUNDS, EMBEDDED})
"""In whole, every class: whoever uploads one makes and teaches it first. What is read of each class's files:
tests/unit/engine/families/test_architectures.py."""


@pytest.fixture(scope="module")
def models(service):
    """By class, the id of its upload."""
    with httpx.Client(base_url=f"{service}/v1", timeout=60) as client:
        return {name: upload(client, "models", model_folder(name)) for name in TAKEN_UP}


@pytest.fixture(scope="module")
def datasets(service):
    """By class, the id of the data it learns from."""
    with httpx.Client(base_url=f"{service}/v1", timeout=60) as client:
        ids = {folder: upload(client, "datasets", folder) for folder in {data_folder(name) for name in RECIPES}}
    return {name: ids[data_folder(name)] for name in RECIPES}


def post(client, model, dataset, **changes):
    body = {"model": {"type": "upload", "id": model}, "dataset": {"type": "upload", "id": dataset}, **JOB, **changes}
    return client.post("/jobs", json=body)


def test_every_class_is_taken_up_and_described(client, models):
    for name, recipe in RECIPES.items():
        if name not in models:
            continue
        layout = client.get(f"/models/{models[name]}").json()["layout"]
        found = (layout["architecture"], layout["family"], layout["modality"], layout["head"], tuple(layout["labels"]))
        assert found == (
            name, recipe.family.name, recipe.family.modality, recipe.architecture.head, recipe.labels
        ), name  # fmt: skip


@pytest.mark.parametrize("name", [TEXTS, *((IMAGES,) if WHOLE else ())])
def test_a_job_of_another_family(client, models, datasets, name):
    answer = post(client, models[name], datasets[name], exports=["onnx"])
    assert answer.status_code == 202, answer.text
    job, _ = wait(client, answer.json()["id"])
    assert job["state"] == "succeeded", job
    dense, cut = job["metrics"]
    assert cut["achieved_sparsity"] == pytest.approx(0.4, abs=0.05)
    assert cut["size"]["total_parameters"] < dense["size"]["total_parameters"]
    assert cut["test"]["accuracy"] >= 0.5
    assert cut["exports"][0]["agreement"] > 0.99
    archive = client.get(f"/jobs/{job['id']}/checkpoints/1/archive")
    assert archive.status_code == 200


@pytest.mark.parametrize(
    ("model", "data", "asked", "code", "pointer", "instead"),
    [
        (IMAGES, TEXTS, {}, "dataset_schema", "/dataset/columns", "image"),
        (TEXTS, IMAGES, {}, "dataset_schema", "/dataset/columns", "text"),
        (SOUNDS, IMAGES, {}, "dataset_schema", "/dataset/columns", "audio"),
        (SPEECH, TEXTS, {}, "dataset_schema", "/dataset/columns", "audio"),
        (TAGS, SPEECH, {}, "dataset_schema", "/dataset/columns", "a label for every word"),
        (EMBEDDED, TEXTS, {"pruning": PAPER}, "invalid_request", "/pruning/calibration/labels", "labels to model"),
        (SPEECH, SPEECH, {"exports": ["onnx"]}, "export_unavailable", "/exports", "Leave out `exports`"),
        (
            TEXTS, TEXTS, {"pruning": PAPER | {"layout": "stock"}}, "invalid_request", "/pruning/layout",
            "layout any",
        ),
        (
            SPEECH, SPEECH, {"pruning": {"target": {"latency": 0.05}}}, "invalid_request", "/pruning/target/latency",
            "use flops",
        ),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused_at_once(
    client, models, datasets, model, data, asked, code, pointer, instead
):
    answer = post(client, models[model], datasets[data], **asked)
    assert answer.status_code == 422, answer.text
    problem = answer.json()
    assert problem["code"] == code
    assert {item["pointer"] for item in problem["errors"]} == {pointer}
    assert instead in problem["detail"]
