"""Stored bytes as HTTP responses: whole or a range, with validators, never a script in our own origin."""

from collections.abc import Mapping
from pathlib import PurePosixPath

from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from service.core import lost_files
from service.core.archive import StepArchive
from service.middleware.head import STATE_KEY
from service.problems import problem
from service.responses import ranges
from service.services import Services
from store.database.tables import JobStepFile

MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".json": "application/json",
    ".md": "text/markdown; charset=utf-8",
    ".png": "image/png",
    ".py": "text/x-python; charset=utf-8",
    ".svg": "image/svg+xml",
}
# Shown in a browser, a report may style itself and show its own pictures, and nothing else.
CONTENT_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox"
)
RUN_AGAIN = "Else run the job again; its metrics are still there."
# Checkpoints never change under their address.
CACHING = "private, max-age=31536000, immutable"


def file_response(
    request: Request, services: Services, file: JobStepFile, *, inline: bool = False, caching: str = CACHING
) -> Response:
    """One stored file. 200, 206, 304 or 416; HEAD has the headers of GET. Raises ARTIFACT_LOST or STORAGE_UNAVAILABLE."""
    etag = f'"{file.sha256}"'
    name = PurePosixPath(file.name).name
    headers = {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Cache-Control": caching,
        "Content-Security-Policy": CONTENT_POLICY,
        "X-Content-Type-Options": "nosniff",
        "Content-Disposition": f'{"inline" if inline else "attachment"}; filename="{name}"',
    }
    if ranges.matches(etag, request.headers.get("if-none-match")):
        return Response(status_code=304, headers=_validators(headers))
    try:
        asked = None if _head_only(request) else request.headers.get("range")
        span = ranges.select(file.size, etag, asked, request.headers.get("if-range"))
    except ranges.RangeError as error:
        return problem(request, error, headers={"Content-Range": f"bytes */{error.size}", "Accept-Ranges": "bytes"})
    headers["Content-Length"] = str(span.end - span.start)
    if span.partial:
        headers["Content-Range"] = span.content_range
    media_type = MEDIA_TYPES.get(PurePosixPath(file.name).suffix, "application/octet-stream")
    headers["Content-Type"] = media_type
    if _head_only(request):
        lost_files.require(services, {file.key: file.size}, RUN_AGAIN)
        return Response(headers=headers)
    try:
        body = services.artifacts.read(file.key, span.start, span.end, size=file.size)
    except FileNotFoundError:
        raise lost_files.lost([file.key], RUN_AGAIN) from None
    return StreamingResponse(body, 206 if span.partial else 200, headers)


def archive_response(request: Request, services: Services, archive: StepArchive, name: str) -> Response:
    """A whole step as a tar. 200 or 304. Raises ARTIFACT_LOST or STORAGE_UNAVAILABLE."""
    headers = {
        "ETag": archive.etag,
        "Cache-Control": CACHING,
        "X-Content-Type-Options": "nosniff",
        "Content-Disposition": f'attachment; filename="{name}.tar"',
    }
    if ranges.matches(archive.etag, request.headers.get("if-none-match")):
        return Response(status_code=304, headers=_validators(headers))
    # All of them now: an archive that breaks off after its headers tells nobody why.
    lost_files.require(services, archive.sizes, RUN_AGAIN)
    headers |= {"Content-Length": str(archive.size), "Content-Type": "application/x-tar"}
    if _head_only(request):
        return Response(headers=headers)
    return StreamingResponse(archive.stream(services.artifacts), headers=headers)


def _head_only(request: Request) -> bool:
    return getattr(request.state, STATE_KEY, False)


def _validators(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: headers[name] for name in ("ETag", "Cache-Control")}
