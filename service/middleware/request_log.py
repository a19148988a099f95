"""Every request gets an id, a log line and a place in the metrics; one that may change something also gets a trace."""

import re
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import structlog
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.metrics import HttpMetrics
from service.middleware.head import STATE_KEY
from store import tracing
from store.tracing import Span

REQUEST_ID = "X-Request-ID"
_SANE = re.compile(r"[A-Za-z0-9._-]{1,64}")
_READS = frozenset({"GET", "HEAD", "OPTIONS"})
"""Polls, most of what there is, which begin nothing: no traces."""
_log = structlog.get_logger("service.requests")


class RequestLog:
    """ASGI middleware. A sane `X-Request-ID` is taken over, so that the caller's log and ours name a request alike."""

    def __init__(self, app: ASGIApp, application: FastAPI, metrics: HttpMetrics) -> None:
        self.app = app
        self.application = application
        self.metrics = metrics
        self._templates: Mapping[Callable[..., Any], str] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        given = request.headers.get(REQUEST_ID, "")
        request.state.request_id = given if _SANE.fullmatch(given) else uuid.uuid4().hex
        began = time.perf_counter()
        status, received = 500, 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            return message

        async def named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID] = request.state.request_id
            await send(message)

        with tracing.current(_begun(request)) as span:
            about = {"request_id": request.state.request_id, **tracing.log_fields()}
            with structlog.contextvars.bound_contextvars(**about):
                try:
                    await self.app(scope, counted, named)
                finally:
                    self._tell(request, status, time.perf_counter() - began, received, span)

    def _tell(self, request: Request, status: int, seconds: float, received: int, span: Span) -> None:
        route = self._template(request)
        method = "HEAD" if getattr(request.state, STATE_KEY, False) else request.method
        self.metrics.observe(method, route, status, seconds, received)
        span.name(f"{method} {route}")
        span.set({"http.request.method": method, "http.route": route, "http.response.status_code": status})
        if status >= 500:
            span.failed(str(status))
        caller = getattr(request.state, "caller", None)
        _log.info(
            "request",
            method=method,
            path=request.scope["path"],
            route=route,
            status=status,
            milliseconds=round(1000 * seconds, 1),
            received=received,
            client=request.client.host if request.client else None,
            tenant=caller.tenant if caller else None,
            key_id=caller.key_id if caller else None,
        )

    def _template(self, request: Request) -> str:
        """Such as `/v1/jobs/{job_id}`: a label with few values, whatever addresses clients invent."""
        if self._templates is None:
            self._templates = {
                context.endpoint: context.path_format
                for context in iter_route_contexts(self.application.routes)
                if context.endpoint is not None and context.path_format is not None
            }
        return self._templates.get(request.scope.get("endpoint", None), "other")


def _begun(request: Request) -> Span:
    """A new trace, linked to the caller's if there is one. So callers cannot choose what is sampled here, or join
    another's trace.
    """
    if request.method in _READS:
        return tracing.UNTRACED
    return tracing.begin("request", root=True, link=request.headers.get(tracing.TRACEPARENT), kind="server")
