"""A job is one trace: the request, the queue, the worker's attempt, the engine's phases and its packed steps."""

from pathlib import Path
from typing import Any

import pytest

from service.app import create_app
from store.settings import Settings
from tests.support.jobs.bench import fake_engine
from tests.support.local import local_client
from tests.support.servers.databases import wait_for
from tests.support.servers.processes import job_worker
from tests.support.servers.receiver import receiver
from tests.support.traces import Kept, sent_to
from tests.support.traces import kept as kept

STRANGER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
STEP = ("evaluating", "commit step")
"""As the fake engine says it, and as the worker stores it."""


def test_one_trace_from_the_request_to_the_packed_result(
    stocked: Path, job_body: dict[str, Any], valkey_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service here and a worker as a process of its own, which a message of the broker wakes."""
    settings = Settings(
        data_dir=stocked, broker_url=valkey_url, engine_command=fake_engine("finish"), heartbeat_seconds=30
    )
    log = tmp_path / "worker.log"
    with receiver() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        with local_client(create_app(settings)) as client, job_worker(settings, log) as worker:
            # It has looked for work by itself, and the next time it would is after half a minute.
            wait_for(lambda: worker.ready and " succeeded in " in log.read_text(), what="the worker")
            named = {**job_body, "name": "alice's own", "labels": {"team": "alice"}}
            answer = client.post("/v1/jobs", json=named, headers={"traceparent": STRANGER})
            job = answer.json()["id"]
            wait_for(lambda: client.get(f"/v1/jobs/{job}").json()["state"] == "succeeded", what="the job")
            packed = client.get(f"/v1/jobs/{job}/checkpoints/2/files/pruning.json").json()
            worker.terminate()
            assert worker.process.wait(20) == 0
    spans = sent_to(collector)
    ours = {span.span_id: span for span in spans}
    [request] = [span for span in spans if span.name == "POST /v1/jobs"]
    assert (request.service, request.parent_id, request.links) == ("secateur-api", "", (STRANGER.split("-")[2],))
    assert request.attributes["http.response.status_code"] == 202
    assert {span.trace_id for span in spans} == {request.trace_id} != {STRANGER.split("-")[1]}

    def below(parent: str) -> list[str]:
        children = sorted((span for span in spans if span.parent_id == parent), key=lambda span: span.start)
        return [span.name for span in children]

    assert sorted(below(request.span_id)) == ["attempt", "publish secateur.run_jobs", "queued"]
    [attempt] = [span for span in spans if span.name == "attempt"]
    assert attempt.service == "secateur-worker"
    # The engine's own account of its phases, and the worker's of what stands around them.
    assert below(attempt.span_id) == ["starting", "fetch inputs", *STEP, *STEP, *STEP]
    assert attempt.attributes["secateur.outcome"] == "succeeded"
    assert attempt.attributes["secateur.job.id"] == job
    assert not [span for span in spans if span.failed]
    for span in spans:
        if span.parent_id == attempt.span_id:
            assert attempt.start <= span.start <= span.end <= attempt.end
    # A message led to it, and the engine's process knows what it is a part of.
    [message] = attempt.links
    assert ours[message].name == "publish secateur.run_jobs"
    environment = packed["seen"]["environment"]
    assert environment["TRACEPARENT"].startswith(f"00-{attempt.trace_id}-{attempt.span_id}-")
    assert not [name for name in environment if name.startswith("OTEL_")]
    claimed = [line for line in log.read_text().splitlines() if "claimed, epoch 1" in line]
    assert f"trace_id={request.trace_id}" in claimed[0]
    assert "alice" not in str(spans)


def test_polls_are_no_traces_and_refusals_are(kept: Kept, stocked: Path) -> None:
    with local_client(create_app(Settings(data_dir=stocked, broker_url="redis://127.0.0.1:1/0"))) as client:
        client.get("/v1/jobs")
        client.post("/v1/jobs", json={"name": "alice"})
        client.post("/v1/made-up/by-alice")
        spans = kept.ended()
    assert [span.name for span in spans] == ["POST /v1/jobs", "POST other"]
    assert [(span.attributes or {})["http.response.status_code"] for span in spans] == [422, 404]
    assert "alice" not in "".join(span.to_json() for span in spans)
