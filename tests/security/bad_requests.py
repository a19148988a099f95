"""Requests that must change nothing: bytes of HTTP, identifiers, bodies and specs."""

import gzip
import json
from typing import Any

import httpx

from tests.security.attack import Row, Target, job
from tests.support.uploads import checkpoint_files

JSON = {"content-type": "application/json"}
FOREIGN = "job_" + "a" * 26


def get(what: str, path: str, status: int, code: str, **headers: str) -> Row:
    def send(target: Target) -> httpx.Response:
        address = path.replace("JOB", target.job_id).replace("MODEL", target.model_id)
        return target.client.get(address, headers=headers)

    return Row(what, send, status, code)


def post(what: str, body: bytes, code: str = "invalid_request", status: int = 422) -> Row:
    return Row(what, lambda target: target.client.post("/v1/jobs", content=body, headers=JSON), status, code)


def file(name: str, size: int = 1) -> dict[str, Any]:
    return {"name": name, "size": size, "sha256": "a" * 64}


def upload(what: str, code: str, status: int, *files: dict[str, Any]) -> Row:
    return Row(what, lambda target: target.client.post("/v1/models", json={"files": files}), status, code)


def put(what: str, code: str, announced: bytes, sent: bytes) -> Row:
    """A file whose bytes are others than those that were declared."""

    def send(target: Target) -> httpx.Response:
        files = checkpoint_files() | {"config.json": announced}
        address = target.declare(files).headers["location"]
        return target.client.put(f"{address}/files/config.json", content=sent)

    return Row(what, send, 422, code)


def undeclared(target: Target) -> httpx.Response:
    address = target.declare(checkpoint_files()).headers["location"]
    return target.client.put(f"{address}/files/README.md", content=b"x")


def kind(what: str, content_type: str, body: bytes, **headers: str) -> Row:
    """A body of another kind than JSON in UTF-8."""
    given = {"content-type": content_type, **headers}
    return Row(
        what, lambda target: target.client.post("/v1/jobs", content=body, headers=given), 415, "media_type_refused"
    )


def as_utf_16(target: Target) -> httpx.Response:
    """A request that would be accepted, but for its encoding."""
    body = json.dumps(target.job()).encode("utf-16")
    return target.client.post("/v1/jobs", content=body, headers=JSON)


def packed_file(target: Target) -> httpx.Response:
    address = target.declare(checkpoint_files()).headers["location"]
    packed = gzip.compress(checkpoint_files()["config.json"])
    return target.client.put(f"{address}/files/config.json", content=packed, headers={"content-encoding": "gzip"})


def twice(target: Target) -> httpx.Response:
    """The last value of two would be a job."""
    body = json.dumps(target.job(seed=1)).replace('"seed": 1', '"seed": 1, "seed": 2')
    return target.client.post("/v1/jobs", content=body, headers=JSON)


def form(target: Target) -> httpx.Response:
    return target.client.post("/v1/models", files={"config.json": b"{}"})


def many_headers(target: Target) -> httpx.Response:
    return target.client.get("/v1/jobs", headers={f"x-{number}": "y" for number in range(200)})


def wrong_method(target: Target) -> httpx.Response:
    return target.client.patch("/v1/jobs")


def deep(levels: int) -> bytes:
    return b'{"labels":' * levels + b"1" + b"}" * levels


def spec(what: str, code: str = "invalid_request", **pruning: Any) -> Row:
    return job(what, code, pruning={"target": {"attention_sparsity": 0.5}} | pruning)


def other_column(target: Target) -> httpx.Response:
    dataset = {"type": "upload", "id": target.dataset_id, "columns": {"input": "x"}}
    return target.client.post("/v1/jobs", json=target.job(dataset=dataset))


