"""When a request is sent again, after how long, and when not."""

import json
from typing import Any

import httpx
import pytest

from secateur import errors
from tests.unit.secateur.conftest import Connect

KEY = {"id": "key_1", "prefix": "sk_1", "name": None, "scopes": ["jobs:read"], "created_at": "2026-01-01T00:00:00Z"}
KEY |= {"expires_at": None, "revoked_at": None, "last_used_at": None, "token": "sk_1_2"}


class Service:
    """Gives these answers one by one: a response, or an exception to raise. Remembers what it was asked."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self._answers = list(answers)
        self.asked: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def problem(status: int, code: str, **headers: str) -> httpx.Response:
    body = {"title": "Title", "status": status, "code": code, "detail": "What was wrong.", "request_id": "req-1"}
    return httpx.Response(status, json=body, headers={name.replace("_", "-"): value for name, value in headers.items()})


def estimate() -> httpx.Response:
    empty = {"seconds": None, "host_memory_bytes": None, "device_memory_bytes": None, "device": None, "reason": None}
    return httpx.Response(200, json={"steps": [], "jobs_observed": 0, **empty})


def test_what_may_pass_is_tried_again_after_the_time_the_service_says(connect: Connect) -> None:
    broken = httpx.ReadError("reset by peer")
    service = Service(problem(503, "unavailable", retry_after="7"), problem(429, "rate_limited"), broken, estimate())
    connect(service).estimate("mdl_" + "a" * 26, "dst_" + "a" * 26, sparsity=0.5)
    assert len(service.asked) == 4
    first, second, third = connect.naps
    assert 7 <= first <= 7.25
    assert 0.5 <= second <= 1.0
    assert 1.0 <= third <= 2.0


def test_every_try_has_the_same_idempotency_key_and_every_call_its_own(connect: Connect) -> None:
    answers = [
        problem(504, "http_504"),
        httpx.ReadTimeout("late"),
        problem(409, "idempotency_in_progress"),
        problem(422, "x"),
    ]
    service = Service(*answers, problem(422, "x"))
    client = connect(service)
    for _ in range(2):
        with pytest.raises(errors.InvalidRequest):
            client.submit("mdl_" + "a" * 26, "dst_" + "a" * 26, sparsity=0.5)
    *first, second = [request.headers["idempotency-key"] for request in service.asked]
    assert len(set(first)) == 1
    assert second != first[0]


def test_the_last_try_raises_what_it_was_told(connect: Connect) -> None:
    service = Service(*(problem(503, "storage_unavailable") for _ in range(3)))
    with pytest.raises(errors.Unavailable) as caught:
        connect(service, max_retries=2).limits()
    assert (caught.value.code, caught.value.status, caught.value.request_id) == ("storage_unavailable", 503, "req-1")
    assert len(service.asked) == 3


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (problem(429, "quota_exceeded", retry_after="5"), errors.QuotaExceeded),
        (problem(429, "rate_limited", retry_after="3600"), errors.RateLimited),
        (problem(500, "internal_error"), errors.Unavailable),
        (problem(401, "unauthenticated"), errors.Unauthorized),
        (problem(403, "forbidden"), errors.Forbidden),
        (problem(421, "host_refused"), errors.Forbidden),
        (problem(404, "not_found"), errors.NotFound),
        (problem(410, "expired"), errors.NotFound),
        (problem(409, "conflict"), errors.Conflict),
        (problem(422, "code_of_a_later_version"), errors.InvalidRequest),
        (httpx.UnsupportedProtocol("no such protocol"), errors.ConnectionFailed),
    ],
)
def test_what_trying_again_does_not_help_is_raised_at_once(
    connect: Connect, answer: Any, kind: type[errors.SecateurError]
) -> None:
    service = Service(answer)
    with pytest.raises(kind) as caught:
        connect(service).limits()
    assert type(caught.value) is kind
    assert connect.naps == []


def test_what_would_be_made_twice_is_repeated_only_where_it_was_not_heard(connect: Connect) -> None:
    heard = Service(httpx.ReadError("reset by peer"))
    with pytest.raises(errors.ConnectionFailed):
        connect(heard).keys.create(["jobs:read"])
    unheard = Service(httpx.ConnectError("refused"), problem(429, "rate_limited"), httpx.Response(201, json=KEY))
    assert connect(unheard).keys.create(["jobs:read"]).token == "sk_1_2"
    assert json.loads(unheard.asked[0].content)["scopes"] == ["jobs:read"]


def test_the_key_goes_to_the_service_and_nowhere_else(connect: Connect) -> None:
    service = Service(httpx.Response(302, headers={"location": "https://elsewhere.example/v1/limits"}))
    with pytest.raises(errors.UnexpectedAnswer, match=r"elsewhere\.example"):
        connect(service, api_key="sk_secret").limits()
    [request] = service.asked
    assert request.headers["authorization"] == "Bearer sk_secret"
    assert "sk_secret" not in repr(connect(service, api_key="sk_secret"))


@pytest.mark.parametrize("answer", [httpx.Response(200, text="<html>"), httpx.Response(200, json={"a": 1})])
def test_another_program_at_the_address_is_noticed(connect: Connect, answer: httpx.Response) -> None:
    with pytest.raises(errors.UnexpectedAnswer, match="Check the URL"):
        connect(Service(answer)).limits()


def test_a_proxys_page_is_shown_as_a_line(connect: Connect) -> None:
    page = httpx.Response(413, text="<html>\n<h1>413   Request Entity Too Large</h1>")
    with pytest.raises(errors.InvalidRequest, match="<h1>413 Request Entity Too Large</h1>") as caught:
        connect(Service(page)).limits()
    assert caught.value.code == "http_413"


def test_identifiers_stay_inside_their_segment(connect: Connect) -> None:
    service = Service(problem(404, "not_found"))
    with pytest.raises(errors.NotFound):
        connect(service).job("../models/x?y#z")
    assert service.asked[0].url.raw_path == b"/v1/jobs/..%2Fmodels%2Fx%3Fy%23z"
    with pytest.raises(errors.InvalidRequest):
        connect(service).job("..")


def test_every_try_again_is_logged(connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    service = Service(httpx.ConnectError("[Errno 111] Connection refused"), problem(503, "unavailable"), estimate())
    connect(service).estimate("mdl_" + "a" * 26, "dst_" + "a" * 26, sparsity=0.5)
    first, second = [record.getMessage() for record in caplog.records if record.name == "secateur"]
    assert first.startswith("Nothing answers at ")
    assert "(Connection refused). Trying again in 0." in first
    assert second.startswith("What was wrong. Trying again in ")
    assert second.endswith("s (2 of 5).")


def test_a_first_contact_may_be_given_up_sooner(connect: Connect) -> None:
    refused = httpx.ConnectError("refused")
    nobody = Service(*[refused] * 9)
    with pytest.raises(errors.ConnectionFailed):
        connect(nobody, max_retries=5, first_contact_retries=1).limits()
    assert len(nobody.asked) == 2
    later = Service(problem(404, "not_found"), *[refused] * 4)
    client = connect(later, max_retries=3, first_contact_retries=1)
    for kind in (errors.NotFound, errors.ConnectionFailed):
        with pytest.raises(kind):
            client.job("job_1")
    assert len(later.asked) == 5


def test_what_was_probably_meant_is_said(connect: Connect) -> None:
    model, data = "mdl_" + "a" * 26, "dst_" + "a" * 26
    with pytest.raises(errors.InvalidRequest, match="did you mean `sparsity`"):
        connect(Service()).submit(model, data, sparsty=0.5)
    item = {"pointer": "/pruning/granularty", "code": "invalid_request", "detail": "there is no such field"}
    refusal = {
        "title": "T",
        "status": 422,
        "code": "invalid_request",
        "detail": "/pruning/granularty: there is no such field.",
    }
    service = Service(httpx.Response(422, json=refusal | {"errors": [item]}))
    with pytest.raises(errors.InvalidRequest, match=r"no such field; did you mean pruning\.granularity\?") as caught:
        connect(service).submit(model, data, pruning={"granularty": "ragged", "target": {"flops": 0.5}})
    assert caught.value.pointers == ("/pruning/granularty",)


def test_user_and_password_of_the_url_go_to_the_service_and_nowhere_else(
    connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    answers = [httpx.ConnectError("refused"), httpx.Response(404, text="who?"), httpx.Response(200, json={"odd": 1})]
    service = Service(*answers, httpx.ReadTimeout("late"))
    client = connect(service, "http://ann:hunter%402@service/base/", max_retries=1)
    said = [repr(client)]
    for _ in range(3):
        with pytest.raises(errors.SecateurError) as caught:
            client.limits()
        said += [str(caught.value), repr(caught.value)]
        client = connect(service, "http://ann:hunter%402@service/base", max_retries=0)
    assert [request.headers["authorization"] for request in service.asked] == ["Basic YW5uOmh1bnRlckAy"] * 4
    assert {str(request.url) for request in service.asked} == {"http://service/base/v1/limits"}
    with pytest.raises(errors.InvalidRequest) as odd:
        connect(service, "htp://ann:hunter/2@service")
    with pytest.raises(errors.InvalidRequest) as ported:
        connect(service, "http://ann:hunter/2@service")
    said += [client.url, str(odd.value), str(ported.value)]
    assert not [text for text in (*said, caplog.text) if "hunter" in text]
