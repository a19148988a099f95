"""Attempts are spans of the trace that the job began, whatever becomes of them."""

from pathlib import Path
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan

from store import tracing
from tests.support.jobs.bench import Bench
from tests.support.jobs.supervision import MakeBench, supervisor
from tests.support.traces import Kept
from tests.support.traces import kept as kept


def submit(bench: Bench) -> str:
    """As a request does, inside its span; returns its `traceparent`."""
    with tracing.current(tracing.begin("POST /v1/jobs", root=True)) as request:
        bench.submit(name="alice's")
    assert request.traceparent is not None
    return request.traceparent


def attempts(spans: Any) -> list[ReadableSpan]:
    return [span for span in spans if span.name == "attempt"]


def outcomes(spans: Any) -> list[tuple[Any, bool]]:
    return [((span.attributes or {})["secateur.outcome"], span.status.is_ok) for span in attempts(spans)]


def traces(spans: Any) -> set[str]:
    return {f"{span.context.trace_id:032x}" for span in spans}


def test_an_attempt_after_a_crash_is_in_the_same_trace(make_bench: MakeBench, tmp_path: Path, kept: Kept) -> None:
    bench = make_bench("crash-once", marker=tmp_path / "marker")
    request = submit(bench)
    assert supervisor(bench).run_until_empty() == 2
    spans = kept.ended()
    assert outcomes(spans) == [("engine_crashed", False), ("succeeded", True)]
    assert traces(spans) == {request.split("-")[1]}
    assert [(span.attributes or {})["secateur.job.attempt"] for span in attempts(spans)] == [1, 2]
    assert len([span for span in spans if span.name == "queued"]) == 1
    committed = [(span.attributes or {})["secateur.step"] for span in spans if span.name == "commit step"]
    assert committed == [0, 1, 2]
    assert "alice" not in "".join(span.to_json() for span in spans)


def test_a_failure_is_named_by_its_code_and_nothing_of_its_text(make_bench: MakeBench, kept: Kept) -> None:
    bench = make_bench("fail", "labels_mismatch")
    submit(bench)
    supervisor(bench).run_one()
    spans = kept.ended()
    assert outcomes(spans) == [("labels_mismatch", False)]
    assert "cannot be done" not in "".join(span.to_json() for span in spans)


def test_a_job_that_nobody_traced_is_a_trace_by_itself(make_bench: MakeBench, kept: Kept) -> None:
    bench = make_bench("finish")
    bench.submit()
    wake = tracing.begin("publish", root=True)
    assert supervisor(bench).run_until_empty(wake.traceparent) == 1
    [attempt] = attempts(kept.ended())
    assert attempt.parent is None
    assert [f"{link.context.span_id:016x}" for link in attempt.links] == [(wake.traceparent or "").split("-")[2]]


def test_what_was_traced_is_run_by_a_worker_that_does_not(make_bench: MakeBench, kept: Kept) -> None:
    bench = make_bench("finish")
    submit(bench)
    kept.ended()
    assert supervisor(bench).run_until_empty() == 1
    assert attempts(kept.ended()) == []
