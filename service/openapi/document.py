"""The OpenAPI document beyond what the routes say themselves: texts, tags, and the one shape of every error."""

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from api_schemas.api.error_titles import ERROR_TEXTS
from api_schemas.enums import KeyScope
from api_schemas.errors import ErrorCode, Problem
from service.openapi.examples.answers import PREVIEW, answers
from service.problems import MEDIA_TYPE, status_of
from store.settings import Settings

TITLE = "Secateur"
SUMMARY = "Makes transformer checkpoints smaller and faster by structured pruning of attention."
DESCRIPTION = """
Send a checkpoint and a dataset, ask for a sparsity, poll, download. Three steps:

1. **Upload.** `POST /v1/models` declares files with sizes and SHA-256, `PUT` sends each, `complete` checks the whole.
   The same for `/v1/datasets`: parquet shards of audio, images or texts, `<split>.parquet` or `<split>-*.parquet`.
2. **Submit.** `POST /v1/jobs` answers 202 with `Location`. Every field but `model`, `dataset` and the target has a default.
3. **Poll and download.** `GET /v1/jobs/{id}` shows state, phase, progress and the metrics of every step, and sends `ETag`
   and `Retry-After` for pollers. Every step's checkpoint can be downloaded, as files (with ranges) or as one archive.

Errors are `application/problem+json` (RFC 9457) with a stable `code`; `errors` points at what was wrong. HEAD is answered
wherever GET is, and any other method that is not listed with 405 and `Allow`. Whatever the call, 408 answers a request that comes
too slowly, 415 a body that is compressed or of another kind than the call takes, 422 a query parameter that it does not have, and
431 more than 100 headers. Every answer but 408 carries `X-Request-ID`: the one that was sent, or a new one; the operator's log
knows the request by it.
"""
TAGS = [
    {"name": "models", "description": "Checkpoints to prune: safetensors and JSON, never pickles, never code."},
    {"name": "datasets", "description": "Audio, images or texts to calibrate, recover and measure on."},
    {"name": "resumable uploads", "description": "Files that go on where they stopped, by tus 1.0.0 (https://tus.io)."},
    {"name": "jobs", "description": "Pruning jobs: submit, watch, cancel."},
    {
        "name": "sweeps",
        "description": "Many jobs on one model and one dataset: submitted at once, answered as one table.",
    },
    {"name": "checkpoints", "description": "What came out: every step's model, and the report."},
    {"name": "webhooks", "description": "Calls to a server of yours when something happens to a job."},
    {"name": "access", "description": "API keys, and the record of who changed what."},
    {"name": "service", "description": "What this server accepts, and whether it is well."},
]


ALWAYS = (ErrorCode.INVALID_REQUEST, ErrorCode.FORBIDDEN, ErrorCode.HOST_REFUSED, ErrorCode.UNAVAILABLE)
"""What any call may be answered with."""
SECURITY = "key"
SECURITY_SCHEME = {
    "type": "http",
    "scheme": "bearer",
    "bearerFormat": "sk_<id>_<secret>",
    "description": "An API key (`POST /v1/keys`). Each call lists scopes; the key needs one of them. "
    "A service that runs without keys (`SECATEUR_AUTH=none`) answers to its own machine alone and asks for none.",
}


def _header(description: str, kind: str = "string") -> dict[str, Any]:
    return {"description": description, "required": True, "schema": {"type": kind}}


def sometimes(headers: dict[str, Any]) -> dict[str, Any]:
    """Of a response that has them only under a condition, which its call describes."""
    return {name: {**header, "required": False} for name, header in headers.items()}


# Response headers, for the `headers` of a response.
LOCATION = {"Location": _header("Address of what was made.")}
ETAG = {"ETag": _header("For `If-None-Match`.")}
RETRY_AFTER = {"Retry-After": _header("Seconds to wait before asking again.", "integer")}
LOG_HEADERS = {
    "Log-Attempt": _header("Number of the attempt.", "integer"),
    "Log-Attempts": _header("All attempts that left a log, such as `1,2`."),
    "Log-Offset": _header(
        "Byte of the attempt's log at which this piece begins; beyond `offset` where older parts are gone.", "integer"
    ),
    "Log-Next-Offset": _header("`offset` of the next piece.", "integer"),
}
TUS_RESUMABLE = {"Tus-Resumable": _header("The version of the protocol: `1.0.0`.")}
UPLOAD_OFFSET = {"Upload-Offset": _header("How many bytes are kept.", "integer")}
UPLOAD_EXPIRES = {"Upload-Expires": _header("When they are given up (an HTTP date).")}
WWW_AUTHENTICATE = {"WWW-Authenticate": _header("`Bearer`.")}
CONTENT_RANGE = {"Content-Range": _header("`bytes first-last/size`.")}


