"""A worker whose clock jumps: leases are counted in the database's time and in the worker's monotonic one."""

from importlib.util import find_spec
from pathlib import Path

from benchmarks.faults.drill import Drill
from benchmarks.faults.stack import LONG_LEASE, WORKERS, running_stack, wait_until
from tests.faults.conftest import drill_on


def faketime() -> str:
    """The library that answers questions about the time with lies."""
    found = find_spec("libfaketime")
    assert found is not None
    assert found.origin is not None
    return str(Path(found.origin).parent / "vendor" / "libfaketime" / "src" / "libfaketime.so.1")


def test_hours_forward_and_back_in_the_workers_neither_lose_a_lease_nor_change_the_result(
    drill: Drill, tmp_path: Path
) -> None:
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
        here = drill_on(stack, like=drill)
        client = here.client
        job_id = here.submit()
        for offset, step in (("+2h", 0), ("-26h", 1)):
            wait_until(lambda step=step: len(client.job(job_id)["metrics"]) > step, 300, f"step {step}")
            clock.write_text(offset)
        here.judge(job_id)
        assert client.job(job_id)["attempts"] == 1
        assert (here.outcome.lost, here.outcome.duplicated, here.outcome.differing) == ([], [], [])
        said = [line for name in WORKERS for line in (tmp_path / "rig" / f"{name}.log").read_text().splitlines()]
        days = {line[:10] for line in said if line.startswith("20")}
        assert days != set(), "the workers said nothing"
        assert len(days) > 1, "the clock did not jump"
