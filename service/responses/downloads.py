"""Stored bytes as HTTP responses: whole or a range, with validators, never a script in our own origin."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePosixPath

from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from service.core.jobs.archive import StepArchive
from service.core.uploads import lost_files
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
RUN_AGAIN = "Otherwise run the job again; its metrics are still available."
# Neither checkpoints nor samples change under their address.
CACHING = "private, max-age=31536000, immutable"


def file_response(
    request: Request, services: Services, file: JobStepFile, *, inline: bool = False, caching: str = CACHING
) -> Response:
    """One stored file. 200, 206, 304 or 416; HEAD has the headers of GET. Raises ARTIFACT_LOST or STORAGE_UNAVAILABLE."""
    name = PurePosixPath(file.name).name
    headers = {
        "ETag": f'"{file.sha256}"',
        "Cache-Control": caching,
        "Content-Security-Policy": CONTENT_POLICY,
        "Content-Disposition": f'{"inline" if inline else "attachment"}; filename="{name}"',
        "Content-Type": MEDIA_TYPES.get(PurePosixPath(file.name).suffix, "application/octet-stream"),
    }

    def body(span: ranges.Span) -> Iterator[bytes]:
        try:
            return services.artifacts.read(file.key, span.start, span.end, size=file.size)
        except FileNotFoundError:
            raise lost_files.lost([file.key], RUN_AGAIN) from None

    return _answer(request, headers, file.size, lambda: _require(services, {file.key: file.size}), body)


def bytes_response(request: Request, data: bytes, media_type: str, name: str) -> Response:
    """A few bytes that are all there, for our own pages to play or show. 200, 206, 304 or 416; HEAD has the headers of GET."""
    headers = {
        "ETag": f'"{hashlib.sha256(data).hexdigest()}"',
        "Cache-Control": CACHING,
        "Content-Security-Policy": CONTENT_POLICY,
        "Cross-Origin-Resource-Policy": "same-origin",
        "Content-Disposition": f'inline; filename="{name}"',
        "Content-Type": media_type,
    }
    return _answer(request, headers, len(data), lambda: None, lambda span: iter((data[span.start : span.end],)))


def archive_response(request: Request, services: Services, archive: StepArchive, name: str) -> Response:
    """A whole step as a tar. 200, 206, 304 or 416; HEAD has the headers of GET. Raises ARTIFACT_LOST or STORAGE_UNAVAILABLE."""
    headers = {
        "ETag": archive.etag,
        "Cache-Control": CACHING,
        "Content-Disposition": f'attachment; filename="{name}.tar"',
        "Content-Type": "application/x-tar",
    }

    def body(span: ranges.Span) -> Iterator[bytes]:
        # All of them now: an archive that breaks off after its headers cannot report why.
        _require(services, archive.sizes)
        return archive.stream(services.artifacts, span.start, span.end)

    return _answer(request, headers, archive.size, lambda: _require(services, archive.sizes), body)


def _require(services: Services, sizes: Mapping[str, int]) -> None:
    lost_files.require(services, sizes, RUN_AGAIN)


def _answer(
    request: Request,
    headers: Mapping[str, str],
    size: int,
    require: Callable[[], None],
    body: Callable[[ranges.Span], Iterator[bytes]],
) -> Response:
    """What the request asks for of `size` bytes. `require` is called for HEAD, which has no body that would show what is lost."""
    etag, head_only = headers["ETag"], getattr(request.state, STATE_KEY, False)
    if ranges.matches(etag, request.headers.get("if-none-match")):
        return Response(status_code=304, headers={name: headers[name] for name in ("ETag", "Cache-Control")})
    try:
        asked = None if head_only else request.headers.get("range")
        span = ranges.select(size, etag, asked, request.headers.get("if-range"))
    except ranges.RangeError as error:
        return problem(request, error, headers={"Content-Range": f"bytes */{error.size}", "Accept-Ranges": "bytes"})
    sent = {
        **headers,
        "Accept-Ranges": "bytes",
        "X-Content-Type-Options": "nosniff",
        "Content-Length": str(span.end - span.start),
    }
    if span.partial:
        sent["Content-Range"] = span.content_range
    if head_only:
        require()
        return Response(headers=sent)
    return StreamingResponse(body(span), 206 if span.partial else 200, sent)
