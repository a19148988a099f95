"""A rolling restart of everything, as an upgrade does it, under a running job: TERM, wait, start again."""

from benchmarks.faults.drill import Drill
from benchmarks.faults.stack import WORKERS, wait_until

DRAIN_SECONDS = 60.0


def test_a_rolling_restart_of_everything_loses_nothing_and_counts_no_failure(drill: Drill) -> None:
    stack, client = drill.stack, drill.client
    jobs = [drill.submit(), drill.submit()]
    for job_id in jobs:
        wait_until(lambda job_id=job_id: client.job(job_id)["state"] == "running", 60, "a running job")
    # Workers first: later the jobs might have ended.
    for name in (*WORKERS, "api", "maintenance", "beat"):
        before = stack.pid(name)
        assert stack.terminate(name, DRAIN_SECONDS) in (0, -15), f"{name} did not end well"
        wait_until(lambda name=name, before=before: stack.pid(name) not in (-1, before), 30, f"{name}, again")
    wait_until(stack.ready, 60, "the API")
    for job_id in jobs:
        drill.judge(job_id)
        types = [event["body"]["type"] for event in client.events(job_id)]
        assert "warning" not in types, "a planned stop was counted as a failure"
        assert client.job(job_id)["attempts"] >= 2
    assert (drill.outcome.lost, drill.outcome.duplicated, drill.outcome.differing) == ([], [], [])
