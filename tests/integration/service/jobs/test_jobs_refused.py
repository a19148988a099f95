"""Specs that contradict themselves or the model: a clean 422 that points at the field, and no job."""

from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from api_schemas.enums import Granularity
from service.services import Services
from store.database.tables import Upload
from tests.integration.service.conftest import problem


@pytest.fixture
def data_dir(stocked: Path) -> Path:
    return stocked


PAPER = {"preset": "paper", "target": {"attention_sparsity": 0.5}}
REFUSED = [
    ({"target": {"parameters": 0.9}}, "sparsity_out_of_reach", "/pruning/target/parameters"),
    ({"target": {"flops": 0.9}}, "sparsity_out_of_reach", "/pruning/target/flops"),
    ({"target": {"latency": 0.99}}, "sparsity_out_of_reach", "/pruning/target/latency"),
    ({"target": {"flops": 1e-6}, "granularity": "ragged"}, "sparsity_out_of_reach", "/pruning/target/flops"),
    ({"min_heads": 4}, "sparsity_out_of_reach", "/pruning/target/attention_sparsity"),
    ({"exclude_layers": [0], "min_heads": 2}, "sparsity_out_of_reach", "/pruning/target/attention_sparsity"),
    ({"target": {"flops": 0.1, "latency": 0.1}}, "invalid_request", "/pruning/target"),
    ({"target": {}}, "invalid_request", "/pruning/target"),
    ({"exclude_layers": [2]}, "invalid_request", "/pruning/exclude_layers"),
    ({"only": "encoder"}, "invalid_request", "/pruning/only"),
    ({"exclude_layers": [0, 1]}, "invalid_request", "/pruning/exclude_layers"),
    ({"exclude_layers": [-1]}, "invalid_request", "/pruning/exclude_layers/0"),
    ({"exclude_layers": [1], "layout": "stock"}, "invalid_request", "/pruning/exclude_layers"),
    ({"granularity": "ragged", "layout": "stock"}, "invalid_request", "/pruning/layout"),
    ({"granularity": "head_and_channel", "layout": "stock"}, "invalid_request", "/pruning/layout"),
    ({"granularity": "ragged", "align": 16}, "width_misaligned", "/pruning/align"),
    ({"align": 5}, "invalid_request", "/pruning/align"),
]


@pytest.mark.parametrize(("changes", "code", "pointer"), REFUSED)
def test_refused_at_once(
    client: TestClient, job_body: dict[str, Any], changes: dict[str, Any], code: str, pointer: str
) -> None:
    answer = client.post("/v1/jobs", json=job_body | {"pruning": PAPER | changes})
    body = problem(answer, 422, code)
    assert [item["pointer"] for item in body["errors"]] == [pointer]
    assert client.get("/v1/jobs").json()["items"] == []


def test_a_latency_target_needs_a_batch_size(client: TestClient, job_body: dict[str, Any]) -> None:
    body = job_body | {"pruning": {"target": {"latency": 0.1}}}
    assert client.post("/v1/jobs", json=body).status_code == 202
    answer = client.post("/v1/jobs", json=body | {"evaluate": {"latency_batch_sizes": []}})
    assert problem(answer, 422, "invalid_request")["errors"][0]["pointer"] == "/evaluate"


@pytest.mark.parametrize(
    ("model_is", "asked", "code", "pointer"),
    [
        ({"head": "embedding"}, {"pruning": PAPER}, "invalid_request", "/pruning/calibration/labels"),
        ({"head": "sequence_to_sequence"}, {"exports": ["onnx"]}, "export_unavailable", "/exports"),
        ({"family": "bert"}, {"pruning": PAPER | {"layout": "stock"}}, "invalid_request", "/pruning/layout"),
    ],
)
def test_what_a_model_is_rules_things_out(
    client: TestClient,
    services: Services,
    job_body: dict[str, Any],
    model_is: dict[str, Any],
    asked: dict[str, Any],
    code: str,
    pointer: str,
) -> None:
    with services.database.write() as session:
        model = session.get_one(Upload, job_body["model"]["id"])
        model.description = {**(model.description or {}), **model_is}
    answer = client.post("/v1/jobs", json=job_body | asked)
    assert [item["pointer"] for item in problem(answer, 422, code)["errors"]] == [pointer]


@pytest.mark.parametrize(
    "changes",
    [
        {"target": {"attention_sparsity": 0.95}, "min_heads": 0},
        {"target": {"attention_sparsity": 0.85}, "granularity": "ragged"},
        {"target": {"attention_sparsity": 0.95}, "granularity": "head_and_channel"},
        {"target": {"parameters": 0.1}, "granularity": "per_head", "normalization": "layer"},
        {"target": {"flops": 0.1}, "granularity": "ragged", "schedule": {"shape": "cubic"}},
        {"target": {"attention_sparsity": 0.4}, "exclude_layers": [1], "granularity": "same_channel"},
        {"align": 16},
        {"granularity": "head_and_channel", "align": 8},
    ],
)
def test_accepted(client: TestClient, job_body: dict[str, Any], changes: dict[str, Any]) -> None:
    answer = client.post("/v1/jobs", json=job_body | {"pruning": PAPER | changes})
    assert answer.status_code == 202, answer.text
    assert {key: answer.json()["request"]["pruning"][key] for key in changes if key not in ("target", "schedule")} == {
        key: value for key, value in changes.items() if key not in ("target", "schedule")
    }


def test_what_is_left_to_the_model_is_settled_when_the_job_is_submitted(
    client: TestClient, job_body: dict[str, Any]
) -> None:
    """Its heads are 8 wide: too narrow for multiples."""
    pruning = client.post("/v1/jobs", json=job_body).json()["request"]["pruning"]
    assert (pruning["granularity"], pruning["align"]) == ("head_and_width", 1)


def test_a_model_says_what_every_granularity_can_reach(client: TestClient, job_body: dict[str, Any]) -> None:
    layout = client.get(f"/v1/models/{job_body['model']['id']}").json()["layout"]
    assert set(layout["max_sparsity"]) == set(Granularity)
    assert layout["max_sparsity"]["entire_head"] < layout["max_sparsity"]["ragged"]
    assert layout["max_sparsity"]["ragged"] < layout["max_sparsity"]["head_and_channel"] < 1
