"""Every route × {own key, a key of another tenant, no key, a revoked one, an expired one, one without the scope}.

The routes are read from the OpenAPI document, so that a new one is in here before anybody thinks of it; where it needs a
body or an identifier that is not known here, the test says what to add.
"""

import base64
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from httpx import Response
from starlette.testclient import TestClient

from api_schemas.enums import KeyScope
from service.app import create_app
from store.settings import Settings
from tests.integration.service.conftest import problem
from tests.security.conftest import NOBODY_LISTENS, OWNER, STRANGER, House, bearer, rows_of
from tests.support.uploads import checkpoint_files, dataset_files, declared

with TemporaryDirectory() as _folder:
    DOCUMENT = create_app(Settings(data_dir=Path(_folder))).openapi()
OPERATIONS: dict[str, tuple[str, str, dict[str, Any]]] = {
    operation["operationId"]: (method.upper(), path, operation)
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
}
KEYED = tuple(name for name, (_, _, operation) in OPERATIONS.items() if "security" in operation)
# What an open upload is needed for; every other call is about what is ready.
OF_OPEN_UPLOADS = {
    *("upload_model_file", "complete_model", "delete_model"),
    *("upload_dataset_file", "complete_dataset", "delete_dataset"),
    *("create_model_file_upload", "create_dataset_file_upload"),
}
# Calls whose success needs more than the house holds; what they answer instead says that the key was let in.
NOT_NOW = {
    "complete_model": 409,
    "complete_dataset": 409,
    "delete_job": 409,
    "delete_sweep": 409,
    "redeliver_webhook_delivery": 409,
}


def scopes_of(name: str) -> list[KeyScope]:
    """One of these is needed."""
    return [KeyScope(scope) for needed in OPERATIONS[name][2]["security"] for scope in needed["key"]]


def call(client: TestClient, house: House, name: str, headers: dict[str, str]) -> Response:
    """As somebody who knows every identifier of the owner."""
    method, path, operation = OPERATIONS[name]
    known = house.ids | (house.uploads if name in OF_OPEN_UPLOADS else {})
    if name == "upload_dataset_file":
        known["name"] = "train.parquet"
    wanted = set(re.findall(r"\{(\w+)\}", path))
    assert wanted <= known.keys(), f"{path}: put {wanted - known.keys()} into the house (tests/security/conftest.py)"
    content: dict[str, Any] = {}
    if "requestBody" in operation:
        bodies = _bodies(house)
        assert name in bodies, f"{name}: give it a body in tests/security/test_tenant_matrix.py"
        content = bodies[name]
    headers = headers | _headers(name)
    return client.request(method, path.format(**known), headers=headers, follow_redirects=False, **content)


def _headers(name: str) -> dict[str, str]:
    """What a call needs to be understood at all."""
    if not name.endswith(("_file_upload", "_resumable_protocol")):
        return {}
    shard = name == "create_dataset_file_upload"
    data = (dataset_files() if shard else checkpoint_files())["train.parquet" if shard else "model.safetensors"]
    encoded = base64.b64encode(b"train.parquet" if shard else b"model.safetensors").decode()
    return {
        "Tus-Resumable": "1.0.0", "Upload-Length": str(len(data)), "Upload-Metadata": f"filename {encoded}",
        "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream",
    }  # fmt: skip


def _bodies(house: House) -> dict[str, dict[str, Any]]:
    files = checkpoint_files()
    job = {
        "model": {"type": "upload", "id": house.ids["model_id"]},
        "dataset": {"type": "upload", "id": house.ids["dataset_id"]},
        "pruning": {"target": {"attention_sparsity": 0.5}},
    }
    swept = {"model": job["model"], "dataset": job["dataset"], "specs": [{"pruning": job["pruning"]}]}
    shards = [{"name": "train.parquet", "size": 1, "sha256": "ab" * 32}]
    return {
        "create_model": {"json": {"files": declared(files)}},
        "create_dataset": {"json": {"files": shards}},
        "upload_model_file": {"content": files["model.safetensors"]},
        "upload_dataset_file": {"content": dataset_files()["train.parquet"]},
        "complete_dataset": {"json": {}},
        "append_to_file_upload": {"content": files["model.safetensors"][:100]},
        "create_job": {"json": job},
        "estimate_job": {"json": job},
        "create_sweep": {"json": swept},
        "create_webhook": {"json": {"url": f"http://{NOBODY_LISTENS}/hook"}},
        "update_webhook": {"json": {"enabled": False}},
        "create_key": {"json": {"scopes": ["jobs:read"]}},
    }


def test_every_route_below_v1_needs_a_key_and_the_others_do_not() -> None:
    for name, (_, path, operation) in OPERATIONS.items():
        assert ("security" in operation) is path.startswith("/v1/"), name
    assert len(KEYED) >= 25


