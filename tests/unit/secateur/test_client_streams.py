"""Events where streams are refused, spoilt or cut; and the parser of streams."""

import json
from collections.abc import Sequence
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur import errors
from secateur.client import event_stream
from secateur.client.transport.server_sent_events import LONGEST, Parser, TooLongError
from tests.support.jobs.records import job_request
from tests.unit.secateur.conftest import Connect

ID = "job_" + "a" * 26
STREAM = {"content-type": "text/event-stream"}


def event(seq: int, state: str = "running") -> dict[str, Any]:
    return {"seq": seq, "created_at": "2026-01-01T00:00:00Z", "body": {"type": "state", "state": state}}


def sent(events: Sequence[dict[str, Any]]) -> bytes:
    return b"retry: 2000\n\n" + b"".join(b"data: %s\nid: 1\n\n" % json.dumps(each).encode() for each in events)


def job(state: str = "running", **more: Any) -> httpx.Response:
    body = {"id": ID, "name": None, "state": state, "created_at": "2026-01-01T00:00:00Z", "attempts": 1, "metrics": []}
    body |= dict.fromkeys(("started_at", "finished_at", "progress", "data", "result", "error"))
    return httpx.Response(200, json=body | {"request": job_request().model_dump(mode="json")} | more)


class Service:
    """One job with three events, the last of which ends it. `streams` are the answers to those who ask for a stream."""

    def __init__(self, *streams: httpx.Response | Exception) -> None:
        self._streams = list(streams)
        self.after: list[int] = []
        self.polled = 0
        self.events = [event(1), event(2), event(3, "succeeded")]

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if not request.url.path.endswith("/events"):
            return job("succeeded")
        if request.headers["accept"] != "text/event-stream":
            return self._page(request)
        self.after.append(int(request.headers["last-event-id"]))
        answer = self._streams.pop(0) if self._streams else httpx.Response(204)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _page(self, request: httpx.Request) -> httpx.Response:
        """An event a poll, so that each is asked for by itself."""
        self.polled += 1
        after = int(request.url.params["after"])
        found = [self.events[after]] if after < 3 else []
        headers = {"retry-after": "2", "etag": f'"{after}"'} if after < 3 else {"etag": '"end"'}
        return httpx.Response(200, json={"items": found, "next_cursor": None}, headers=headers)


@pytest.mark.parametrize(
    "refusal",
    [
        httpx.Response(429, json={"code": "too_many_streams", "detail": "Close one."}),
        httpx.Response(200, json={"items": [], "next_cursor": None}),
        httpx.Response(200, headers=STREAM, content=b"data: not an event\n\n"),
    ],
)
def test_without_a_stream_events_are_polled_for(connect: Connect, refusal: httpx.Response) -> None:
    service = Service(refusal)
    found = connect(service).job(ID).events()
    assert [each.seq for each in found] == [1, 2, 3]
    assert service.polled == 4
    assert connect.naps == [2.0, 2.0, 2.0]


def test_a_stream_that_ends_is_gone_on_with(connect: Connect) -> None:
    first = httpx.Response(200, headers=STREAM, content=sent([event(1), event(2)]) + b"data: {half")
    # What a proxy repeats comes once.
    second = httpx.Response(200, headers=STREAM, content=sent([event(2), event(3, "succeeded")]))
    service = Service(httpx.ConnectError("refused"), first, httpx.Response(502, text="bad gateway"), second)
    client = connect(service)
    assert [each.seq for each in client.job(ID).events()] == [1, 2, 3]
    assert service.after == [0, 0, 2, 2, 3]
    assert client.job(ID).wait().state == "succeeded"


def test_an_event_of_a_later_version_is_passed_over(connect: Connect) -> None:
    unknown = event(3) | {"body": {"type": "of_a_later_version"}}
    for answer in (
        httpx.Response(200, headers=STREAM, content=sent([event(1), event(2), unknown])),
        httpx.Response(429, json={"code": "too_many_streams", "detail": "Close one."}),
    ):
        service = Service(answer)
        service.events[2] = unknown
        assert [each.seq for each in connect(service).job(ID).events()] == [1, 2]
        assert service.after in ([0, 3], [0])


def test_a_stream_is_given_up_after_some_minutes_without_the_service(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_stream, "PATIENCE", -1.0)
    service = Service(httpx.ConnectError("refused"))
    with pytest.raises(errors.ConnectionFailed, match="refused"):
        list(connect(service).job(ID).events())


def test_progress_is_told_when_it_changes(connect: Connect) -> None:
    at = {"phase": "finetuning", "step": 1, "steps": 2, "done": 5, "total": 10, "fraction": 0.25, "eta_seconds": 60}
    views = [job(progress=at), job(progress=at), job("succeeded", progress=at | {"fraction": 1.0})]
    service = Service(httpx.Response(200, headers=STREAM, content=sent([event(1), event(2, "succeeded")])))

    def answers(request: httpx.Request) -> httpx.Response:
        return service(request) if request.url.path.endswith("/events") else views.pop(0)

    told: list[Any] = []
    connect(answers).job(ID).wait(progress=told.append)
    assert [(each.phase, each.fraction, each.unit) for each in told][-2:] == [
        ("finetuning", 1.0, "%"),
        ("succeeded", 1.0, "%"),
    ]


LINES = st.lists(
    st.sampled_from(["data: a", "data:b", ": comment", "", "id: 3", "data", "event: x", "data:  c"]), max_size=12
)


@given(LINES, st.sampled_from(["\n", "\r\n", "\r"]), st.lists(st.integers(1, 7), min_size=1))
def test_a_stream_is_the_same_in_whatever_pieces_it_comes(lines: list[str], end: str, sizes: list[int]) -> None:
    # A line of text after it, so that a CR at the very end is not left waiting for what may follow.
    data = "".join(line + end for line in [*lines, ": end"]).encode() + b": more"
    whole = list(Parser().feed(data))
    parser, pieces, at = Parser(), [], 0
    while at < len(data):
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(data[at : at + size])
        at += size
    assert [found for piece in pieces for found in parser.feed(piece)] == whole
    expected, held = [], []
    for line in lines:
        if not line:
            expected += ["\n".join(held)] if held else []
            held = []
        elif line.partition(":")[0] == "data":
            held.append(line.partition(":")[2].removeprefix(" "))
    assert whole == expected


def test_a_stream_without_ends_of_lines_is_none() -> None:
    with pytest.raises(TooLongError):
        list(Parser().feed(b"x" * (LONGEST + 1)))
