"""The OpenAPI document beyond what the routes declare: texts, tags, and the common shape of all errors."""

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
SUMMARY = "Makes transformer checkpoints smaller and faster by structured pruning of attention and feed-forward blocks."
DESCRIPTION = """
Upload a checkpoint and a dataset, submit a job with a target, poll it and download the result:

1. **Upload.** `POST /v1/models` declares files with sizes and SHA-256, `PUT` uploads each, `complete` checks the whole model.
   The same for `/v1/datasets`: parquet shards of audio, images or texts, `<split>.parquet` or `<split>-*.parquet`.
2. **Submit.** `POST /v1/jobs` returns 202 with `Location`. Every field but `model`, `dataset` and the target has a default.
3. **Poll and download.** `GET /v1/jobs/{id}` returns state, phase, progress and the metrics of every step, with `ETag` and
   `Retry-After`. Every step's checkpoint can be downloaded, as files (with ranges) or as one archive.

Errors are `application/problem+json` (RFC 9457) with a stable `code`; `errors` points to what was wrong. HEAD is supported
wherever GET is; any other method that is not listed returns 405 with `Allow`. Every call can return 408 if the request arrives
too slowly, 415 if the body is compressed or of the wrong type, 422 for an unknown query parameter, and 431 for more than 100
headers. Every response except 408 has an `X-Request-ID`: the one that was sent, or a new one. It also identifies the request in
the operator's log.
"""
TAGS = [
    {"name": "models", "description": "Checkpoints to prune: safetensors and JSON, no pickles and no code."},
    {"name": "datasets", "description": "Audio, images or texts for calibration, recovery and evaluation."},
    {"name": "resumable uploads", "description": "File uploads that can be resumed, by tus 1.0.0 (https://tus.io)."},
    {"name": "jobs", "description": "Pruning jobs: submit, watch, cancel."},
    {
        "name": "sweeps",
        "description": "Many jobs on one model and one dataset, submitted together and returned as one table.",
    },
    {"name": "checkpoints", "description": "Results: every step's model, and the report."},
    {"name": "webhooks", "description": "Calls to your server when something happens to a job."},
    {"name": "access", "description": "API keys and the audit log."},
    {"name": "service", "description": "What this server accepts, and its health."},
]


ALWAYS = (ErrorCode.INVALID_REQUEST, ErrorCode.FORBIDDEN, ErrorCode.HOST_REFUSED, ErrorCode.UNAVAILABLE)
"""What any call may be answered with."""
SECURITY = "key"
SECURITY_SCHEME = {
    "type": "http",
    "scheme": "bearer",
    "bearerFormat": "sk_<id>_<secret>",
    "description": "An API key (`POST /v1/keys`). Each call lists scopes; the key needs one of them. A service without keys "
    "(`SECATEUR_AUTH=none`) accepts requests only from its own machine and requires none.",
}


def _header(description: str, kind: str = "string") -> dict[str, Any]:
    return {"description": description, "required": True, "schema": {"type": kind}}


def sometimes(headers: dict[str, Any]) -> dict[str, Any]:
    """Of a response that has them only under a condition, which its call describes."""
    return {name: {**header, "required": False} for name, header in headers.items()}


# Response headers, for the `headers` of a response.
LOCATION = {"Location": _header("URL of the new resource.")}
ETAG = {"ETag": _header("For `If-None-Match`.")}
RETRY_AFTER = {"Retry-After": _header("Seconds until the next request.", "integer")}
LOG_HEADERS = {
    "Log-Attempt": _header("Number of the attempt.", "integer"),
    "Log-Attempts": _header("Numbers of all attempts that have a log, such as `1,2`."),
    "Log-Offset": _header(
        "Offset in bytes of this part in the attempt's log; greater than `offset` if older parts have been removed.",
        "integer",
    ),
    "Log-Next-Offset": _header("`offset` of the next part.", "integer"),
}
TUS_RESUMABLE = {"Tus-Resumable": _header("The protocol version: `1.0.0`.")}
UPLOAD_OFFSET = {"Upload-Offset": _header("Number of bytes received.", "integer")}
UPLOAD_EXPIRES = {"Upload-Expires": _header("When the upload expires (an HTTP date).")}
WWW_AUTHENTICATE = {"WWW-Authenticate": _header("`Bearer`.")}
CONTENT_RANGE = {"Content-Range": _header("`bytes first-last/size`.")}


BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
NOT_MODIFIED = {"description": "The client's copy is current (`If-None-Match`)."}


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


RANGES = request_headers(
    Range="One byte range: `bytes=0-1023`, `bytes=1024-` or `bytes=-1024`. Several ranges return the whole file.",
    If_Range="`ETag` of the part you have: if it has changed, the whole file is returned.",
    If_None_Match="`ETag` of the file you have: 304 if it has not changed.",
)


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
            node["description"] = f"{node.get('description', '')} Default: an object with its own defaults.".strip()
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
