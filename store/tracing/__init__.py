"""OpenTelemetry traces: a job is one trace, from the request that created it to its last packed step (docs/adr/0050-traces.md).

Off unless OTEL_EXPORTER_OTLP_ENDPOINT is set: until then, and without the extra `tracing`, everything here does nothing. Spans
contain ids, words of our own vocabularies and numbers: no names that users give, no error texts, no addresses.
"""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

    from store.tracing.provider import Provider

log = logging.getLogger(__name__)

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
TRACEPARENT = "traceparent"
"""Of W3C Trace Context, `00-{trace}-{span}-{flags}`: a header of HTTP and of Celery's messages."""
ENVIRONMENT = "TRACEPARENT"
"""The same for a child process."""

Kind = Literal["internal", "server", "producer", "consumer"]
Value = str | int | float | bool

_provider: "Provider | None" = None


class Span(Protocol):
    """A piece of work."""

    @property
    def traceparent(self) -> str | None:
        """For what is done elsewhere as a part of this; None where nothing is traced."""

    def name(self, name: str) -> None:
        """What it turned out to be."""

    def set(self, attributes: Mapping[str, Value]) -> None:
        """More of what is said about it."""

    def failed(self, code: str) -> None:
        """It ended as it should not; `code` is a word of ours, never a text."""

    def end(self) -> None:
        """Once."""


class Untraced:
    """The span of a process that does not trace."""

    traceparent: str | None = None

    def name(self, name: str) -> None:
        """Nothing."""

    def set(self, attributes: Mapping[str, Value]) -> None:
        """Nothing."""

    def failed(self, code: str) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""


UNTRACED: Span = Untraced()


def wanted(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the standard variables ask for traces."""
    return (
        any(environment.get(name) for name in ENDPOINTS)
        and environment.get("OTEL_SDK_DISABLED", "").lower() != "true"
        and environment.get("OTEL_TRACES_EXPORTER", "otlp") == "otlp"
    )


def start(process: str) -> None:
    """Trace in this process, which OTEL_SERVICE_NAME names, or else `secateur-{process}`; nothing where no traces are wanted."""
    if not wanted():
        return
    protocol = next((os.environ[name] for name in PROTOCOLS if os.environ.get(name)), "http/protobuf")
    if protocol != "http/protobuf":
        log.warning(
            "no traces are sent: only http/protobuf (port 4318) is supported, but the protocol is set to %s", protocol
        )
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError:
        log.warning("no traces are sent: OTEL_EXPORTER_OTLP_ENDPOINT is set, and secateur[tracing] is not installed")
        return
    start_with(OTLPSpanExporter(), process)


def start_with(exporter: "SpanExporter", process: str) -> None:
    """As `start`, to an exporter of one's own. What it does not take in time is dropped: no work waits for it."""
    global _provider
    from store.tracing.provider import Provider

    _provider = Provider(exporter, process)


def stop() -> None:
    """Send what has ended, and trace no more."""
    global _provider
    provider, _provider = _provider, None
    if provider is not None:
        provider.shutdown()


def traceparent() -> str | None:
    """Of the span that is current; None where there is none."""
    return None if _provider is None else _provider.traceparent()


def log_fields() -> dict[str, str]:
    """What a line of log says of the current span: its `trace_id`, 32 hexadecimal digits; nothing where there is none."""
    here = traceparent()
    return {"trace_id": here.split("-")[1]} if here else {}


def begin(
    name: str,
    attributes: Mapping[str, Value] | None = None,
    *,
    parent: str | None = None,
    root: bool = False,
    link: str | None = None,
    kind: Kind = "internal",
    since: datetime | None = None,
) -> Span:
    """A span that the caller ends. It is a part of `parent`, by default of the span that is current; `root` begins a trace.

    `link`: a related `traceparent`; it may come from a caller, and is left out if it is invalid. `since`: when it
    began.
    """
    if _provider is None:
        return UNTRACED
    return _provider.begin(name, attributes, parent=parent, root=root, link=link, kind=kind, since=since)


@contextmanager
def current(span: Span) -> Iterator[Span]:
    """It is the current span while the block runs, and ends with it; an exception that leaves the block is named by its type."""
    if _provider is None:
        yield span
        return
    with _provider.current(span):
        try:
            yield span
        except BaseException as error:
            span.failed(type(error).__name__)
            raise
        finally:
            span.end()
