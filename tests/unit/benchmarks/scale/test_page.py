"""The page says what was measured, and what was not."""

from typing import Any

from benchmarks.scale.cost import by_part
from benchmarks.scale.page import page

LOAD = {"p50": 0.0, "p95": 61.4, "utilisation": 0.87, "offered": 0.88, "needed": 57}
RUN = {
    "workers": 1,
    "jobs": 8,
    "succeeded": 8,
    "seconds": 40.0,
    "jobs_a_second": 0.2,
    "job_seconds": 3.4,
    "turns": {"claims": 0, "tenants": 3},
    "cost": by_part({}, 8),
}
TURNS = {"claims": 9, "tenants": 2, "shares": {"anna": 0.5, "bela": 0.5}, "gap": 1}
CUT = {"seconds": 45, "workers": 4, "jobs": 48, "lost": 0, "steps_wrong": 0, "broken": 0, "claimed_again": 2}


def found(**more: Any) -> dict[str, Any]:
    return {
        "hosts": "namespaces",
        "command": "python -m benchmarks.scale",
        "runs": [RUN, {**RUN, "workers": 4, "jobs_a_second": 0.75, "turns": TURNS}],
        "overhead": 0.4,
        "cut": {**CUT, "ended_meanwhile": {"half": 20, "all": 0}},
        "claims": {"waiting": 10_000, "claims": 200, "ms": 9.5, "p95_ms": 12.0, "statements_ms": 3.0},
        "sizing": [{"mean": 480.0, "even": LOAD, "by_day": {**LOAD, "offered": 1.1}}],
        "durations": 16,
        "load_before": 0.5,
        "seconds": 300.0,
        "goals": {"speedup": True, "cost": True, "claim": False, "nothing lost": True},
        **more,
    }


def test_everything_that_was_measured_is_on_it() -> None:
    text = page(found())
    assert "| 4 | 8 | 8 | 40.0 | 0.750 | 3.75 | 3.40 |" in text
    assert "| 4 | 9 | anna 50%, bela 50% | 1 |" in text
    assert "20 jobs ended with half of the links down" in text
    assert "Goal: under 20 ms: missed." in text
    assert "| 480 | 0 | 61 | 87% | 57 | grows | grows | 100% | 57 |" in text
    assert "loopback" not in text
    assert "the machine was busier" not in text


def test_more_than_can_be_is_said_to_be_chance() -> None:
    assert "the machine was busier" in page(found(runs=[RUN, {**RUN, "workers": 4, "jobs_a_second": 0.9}]))


def test_what_could_not_be_measured_is_said() -> None:
    text = page(found(hosts="not root", cut=None, goals=dict.fromkeys(found()["goals"])))
    assert "No namespaces here (not root)" in text
    assert "## Cut links\n\nNot measured in this run." in text
    assert "Goal: the service under 0.3 s: not measured." in text
