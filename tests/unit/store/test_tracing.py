"""Traces are off until they are asked for, go where the standard variables say, and tell nothing that a user wrote."""

import subprocess
import sys
import threading
from collections.abc import Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from store import tracing
from tests.support.servers.receiver import receiver
from tests.support.traces import Kept, sent_to
from tests.support.traces import kept as kept

STRANGER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_SDK_DISABLED": "true"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_TRACES_EXPORTER": "none"}, False),
    ],
)
def test_an_endpoint_asks_for_them(environment: dict[str, str], wanted: bool) -> None:
    assert tracing.wanted(environment) is wanted


def test_until_then_nothing_is_traced_and_no_library_imported() -> None:
    code = """
import sys
from store import tracing
tracing.start("api")
with tracing.current(tracing.begin("work", root=True)) as span:
    assert span.traceparent is tracing.traceparent() is None
    assert tracing.log_fields() == {}
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("named", [None, "mine"])
def test_they_are_sent_as_the_standard_variables_say(monkeypatch: pytest.MonkeyPatch, named: str | None) -> None:
    with receiver() as found:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", found.url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-scope=ours")
        if named:
            monkeypatch.setenv("OTEL_SERVICE_NAME", named)
        tracing.start("api")
        with tracing.current(tracing.begin("outer", root=True)) as outer:
            tracing.begin("inner", {"secateur.step": 1}).end()
            assert tracing.traceparent() == outer.traceparent
        tracing.stop()
    inner, outer_seen = sent_to(found)
    assert (inner.name, inner.parent_id, inner.trace_id) == ("inner", outer_seen.span_id, outer_seen.trace_id)
    assert inner.attributes == {"secateur.step": 1}
    assert {inner.service, outer_seen.service} == {named or "secateur-api"}
    assert found.received[0].headers["x-scope"] == "ours"


def test_what_cannot_be_sent_is_said_and_stops_nobody(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    tracing.start("api")
    assert "http/protobuf" in caplog.text
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_PROTOCOL")
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    tracing.start("api")
    assert "secateur[tracing] is not installed" in caplog.text
    assert tracing.begin("work", root=True) is tracing.UNTRACED


def test_a_collector_that_does_not_answer_holds_up_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, answer, given_up = threading.Event(), threading.Event(), threading.Event()

    class Stuck(SpanExporter):
        def export(self, _: Sequence[ReadableSpan]) -> SpanExportResult:
            asked.set()
            answer.wait(10)
            given_up.set()
            return SpanExportResult.SUCCESS

    monkeypatch.setattr("store.tracing.provider.SHUTDOWN_SECONDS", 0.1)
    tracing.start_with(Stuck(), "test")
    tracing.begin("work", root=True).end()
    tracing.stop()
    assert asked.wait(20)
    assert not given_up.is_set()
    answer.set()


def test_an_error_is_named_by_its_type_alone(kept: Kept) -> None:
    with pytest.raises(ValueError, match="secret"), tracing.current(tracing.begin("work", root=True)):
        raise ValueError("secret of alice")
    [span] = kept.ended()
    assert span.attributes == {"error.type": "ValueError"}
    assert "secret" not in span.to_json()
    assert not span.status.is_ok


@pytest.mark.parametrize(
    ("given", "linked"), [(STRANGER, True), ("00-zz-1-01", False), ("x" * 10_000, False), ("", False), (None, False)]
)
def test_a_strangers_trace_is_linked_and_not_joined(kept: Kept, given: str | None, linked: bool) -> None:
    tracing.begin("request", root=True, link=given).end()
    [span] = kept.ended()
    assert [f"{link.context.trace_id:032x}" for link in span.links] == ([STRANGER.split("-")[1]] if linked else [])
    assert span.parent is None
    assert span.context is not None
    assert f"{span.context.trace_id:032x}" != STRANGER.split("-")[1]
