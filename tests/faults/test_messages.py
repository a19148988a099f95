"""Messages are wake-ups and no more: one too many, one too few, or no broker at all, and the jobs run once."""

import time

from benchmarks.faults.drill import Drill
from store.queue import broker


def clean(drill: Drill) -> bool:
    outcome = drill.outcome
    return (outcome.lost, outcome.duplicated, outcome.differing) == ([], [], [])


def test_twenty_wake_ups_too_many_run_nothing_twice(drill: Drill) -> None:
    job_id = drill.submit()
    for _ in range(20):
        broker.publish_wake(drill.stack.settings)
    drill.judge(job_id)
    assert clean(drill)
    states = [event["body"].get("state") for event in drill.client.events(job_id)]
    assert states.count("running") == states.count("queued"), "a worker took a job that another had"


def test_without_a_broker_a_job_is_accepted_at_once_and_runs_when_there_is_one_again(drill: Drill) -> None:
    drill.stack.down("valkey")
    try:
        began = time.monotonic()
        job_id = drill.submit()
        assert time.monotonic() - began < 1.0
        time.sleep(3)
        assert drill.client.job(job_id)["state"] in ("queued", "running")
    finally:
        drill.stack.up("valkey")
    drill.judge(job_id)
    assert clean(drill)
