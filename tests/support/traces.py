"""Spans as a test sees them: kept in this process, or sent as OTLP to a receiver on loopback."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from store import tracing
from tests.support.servers.receiver import Receiver


@dataclass(frozen=True)
class Sent:
    """A span as it was sent; identifiers as in a `traceparent`."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    attributes: dict[str, Any]
    failed: bool
    links: tuple[str, ...]
    """Of the spans."""
    start: int
    end: int


def sent_to(collector: Receiver) -> list[Sent]:
    """What came to it, in the order in which it came."""
    found = []
    for each in collector.received:
        assert (each.method, each.path) == ("POST", "/v1/traces")
        for of_resource in ExportTraceServiceRequest.FromString(each.body).resource_spans:
            service = _plain(of_resource.resource.attributes)["service.name"]
            for span in (span for scope in of_resource.scope_spans for span in scope.spans):
                ids = (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex())
                links = tuple(link.span_id.hex() for link in span.links)
                times = (span.start_time_unix_nano, span.end_time_unix_nano)
                found.append(
                    Sent(service, span.name, *ids, _plain(span.attributes), span.status.code == 2, links, *times)
                )
    return found


class Kept:
    """Spans of this process."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        tracing.start_with(self._exporter, "test")

    def ended(self) -> Sequence[ReadableSpan]:
        """All of them, the first to end first; nothing is traced any more."""
        tracing.stop()
        return self._exporter.get_finished_spans()


@pytest.fixture
def kept() -> Iterator[Kept]:
    """This process traces until the test asks what there was."""
    yield Kept()
    tracing.stop()


def _plain(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}
