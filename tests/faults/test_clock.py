"""A worker whose clock jumps: leases are counted in the database's time and in the worker's monotonic one."""

from importlib.util import find_spec
from pathlib import Path

from benchmarks.faults.drill import Drill
from benchmarks.faults.stack import LONG_LEASE, WORKERS, running_stack, wait_until
from tests.support.checkpoints.tiny import tiny_data, tiny_model


def faketime() -> str:
    """The library that answers questions about the time with lies."""
    found = find_spec("libfaketime")
    assert found is not None
    assert found.origin is not None
    return str(Path(found.origin).parent / "vendor" / "libfaketime" / "src" / "libfaketime.so.1")


def test_hours_forward_and_back_in_the_workers_neither_lose_a_lease_nor_change_the_result(tmp_path: Path) -> None:
    clock = tmp_path / "clock"
    clock.write_text("+0")
    lies = {
        "LD_PRELOAD": faketime(),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }
    environments = dict.fromkeys(WORKERS, lies)
    with running_stack(tmp_path / "rig", "postgresql", environments, lease_seconds=LONG_LEASE) as stack:
        drill = Drill(stack, tiny_model(), tiny_data())
        drill.reference()
        client = drill.client
        job_id = drill.submit()
        for offset, step in (("+2h", 1), ("-26h", 2)):
            wait_until(lambda step=step: len(client.job(job_id)["metrics"]) > step, 300, f"step {step}")
            clock.write_text(offset)
        drill.judge(job_id)
        assert client.job(job_id)["attempts"] == 1
        assert (drill.outcome.lost, drill.outcome.duplicated, drill.outcome.differing) == ([], [], [])
        said = [line for name in WORKERS for line in (tmp_path / "rig" / f"{name}.log").read_text().splitlines()]
        days = {line[:10] for line in said if line.startswith("20")}
        assert days != set(), "the workers said nothing"
        assert len(days) > 1, "the clock did not jump"