MOST = {"attention_sparsity": 0.99}
FILE = "/v1/jobs/JOB/checkpoints/1/files/model.safetensors"
REQUEST_ROWS = (
    get("a range behind the end", FILE, 416, "range_not_satisfiable", range="bytes=1000000000-"),
    get("the last no bytes", FILE, 416, "range_not_satisfiable", range="bytes=-0"),
    get("a job of somebody else", f"/v1/jobs/{FOREIGN}", 404, "not_found"),
    get("the log of somebody else's job", f"/v1/jobs/{FOREIGN}/logs", 404, "not_found"),
    get("the files of somebody else's job", f"/v1/jobs/{FOREIGN}/checkpoints/1/archive", 404, "not_found"),
    get("a model as a job", "/v1/jobs/MODEL", 404, "not_found"),
    get("SQL for an identifier", "/v1/jobs/job_'%20OR%20'1'='1", 404, "not_found"),
    get("an identifier with a NUL", "/v1/jobs/job_%00", 404, "not_found"),
    get("an identifier that leads outside", "/v1/jobs/..%2F..%2Fetc%2Fpasswd", 404, "not_found"),
    get("a file that leads outside", "/v1/jobs/JOB/checkpoints/1/files/..%2F..%2Fpruning.json", 404, "not_found"),
    get("a step of 10^30", f"/v1/jobs/JOB/checkpoints/{10**30}", 404, "not_found"),
    get("a cursor that is none", "/v1/jobs?cursor=%FF%FE", 422, "invalid_request"),
    get("a page of 10^9", "/v1/jobs?limit=1000000000", 422, "invalid_request"),
    get("a page of less than nothing", "/v1/jobs?limit=-1", 422, "invalid_request"),
    get("an event of 10^30", f"/v1/jobs/JOB/events?after={10**30}", 422, "invalid_request"),
    post("a body over the limit", b'{"name": "' + b"x" * 2 * 2**20 + b'"}', "request_too_large", 413),
    post("a body nested 50,000 levels deep", deep(50_000)),
    post("a body nested 500 levels deep", deep(500)),
    post("half a body", b'{"model": {"type": '),
    Row("a job in UTF-16", as_utf_16, 415, "media_type_refused"),
    kind("a body in UTF-32", "application/json", b'{"name": 1}'.decode().encode("utf-32")),
    kind("a charset that is not UTF-8", "application/json; charset=utf-7", b"{}"),
    kind("a compressed body", "application/json", gzip.compress(b"{}", mtime=0), **{"content-encoding": "gzip"}),
    kind("a text", "text/plain", b"{}"),
    kind("a form in the address's way", "application/x-www-form-urlencoded", b"model=x"),
    kind("XML", "application/xml", b"<job/>"),
    kind("no type at all", "", b"{}"),
    Row("a compressed file", packed_file, 415, "media_type_refused"),
    Row("a name that stands twice", twice, 422, "invalid_request"),
    post("a byte that is not UTF-8", b'{"name": "\xff"}'),
    get("a parameter that is not there", "/v1/jobs?stat=done", 422, "invalid_request"),
    get("a parameter where there are none", "/v1/jobs/JOB?fields=state", 422, "invalid_request"),
    get("a parameter that the page does not have", "/?debug=1", 422, "invalid_request"),
    get("a state that is none", "/v1/jobs?state=done", 422, "invalid_request"),
    post("a body that is null", b"null"),
    post("a number of 100,000 digits", b'{"seed": ' + b"9" * 100_000 + b"}"),
    upload("an upload of 600 files", "request_too_large", 413, *(file(f"f{number}") for number in range(600))),
    upload("a file of 2^70 bytes", "request_too_large", 413, file("config.json", 2**70)),
    upload("a file of less than nothing", "invalid_request", 422, file("config.json", -1)),
    Row("a form", form, 415, "media_type_refused"),
    Row("two hundred headers", many_headers, 431, "headers_too_large"),
    Row("a method that is not there", wrong_method, 405, "method_not_allowed"),
    Row("a file that was not declared", undeclared, 422, "file_unexpected"),
    put("other bytes than were declared", "checksum_mismatch", b'{"a": 1}', b'{"a": 2}'),
    put("more bytes than were declared", "checksum_mismatch", b"{}", b"{}" * 1000),
    put("fewer bytes than were declared", "checksum_mismatch", b"{}" * 1000, b"{}"),
)

SPEC_ROWS = (
    spec("a sparsity of 2", target={"attention_sparsity": 2}),
    spec("a negative sparsity", target={"attention_sparsity": -0.5}),
    spec("a sparsity in a text", target={"attention_sparsity": "most"}),
    spec("two targets", target={"attention_sparsity": 0.5, "flops": 0.5}),
    spec("more heads than there are", "sparsity_out_of_reach", target=MOST, granularity="entire_head", min_heads=1),
    spec("10^9 steps", schedule={"steps": 10**9}),
    spec("less than no samples", calibration={"samples": -1}),
    spec("an unknown criterion", criterion="__import__('os')"),
    spec("an unknown field", run="print()"),
    job("a dataset for a model", "invalid_request", model={"type": "upload", "id": "dst_" + "a" * 26}),
    job("a model of somebody else", "not_found", 404, model={"type": "upload", "id": "mdl_" + "a" * 26}),
    job("a dataset of somebody else", "not_found", 404, dataset={"type": "upload", "id": "dst_" + "a" * 26}),
    job("a model by its path", "invalid_request", model={"type": "path", "path": "/etc"}),
    job("a hub dataset at a branch", "invalid_request", dataset={"type": "hf", "id": "a/b", "revision": "main"}),
    job(
        "a hub dataset that leads outside",
        "invalid_request",
        dataset={"type": "hf", "id": "../../x", "revision": "a" * 40},
    ),
    job("a run time of for ever", "invalid_request", limits={"max_runtime": "forever"}),
    job("a batch of 10^9", "invalid_request", finetune={"batch_size": 10**9}),
    job("a learning rate of 10^9", "invalid_request", finetune={"learning_rate": 1e9}),
    job("a seed of 2^200", "invalid_request", seed=2**200),
    job("a job's name with a NUL", "invalid_request", name="a\0b"),
    Row("columns that are not there", other_column, 422, "dataset_schema"),
)

ROWS = REQUEST_ROWS + SPEC_ROWS
