"""Over SQLite: the engine killed inside a recovery, then its worker, and nothing is different."""

from pathlib import Path

from benchmarks.faults.drill import Drill
from benchmarks.faults.faults import kill_engine, kill_worker
from benchmarks.faults.stack import running_stack, wait_until
from tests.support.checkpoints.tiny import tiny_data, tiny_model


def test_a_job_whose_engine_and_worker_are_killed_ends_as_if_nothing_had_been(tmp_path: Path) -> None:
    with running_stack(tmp_path / "rig", "sqlite") as stack:
        drill = Drill(stack, tiny_model(), tiny_data())
        drill.reference()
        client = drill.client
        job_id = drill.submit()

        def saved() -> int:
            return sum(event["body"]["type"] == "training" for event in client.events(job_id))

        wait_until(lambda: saved() >= 1, 120, "a saved recovery")
        assert kill_engine(stack)
        wait_until(lambda: len(client.job(job_id)["metrics"]) >= 3, 120, "the second step")
        assert kill_worker(stack)
        drill.judge(job_id)
        job = client.job(job_id)
        log = client.call("GET", f"/jobs/{job_id}/logs", params={"attempt": 2})
    outcome = drill.outcome
    assert (outcome.lost, outcome.duplicated, outcome.differing) == ([], [], [])
    assert job["attempts"] >= 3, "neither kill cost an attempt"
    assert job["ran_seconds"] > 1
    assert "goes on" in log.text, "the second attempt did not use the saved recovery"
