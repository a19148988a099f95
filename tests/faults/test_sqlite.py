"""Over SQLite: the engine killed inside a recovery, then its worker, and nothing is different."""

from pathlib import Path

from benchmarks.faults.drill import Drill
from benchmarks.faults.faults import kill_engine, kill_worker
from benchmarks.faults.stack import running_stack, wait_until
from tests.faults.conftest import drill_on


def test_a_job_whose_engine_and_worker_are_killed_ends_as_if_nothing_had_been(drill: Drill, tmp_path: Path) -> None:
    with running_stack(tmp_path / "rig", "sqlite") as stack:
        here = drill_on(stack, like=drill)
        client = here.client
        job_id = here.submit()

        def saved() -> int:
            return sum(event["body"]["type"] == "training" for event in client.events(job_id))

        wait_until(lambda: saved() >= 1, 120, "a saved recovery")
        assert kill_engine(stack)
        wait_until(lambda: len(client.job(job_id)["metrics"]) >= 2, 120, "the first step")
        assert kill_worker(stack)
        here.judge(job_id)
        job = client.job(job_id)
        log = client.call("GET", f"/jobs/{job_id}/logs", params={"attempt": 2})
    outcome = here.outcome
    assert (outcome.lost, outcome.duplicated, outcome.differing) == ([], [], [])
    assert job["attempts"] >= 3, "neither kill cost an attempt"
    assert job["ran_seconds"] > 1
    assert "continues after epoch" in log.text, "the second attempt did not use the saved recovery"
