"""The service as a whole: health, limits, its document, and errors that no route foresees."""

from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from api_schemas.errors import Problem
from checkpoints.families import ALL_FAMILIES
from service.app import create_app
from service.services import Services
from store.settings import Settings
from tests.integration.service.conftest import problem
from tests.support.local import local_client

METHODS = {"get", "put", "post", "delete", "patch"}


def operations(app: FastAPI) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (method, path, operation)
        for path, item in app.openapi()["paths"].items()
        for method, operation in item.items()
        if method in METHODS
    ]


def test_every_operation_is_documented(app: FastAPI) -> None:
    document = app.openapi()
    assert document["openapi"].startswith("3.1")
    assert document["info"]["description"]
    tags = {tag["name"] for tag in document["tags"]}
    ids = [operation["operationId"] for _, _, operation in operations(app)]
    assert len(ids) == len(set(ids)) >= 20
    for method, path, operation in operations(app):
        where = f"{method} {path}"
        assert operation["summary"], where
        assert operation["description"], where
        assert set(operation["tags"]) <= tags, where
        assert any(status.startswith("2") for status in operation["responses"]), where
        errors = {status: body for status, body in operation["responses"].items() if status[0] in "45"}
        assert {"422", "503"} <= set(errors), where
        if "{" in path:
            assert "404" in errors, where
        for status, body in errors.items():
            assert body["description"], where
            if operation["operationId"] != "get_readiness" or status != "503":
                assert list(body["content"]) == ["application/problem+json"], where
        for parameter in operation.get("parameters", ()):
            assert parameter.get("description"), f"{where} {parameter['name']}"


def test_every_reference_of_the_document_leads_somewhere(app: FastAPI) -> None:
    document = app.openapi()

    def references(node: Any) -> set[str]:
        if isinstance(node, dict):
            own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
            return own.union(*map(references, node.values()))
        return set().union(*map(references, node)) if isinstance(node, list) else set()

    schemas = document["components"]["schemas"]
    assert {reference.removeprefix("#/components/schemas/") for reference in references(document)} <= set(schemas)
    assert schemas["Problem"]["properties"].keys() == Problem.model_fields.keys()
    assert "HTTPValidationError" not in schemas


def test_docs_and_limits(client: TestClient, services: Services) -> None:
    assert "swagger" in client.get("/docs").text.lower()
    limits = client.get("/v1/limits").json()
    assert limits["max_file_bytes"] == services.settings.max_file_bytes
    assert limits["families"] == [family.name for family in ALL_FAMILIES]


def test_health_asks_nobody_and_readiness_everybody(client: TestClient) -> None:
    assert client.get("/healthz").json() == {"status": "ok", "checks": {}}
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["checks"] == {"database": "ok", "broker": "unreachable", "artifacts": "ok"}
    assert "retry-after" in answer.headers


def test_unknown_addresses_and_methods(client: TestClient) -> None:
    problem(client.get("/v1/nothing"), 404, "not_found")
    answer = client.delete("/v1/jobs")
    problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "GET, HEAD, POST"
    # Elsewhere a slash at the end would answer with a redirect to wherever the Host header says.
    problem(client.get("/v1/jobs/", follow_redirects=False), 404, "not_found")


def test_head_wherever_get_is_answered(client: TestClient) -> None:
    for address in ("/healthz", "/docs", "/openapi.json", "/v1/jobs", "/v1/limits"):
        answer, full = client.head(address), client.get(address)
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["content-length"] == str(len(full.content))
    assert client.head("/v1/nothing").status_code == 404
    assert client.head(f"/v1/jobs/job_{'a' * 26}/cancel").status_code == 405


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'"x"', b"[" * 100_000])
def test_bodies_that_are_no_requests(client: TestClient, body: bytes) -> None:
    answer = client.post("/v1/jobs", content=body, headers={"content-type": "application/json"})
    problem(answer, 422, "invalid_request")


@pytest.mark.parametrize("kind", ["application/xml", "application/octet-stream", "text/json", ""])
def test_a_body_that_does_not_say_it_is_json(client: TestClient, kind: str) -> None:
    answer = client.post("/v1/models", content=b'{"files": []}', headers={"content-type": kind})
    assert "application/json" in problem(answer, 415, "media_type_refused")["detail"]


def test_reasons_are_in_words_of_http_and_not_of_python(client: TestClient) -> None:
    body = {"pruning": {"target": {"attention_sparsity": 0.5}, "calibration": {"split": "test"}}}
    reasons = [item["detail"] for item in problem(client.post("/v1/jobs", json=body), 422, "invalid_request")["errors"]]
    assert "Input should be 'train' or 'validation'" in reasons
    assert "JSON object" in problem(client.post("/v1/jobs", json=[]), 422, "invalid_request")["detail"]


def test_bodies_are_bounded_whatever_they_announce(client: TestClient, services: Services) -> None:
    size = services.settings.max_json_bytes + 1
    problem(client.post("/v1/jobs", content=b" " * size), 413, "request_too_large")
    chunks = (b" " * 1000 for _ in range(size // 1000 + 1))
    problem(client.post("/v1/jobs", content=chunks), 413, "request_too_large")


def test_failures_nobody_foresaw_tell_nothing_of_the_inside(
    client: TestClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise RuntimeError("secret path /etc/secateur")

    monkeypatch.setattr(services.database, "read", broken)
    body = problem(client.get("/v1/jobs"), 500, "internal_error")
    assert "secret" not in str(body)


def test_an_unreachable_database_is_503_with_retry_after(tmp_path: Path) -> None:
    url = "postgresql+psycopg://nobody@127.0.0.1:1/none?connect_timeout=1"
    settings = Settings(data_dir=tmp_path, database_url=url, broker_url="redis://127.0.0.1:1/0")
    client = local_client(
        create_app(settings), raise_server_exceptions=False
    )  # not started: no schema to bring up to date
    answer = client.get("/v1/jobs")
    problem(answer, 503, "unavailable")
    assert int(answer.headers["retry-after"]) > 0
    assert client.get("/readyz").json()["checks"]["database"] == "unreachable"
    assert client.get("/healthz").status_code == 200


def test_headers_are_part_of_the_document(app: FastAPI) -> None:
    found = {operation["operationId"]: operation for _, _, operation in operations(app)}
    asked = {item["name"] for item in found["download_checkpoint_file"]["parameters"] if item["in"] == "header"}
    assert asked == {"Range", "If-Range", "If-None-Match"}
    for operation, status, names in (
        ("create_job", "202", {"Location", "Retry-After", "Idempotency-Replayed"}),
        ("create_model", "201", {"Location", "Idempotency-Replayed"}),
        ("create_dataset", "201", {"Location", "Idempotency-Replayed"}),
        ("get_job", "200", {"ETag", "Retry-After"}),
        ("download_checkpoint_file", "206", {"ETag", "Content-Range"}),
        ("list_jobs", "503", {"Retry-After"}),
    ):
        answer = found[operation]["responses"][status]
        assert set(answer["headers"]) == names, operation
        assert answer["description"]
    kinds = found["download_checkpoint_file"]["responses"]["200"]["content"]
    assert {"application/octet-stream", "application/json", "image/svg+xml", "text/x-python"} <= set(kinds)


def test_what_is_written_below_a_field_is_its_description(app: FastAPI) -> None:
    metrics = app.openapi()["components"]["schemas"]["JobResource"]["properties"]["metrics"]
    assert "step 0" in metrics["description"]
