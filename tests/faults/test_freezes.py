"""What stands still beyond a lease and then goes on: a worker, whose writes are refused and whose engine ends; the database."""

from itertools import product
from pathlib import Path

import pytest

from benchmarks.faults.drill import Drill
from benchmarks.faults.faults import Fault, freeze_database, freeze_supervisor, freeze_worker
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
    wait_until(lambda: client.job(job_id)["attempts"] > 1, 120, "another claim")
    drill.judge(job_id)
    outcome = drill.outcome
    assert (outcome.lost, outcome.duplicated, outcome.differing) == ([], [], [])
    wait_until(lambda: len(drill.stack.engines()) == 0, 60, "the end of every engine")


def test_after_a_database_that_stood_still_every_job_goes_on(drill: Drill) -> None:
    """Two workers lose their jobs at once."""
    client, stack = drill.client, drill.stack
    jobs = [drill.submit() for _ in range(2)]
    wait_until(lambda: sum(client.job(job_id)["state"] == "running" for job_id in jobs) == 2, 90, "two jobs that run")
    freeze_database(stack)

    def held_by_nobody() -> list[str]:
        """Whether a worker works on a job is seen by its engine."""
        running = [job_id for job_id in jobs if client.job(job_id)["state"] == "running"]
        worked_on = {Path(engine.cwd()).name for engine in stack.engines()}
        return [job_id for job_id in running if job_id not in worked_on]

    wait_until(lambda: not held_by_nobody(), stack.settings.lease_seconds + 10, "an engine for each job that runs")
    for job_id in jobs:
        drill.judge(job_id)
    assert (drill.outcome.lost, drill.outcome.duplicated, drill.outcome.differing) == ([], [], [])
