"""A worker that stands still beyond its lease and then goes on: what it still writes is refused, and its engine ends."""

from itertools import product

import pytest

from benchmarks.faults.drill import Drill
from benchmarks.faults.faults import Fault, freeze_supervisor, freeze_worker
from benchmarks.faults.stack import wait_until
from tests.support.gate import WHOLE

# Either fault and every phase at least once; each fault in each phase with TEST_WHOLE=1.
GATE = ((freeze_worker, "scoring"), (freeze_supervisor, "finetuning"), (freeze_worker, "packaging"))
ALL = tuple(product((freeze_worker, freeze_supervisor), ("scoring", "finetuning", "packaging")))


@pytest.mark.parametrize(("fault", "phase"), ALL if WHOLE else GATE)
def test_a_frozen_worker_that_thaws_harms_nothing(drill: Drill, fault: Fault, phase: str) -> None:
    client = drill.client
    job_id = drill.submit()

    def phases() -> list[str]:
        return [event["body"]["phase"] for event in client.events(job_id) if event["body"]["type"] == "phase"]

    wait_until(lambda: phases()[-1:] == [phase], 90, phase)
    fault(drill.stack)
    wait_until(lambda: client.job(job_id)["attempts"] > 1, 30, "another claim")
    drill.judge(job_id)
    outcome = drill.outcome
    assert (outcome.lost, outcome.duplicated, outcome.differing) == ([], [], [])
    wait_until(lambda: len(drill.stack.engines()) == 0, 10, "the end of every engine")
