"""Creates and sends spans. Imported only if traces are enabled, because OpenTelemetry is an optional extra."""

import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from store.tracing import TRACEPARENT, Kind, Span, Value

SHUTDOWN_SECONDS = 5.0
_W3C = TraceContextTextMapPropagator()


class Traced:
    """A span that is sent when it has ended."""

    def __init__(self, span: trace.Span) -> None:
        self.otel = span

    @property
    def traceparent(self) -> str | None:
        """As `Span`."""
        return _written(self.otel)

    def name(self, name: str) -> None:
        """As `Span`."""
        self.otel.update_name(name)

    def set(self, attributes: Mapping[str, Value]) -> None:
        """As `Span`."""
        self.otel.set_attributes(attributes)

    def failed(self, code: str) -> None:
        """As `Span`."""
        self.otel.set_attribute("error.type", code)
        self.otel.set_status(trace.StatusCode.ERROR, code)

    def end(self) -> None:
        """As `Span`."""
        self.otel.end()


class Provider:
    """Of this process alone, and not the one that libraries find: what they would trace may name users."""

    def __init__(self, exporter: SpanExporter, process: str) -> None:
        # The standard's own variables have the last word.
        named = Resource.create().merge(Resource({"service.name": f"secateur-{process}"}))
        self._sdk = TracerProvider(resource=named.merge(OTELResourceDetector().detect()), shutdown_on_exit=False)
        self._sdk.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._sdk.get_tracer("secateur")

    def shutdown(self) -> None:
        """Send what has ended, as far as a collector takes it soon: by itself the exporter would try for twenty seconds."""
        sending = threading.Thread(target=self._sdk.shutdown, name="last-spans", daemon=True)
        sending.start()
        sending.join(SHUTDOWN_SECONDS)

    def traceparent(self) -> str | None:
        """Of the current span."""
        return _written(trace.get_current_span())

    def begin(
        self,
        name: str,
        attributes: Mapping[str, Value] | None,
        *,
        parent: str | None,
        root: bool,
        link: str | None,
        kind: Kind,
        since: datetime | None,
    ) -> Traced:
        """As `store.tracing.begin`."""
        linked = trace.get_current_span(_read(link)).get_span_context()
        span = self._tracer.start_span(
            name,
            Context() if root else None if parent is None else _read(parent),
            kind=trace.SpanKind[kind.upper()],
            attributes=attributes,
            links=[trace.Link(linked)] if linked.is_valid else [],
            start_time=None if since is None else int(since.timestamp() * 1e9),
        )
        return Traced(span)

    def current(self, span: Span) -> AbstractContextManager[object]:
        """The current one while a block runs, which does not end it."""
        if not isinstance(span, Traced):
            return nullcontext()
        return trace.use_span(span.otel, record_exception=False, set_status_on_exception=False)


def _written(span: trace.Span) -> str | None:
    carrier: dict[str, str] = {}
    _W3C.inject(carrier, trace.set_span_in_context(span, Context()))
    return carrier.get(TRACEPARENT)


def _read(parent: str | None) -> Context:
    """Without a span where `parent` is no `traceparent`."""
    return _W3C.extract({TRACEPARENT: parent} if parent else {}, Context())
