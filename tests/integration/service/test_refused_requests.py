"""Requests that are no good, and whether what is wrong with them is told well: bodies of other kinds, parameters, names."""

import gzip
import re
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute, iter_route_contexts
from starlette.testclient import TestClient

from service.app import create_app
from service.routes.json_bodies import JsonRoute
from store.settings import Settings
from tests.integration.service.conftest import problem
from tests.support.local import local_client

JSON = "application/json"


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=a"])
@pytest.mark.parametrize("address", ["/v1/models", "/v1/jobs", "/v1/jobs:estimate", f"/v1/jobs/job_{'a' * 26}/cancel"])
def test_forms_and_texts_are_not_read(client: TestClient, kind: str, address: str) -> None:
    answer = client.post(address, content=b"a=1", headers={"content-type": kind})
    assert kind.partition(";")[0] in problem(answer, 415, "media_type_refused")["detail"]


def test_a_form_without_anything_in_it_is_no_body(client: TestClient) -> None:
    """`curl -X POST -d ''` announces one."""
    form = {"content-type": "application/x-www-form-urlencoded"}
    problem(client.post(f"/v1/jobs/job_{'a' * 26}/cancel", content=b"", headers=form), 404, "not_found")


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        ('{"files": []}'.encode("utf-16"), JSON, "UTF-16"),
        ('{"files": []}'.encode("utf-16-le"), JSON, "UTF-16"),
        ('{"files": []}'.encode("utf-32-be"), JSON, "UTF-32"),
        (b'{"files": []}', f"{JSON}; charset=utf-16", "utf-16"),
        (b'{"files": []}', f'{JSON}; charset="ISO-8859-1"', "iso-8859-1"),
    ],
)
def test_json_in_another_encoding_is_told_so(client: TestClient, body: bytes, kind: str, words: str) -> None:
    answer = client.post("/v1/models", content=body, headers={"content-type": kind})
    detail = problem(answer, 415, "media_type_refused")["detail"]
    assert words in detail
    assert "UTF-8" in detail


@pytest.mark.parametrize(
    "kind", [JSON, f"{JSON}; charset=utf-8", f'{JSON};charset="UTF-8"', "application/problem+json"]
)
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_utf_8_is_read_with_and_without_its_mark(client: TestClient, kind: str, mark: bytes) -> None:
    body = mark + '{"name": "für", "files": []}'.encode()
    answer = client.post("/v1/models", content=body, headers={"content-type": kind})
    assert [item["pointer"] for item in problem(answer, 422, "invalid_request")["errors"]] == ["/files"]


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate", "gzip, identity"])
def test_compressed_bodies_are_told_so(client: TestClient, coding: str) -> None:
    packed = gzip.compress(b'{"files": []}')
    answer = client.post("/v1/models", content=packed, headers={"content-type": JSON, "content-encoding": coding})
    assert "Content-Encoding" in problem(answer, 415, "media_type_refused")["detail"]
    address = f"/v1/models/mdl_{'a' * 26}/files/config.json"
    problem(client.put(address, content=packed, headers={"content-encoding": coding}), 415, "media_type_refused")
    problem(client.put(address, content=b"{}", headers={"content-encoding": "identity"}), 404, "not_found")


def test_a_name_that_stands_twice_is_refused(client: TestClient) -> None:
    answer = client.post("/v1/jobs", content=b'{"seed": 1, "limits": {}, "seed": 2}', headers={"content-type": JSON})
    assert "'seed' occurs twice" in problem(answer, 422, "invalid_request")["detail"]


def test_every_route_with_a_body_of_json_reads_it_by_these_rules(app: FastAPI) -> None:
    taking = [
        context.original_route
        for context in iter_route_contexts(app.routes)
        if isinstance(context.original_route, APIRoute) and context.original_route.body_field is not None
    ]
    assert len(taking) >= 7
    assert all(isinstance(route, JsonRoute) for route in taking)


def test_parameters_that_a_call_does_not_have_are_refused(client: TestClient) -> None:
    """On every route, the page's included, whether it has others or none."""
    for context in iter_route_contexts(client.app.routes):  # type: ignore[attr-defined]
        if not isinstance(context.original_route, APIRoute) or "GET" not in (context.methods or ()):
            continue
        path = re.sub(r"\{\w*step\}", "1", context.path_format or "")
        for name, prefix in (("job", "job"), ("model", "mdl"), ("dataset", "dst"), ("upload", "upl"), ("key", "key")):
            path = path.replace(f"{{{name}_id}}", f"{prefix}_{'a' * 26}")
        path = path.replace("{webhook_id}", f"whk_{'a' * 26}")
        answer = client.get(path, params={"surprise": "1", "limti": "2"})
        body = problem(answer, 422, "invalid_request")
        assert [item["pointer"] for item in body["errors"]] == ["/query/limti", "/query/surprise"], path


def test_what_is_wrong_with_a_parameter_names_it(client: TestClient) -> None:
    for query, pointers in (
        ("state=done", ["/query/state"]),
        ("state=queued&state=done&state=lost", ["/query/state"] * 2),
        ("limit=0&label=A", ["/query/label", "/query/limit"]),
        ("cursor=x", ["/query/cursor"]),
        ("created_after=5", ["/query/created_after"]),
    ):
        body = problem(client.get(f"/v1/jobs?{query}"), 422, "invalid_request")
        assert sorted(item["pointer"] for item in body["errors"]) == pointers, query
    answer = client.get(f"/v1/jobs/job_{'a' * 26}/events", headers={"Last-Event-ID": "x"})
    assert problem(answer, 422, "invalid_request")["errors"][0]["pointer"] == "/header/last-event-id"


def test_the_document_and_the_limits_agree(tmp_path: Path) -> None:
    app = create_app(Settings(data_dir=tmp_path, max_files=7, max_file_bytes=1000))
    schemas = app.openapi()["components"]["schemas"]
    with local_client(app) as client:
        limits = client.get("/v1/limits").json()
        assert schemas["UploadRequest"]["properties"]["files"]["maxItems"] == limits["max_files"] == 7
        assert schemas["DeclaredFile"]["properties"]["size"]["maximum"] == limits["max_file_bytes"] == 1000
        files = [{"name": f"train-{n}.parquet", "size": 1, "sha256": "ab" * 32} for n in range(8)]
        assert client.post("/v1/datasets", json={"files": files[:7]}).status_code == 201
        body = problem(client.post("/v1/datasets", json={"files": files}), 413, "request_too_large")
        assert body["errors"][0]["pointer"] == "/files"


def test_declared_names_are_pointed_at_where_they_stand(client: TestClient) -> None:
    good = {"size": 2, "sha256": "ab" * 32}
    needed = [{"name": name, **good} for name in ("config.json", "model.safetensors")]
    for files, code, pointer, words in (
        ([*needed, *({"name": name, **good} for name in ("a", "a/b"))], "file_unexpected", "/files/2/name", "folder"),
        ([*needed, {"name": "a/" * 8 + "b", **good}], "file_name_refused", "/files/2/name", ""),
        ([*needed, needed[0]], "file_unexpected", "/files/2/name", "more than once"),
        ([{"name": "model.bin", **good}, needed[0]], "file_type_refused", "/files/0/name", "safetensors"),
        ([{"name": "aux.json", **good}, *needed], "file_name_refused", "/files/0/name", "Windows"),
        (needed[1:], "file_missing", "/files", "config.json"),
    ):
        body = problem(client.post("/v1/models", json={"files": files}), 422, code)
        assert ([item["pointer"] for item in body["errors"]], words in body["detail"]) == ([pointer], True), body