# The table of docs/api.md, by the first part of the address: what reading needs, and what changing needs.
READ, WRITE, SEND, ADMIN = KeyScope.JOBS_READ, KeyScope.JOBS_WRITE, KeyScope.MODELS_WRITE, KeyScope.ADMIN
PROMISED: dict[str, tuple[set[KeyScope], set[KeyScope]]] = {
    "models": ({SEND, READ, WRITE}, {SEND}),
    "datasets": ({SEND, READ, WRITE}, {SEND}),
    "uploads": ({SEND, READ, WRITE}, {SEND}),
    "jobs": ({READ, WRITE}, {WRITE}),
    "sweeps": ({READ, WRITE}, {WRITE}),
    "jobs:estimate": (set(), {READ, WRITE}),  # It changes nothing, though it is a POST.
    "webhooks": ({READ, WRITE}, {WRITE}),
    "keys": ({ADMIN}, {ADMIN}),
    "audit": ({ADMIN}, set()),
    "workers": ({ADMIN}, set()),
    "limits": ({SEND, READ, WRITE, ADMIN}, set()),
}


@pytest.mark.parametrize("name", KEYED)
def test_every_call_needs_what_the_documentation_promises(name: str) -> None:
    method, path, _ = OPERATIONS[name]
    reading, changing = PROMISED[path.split("/")[2]]
    assert set(scopes_of(name)) == (reading if method == "GET" else changing)


@pytest.mark.parametrize("name", KEYED)
@pytest.mark.parametrize("who", ["nobody", "revoked", "expired", "made up", "cut short"])
def test_without_a_valid_key(untouched: TestClient, house: House, name: str, who: str) -> None:
    own = house.tokens["own"]
    made_up = own[:-1] + ("a" if own[-1] != "a" else "b")
    token = {"made up": made_up, "cut short": own[:-1], "nobody": ""}.get(who) or house.tokens.get(who, "")
    before = rows_of(untouched.app.state.services, OWNER, STRANGER)  # type: ignore[attr-defined]
    answer = call(untouched, house, name, bearer(token) if token else {})
    problem(answer, 401, "unauthenticated")
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert rows_of(untouched.app.state.services, OWNER, STRANGER) == before  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", [name for name in KEYED if len(scopes_of(name)) < len(KeyScope)])
def test_without_the_scope(untouched: TestClient, house: House, name: str) -> None:
    """Whatever else the key allows."""
    needed = scopes_of(name)
    token = _with_only(untouched, house, [scope for scope in KeyScope if scope not in needed])
    before = rows_of(untouched.app.state.services, OWNER, STRANGER)  # type: ignore[attr-defined]
    body = problem(call(untouched, house, name, bearer(token)), 403, "forbidden")
    assert all(scope.value in body["detail"] for scope in needed)
    assert rows_of(untouched.app.state.services, OWNER, STRANGER) == before  # type: ignore[attr-defined]


def _with_only(client: TestClient, house: House, scopes: list[KeyScope]) -> str:
    made = client.post("/v1/keys", json={"scopes": scopes}, headers=bearer(house.tokens["own"]))
    return str(made.json()["token"])


@pytest.mark.parametrize("name", KEYED)
def test_with_a_key_of_another_tenant(copy: TestClient, house: House, name: str) -> None:
    """What is the owner's is not there, whatever the stranger's key allows, and stays as it was."""
    services = copy.app.state.services  # type: ignore[attr-defined]
    before = rows_of(services, OWNER)
    answer = call(copy, house, name, bearer(house.tokens["foreign"]))
    if "{" in OPERATIONS[name][1] or name in ("create_job", "estimate_job", "create_sweep"):
        problem(answer, 404, "not_found")
    else:
        assert answer.is_success, answer.text
        mine = {*house.ids.values(), *house.uploads.values()} - {"0", "1", "model.safetensors"}
        assert not any(identifier in answer.text for identifier in mine)
        assert OWNER not in answer.text
    assert rows_of(services, OWNER) == before


@pytest.mark.parametrize("name", KEYED)
def test_with_an_own_key(copy: TestClient, house: House, name: str) -> None:
    answer = call(copy, house, name, bearer(house.tokens["own"]))
    assert answer.is_success or answer.status_code == NOT_NOW.get(name), answer.text


@pytest.mark.parametrize("name", KEYED)
def test_with_nothing_but_each_scope_that_is_said_to_do(copy: TestClient, house: House, name: str) -> None:
    for scope in scopes_of(name):
        answer = call(copy, house, name, bearer(_with_only(copy, house, [scope])))
        assert answer.status_code not in (401, 403, 404), (scope, answer.text)
        if OPERATIONS[name][0] == "DELETE":
            break  # It is gone now.