def request_headers(**described: str) -> dict[str, Any]:
    """`openapi_extra` of a route that reads these headers itself: `If_Range="…"` is `If-Range`."""
    return {
        "parameters": [
            {
                "name": name.replace("_", "-"),
                "in": "header",
                "required": False,
                "schema": {"type": "string"},
                "description": description,
            }
            for name, description in described.items()
        ]
    }


def problems(*codes: ErrorCode) -> dict[int | str, dict[str, Any]]:
    """`responses` of a route: the errors it can answer with, by status, each code with its title."""
    by_status: dict[int | str, list[ErrorCode]] = {}
    for code in (*codes, *ALWAYS):
        found = by_status.setdefault(status_of(code), [])
        if code not in found:
            found.append(code)
    return {
        status: {
            "description": "\n".join(f"- `{code.value}`: {ERROR_TEXTS[code].title}." for code in found),
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
            **_headers(status, found),
        }
        for status, found in by_status.items()
    }


def _headers(status: int | str, codes: list[ErrorCode]) -> dict[str, Any]:
    """`headers` of answers of this status, where they have any."""
    if status == 401:
        return {"headers": WWW_AUTHENTICATE}
    if status in (429, 503, 507):
        return {"headers": RETRY_AFTER}
    return {"headers": sometimes(RETRY_AFTER)} if ErrorCode.IDEMPOTENCY_IN_PROGRESS in codes else {}


def install(
    app: FastAPI, settings: Settings, needed: Sequence[tuple[str, frozenset[str], tuple[KeyScope, ...]]]
) -> None:
    """Make `app` serve this document; `needed`: path, methods, and scopes of which a key needs one (service/dependencies.py)."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(
                title=TITLE,
                version=app.version,
                openapi_version="3.1.0",
                summary=SUMMARY,
                description=DESCRIPTION,
                routes=app.routes,
                webhooks=app.webhooks.routes,
                tags=TAGS,
            )
            problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}", mode="serialization")
            components = schema.setdefault("components", {}).setdefault("schemas", {})
            components.update(problem.pop("$defs", {}))
            components["Problem"] = problem
            schema["components"]["securitySchemes"] = {SECURITY: SECURITY_SCHEME}
            for path, methods, scopes in needed:
                for method in methods & {name.upper() for name in schema["paths"].get(path, ())}:
                    _secure(schema["paths"][path][method.lower()], scopes)
            for operation in (operation for item in schema["paths"].values() for operation in item.values()):
                if "requestBody" in operation:
                    _may_answer(operation, ErrorCode.MEDIA_TYPE_REFUSED)
            _show_answers(schema["paths"])
            _tell_defaults(components)
            _tell_limits(components, settings)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _show_answers(paths: dict[str, Any]) -> None:
    """Examples. Added to the finished document, since its encoder drops the nulls that are answered with."""
    shown = answers()
    for operation in (operation for item in paths.values() for operation in item.values()):
        name = operation["operationId"]
        for status, response in operation["responses"].items():
            if name in shown and status.startswith("2") and "application/json" in response.get("content", {}):
                preview = (name, status) == ("create_job", "200")
                response["content"]["application/json"]["example"] = PREVIEW if preview else shown[name]


def _tell_defaults(node: Any) -> None:
    """Say in words that what may be null has an object as its default: generators of clients give up on the field otherwise."""
    if isinstance(node, dict):
        if "anyOf" in node and isinstance(node.get("default"), dict):
            del node["default"]
            node["description"] = f"{node.get('description', '')} Default: the object, with its own defaults.".strip()
        node = list(node.values())
    if isinstance(node, list):
        for each in node:
            _tell_defaults(each)


def _tell_limits(schemas: dict[str, Any], settings: Settings) -> None:
    """Bounds that are this server's own, as `GET /v1/limits` says them."""
    schemas["UploadRequest"]["properties"]["files"]["maxItems"] = settings.max_files
    schemas["ModelUploadRequest"]["properties"]["files"]["maxItems"] = settings.max_files
    schemas["DeclaredFile"]["properties"]["size"]["maximum"] = settings.max_file_bytes
    # A file that is left out may have any size.


def _secure(operation: dict[str, Any], any_of: Sequence[KeyScope]) -> None:
    """Say that one of these scopes is needed, and what is answered without."""
    operation["security"] = [{SECURITY: [scope.value]} for scope in any_of]
    for code in (ErrorCode.UNAUTHENTICATED, ErrorCode.RATE_LIMITED):
        _may_answer(operation, code)


def _may_answer(operation: dict[str, Any], code: ErrorCode) -> None:
    status = str(status_of(code))
    line = f"- `{code.value}`: {ERROR_TEXTS[code].title}."
    before = operation["responses"].get(status)
    answer = problems(code)[status_of(code)]
    if before is not None:
        told = before["description"]
        answer = {**before, "description": told if line in told else f"{told}\n{line}"}
    operation["responses"][status] = answer
