"""A job of higher priority takes the worker of one that runs: what both make is what they would have made undisturbed."""

from benchmarks.faults.drill import Drill
from benchmarks.faults.stack import WORKERS, wait_until


def test_a_job_that_hands_its_worker_over_goes_on_later_as_if_it_had_not(drill: Drill) -> None:
    client = drill.client
    low = [drill.submit(priority=-1) for _ in WORKERS]
    for job_id in low:
        wait_until(lambda job_id=job_id: client.job(job_id)["progress"], 60, "a job under way")
    high = drill.submit(priority=1)
    drill.judge(high)
    ended = {job_id: client.job(job_id)["state"] for job_id in low}
    for job_id in low:
        drill.judge(job_id)
    assert (drill.outcome.lost, drill.outcome.duplicated, drill.outcome.differing) == ([], [], [])
    [asked] = [job_id for job_id in low if client.job(job_id)["preemptions"]]
    assert (client.job(asked)["preemptions"], client.job(asked)["attempts"]) == (1, 2)
    assert ended[asked] != "succeeded", "it ended before the one that it made way for"
    assert client.job(high)["attempts"] == 1
    assert "warning" not in [event["body"]["type"] for event in client.events(asked)]
