"""KILL at random moments: no accepted job is lost, no step is made twice, and what comes out is what would have."""

import os

from benchmarks.faults.__main__ import WEIGHTS
from benchmarks.faults.drill import Drill
from tests.support.gate import number

KILLS = number("TEST_KILLS", gate=10, whole=30)


def test_kills_all_over_the_stack_change_nothing(drill: Drill) -> None:
    outcome = drill.run(KILLS, seed=int(os.environ.get("TEST_SEED", "1")), kinds=WEIGHTS, say=print)
    print(outcome.as_json())
    assert sum(outcome.kills.values()) == KILLS
    assert len(WEIGHTS) > KILLS or set(outcome.kills) == set(WEIGHTS), "a kind of fault was left out"
    assert (outcome.lost, outcome.duplicated, outcome.differing, outcome.strays) == ([], [], [], 0)
    assert outcome.resumed_after, "no kill hit a job that ran: this test has shown nothing"
