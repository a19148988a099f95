"""Durations as people write them, and the schema that says which are accepted."""

import re
from typing import Any

import jsonschema
import pytest
from pydantic import TypeAdapter, ValidationError

from api_schemas.spec.job import JobRequest
from api_schemas.spec.job_limits import LONGEST, Duration, JobLimits
from tests.support.jobs.records import job_request

DURATION: TypeAdapter[int] = TypeAdapter(Duration)

ACCEPTED: dict[Any, int] = {
    90: 90,
    1: 1,
    LONGEST: LONGEST,
    "90s": 90,
    "45m": 2700,
    "6h": 21_600,
    "1d12h": 129_600,
    "1d1h1m1s": 90_061,
    "366d": LONGEST,
    "0d5s": 5,
    "90m": 5400,
    "007s": 7,
}
REFUSED: list[Any] = [
    *(0, -1, LONGEST + 1, 10**30, 1.5, True, None, [], {}, float("nan"), float("inf")),
    *("", " ", "h", "90", "-90s", "+90s", "6 h", " 6h", "6h ", "6h\n", "1.5h", "1,5h", "1e3s", "0s", "0d0h"),
    *("12h1d", "1h1h", "6H", "6hours", "PT6H", "367d", "99999d", "999999999s", "1" * 5000 + "s", "٣h", "1w"),
]


@pytest.mark.parametrize(("written", "seconds"), ACCEPTED.items())
def test_a_duration_is_seconds_whichever_way_it_is_written(written: Any, seconds: int) -> None:
    assert DURATION.validate_python(written) == seconds
    limits = JobLimits.model_validate({"max_runtime": written})
    assert limits.model_dump(exclude_none=True) == {"max_runtime": seconds}
    assert JobLimits.model_validate_json(limits.model_dump_json()) == limits


@pytest.mark.parametrize("written", REFUSED, ids=lambda value: repr(value)[:20])
def test_what_is_no_duration_is_refused(written: Any) -> None:
    with pytest.raises(ValidationError):
        DURATION.validate_python(written)


def test_a_refusal_says_how_durations_are_written() -> None:
    with pytest.raises(ValidationError, match=re.escape("90s, 45m, 6h or 1d12h")):
        DURATION.validate_python("six hours")


def test_a_job_has_no_limit_unless_it_asks_for_one() -> None:
    assert job_request().limits.max_runtime is None
    assert job_request(limits={"max_runtime": "6h"}).limits.max_runtime == 21_600
    with pytest.raises(ValidationError):
        job_request(limits={"max_runtimes": 1})


@pytest.mark.parametrize("written", ACCEPTED)
def test_the_schema_accepts_what_the_code_accepts(written: Any) -> None:
    jsonschema.validate({"max_runtime": written}, JobLimits.model_json_schema())


@pytest.mark.parametrize("written", [0, -1, LONGEST + 1, 1.5, "", " ", "h", "90", "6 h", "1.5h", "12h1d", "6H", []])
def test_the_schema_refuses_what_the_code_refuses(written: Any) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"max_runtime": written}, JobLimits.model_json_schema())


def test_the_schema_of_a_request_takes_both_ways_of_writing() -> None:
    schema = JobRequest.model_json_schema()
    body = job_request().model_dump(mode="json", exclude_defaults=True)
    for limit in (90, "6h", None):
        jsonschema.validate(body | {"limits": {"max_runtime": limit}}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(body | {"limits": {"max_runtime": "6 h"}}, schema)
