"""A disk that is full: the step is kept until there is room, nothing half-written shows, and the result is the same."""

import subprocess
import time
from pathlib import Path

from benchmarks.faults.client import Client
from benchmarks.faults.drill import Drill
from benchmarks.faults.stack import LONG_LEASE, running_stack, wait_until
from tests.faults.conftest import drill_on
from tests.support.servers.storage import small_disk


def test_a_job_waits_for_room_and_goes_on(drill: Drill, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    settings = {"artifacts_url": disk.as_uri(), "lease_seconds": LONG_LEASE}
    with small_disk(disk, "100%"), running_stack(tmp_path / "rig", "sqlite", **settings) as stack:
        here = drill_on(stack, like=drill)
        client = Client(stack.url)
        expected = here.reference()
        used = int(subprocess.check_output(["df", "--output=used", "-k", str(disk)]).split()[-1])
        subprocess.run(["mount", "-o", f"remount,size={used + 200}k", str(disk)], check=True)
        job_id = here.submit()
        log = tmp_path / "rig" / "worker-1.log", tmp_path / "rig" / "worker-2.log"
        wait_until(lambda: any("The artifact store is full" in path.read_text() for path in log), 120, "a full disk")
        time.sleep(5)
        job = client.job(job_id)
        assert job["state"] == "running", "the job is not waiting for room"
        assert here.fingerprint(job_id) == {k: v for k, v in expected.items() if k < len(job["metrics"])}
        subprocess.run(["mount", "-o", "remount,size=100%", str(disk)], check=True)
        here.judge(job_id)
        assert (here.outcome.lost, here.outcome.duplicated, here.outcome.differing) == ([], [], [])
        assert client.job(job_id)["attempts"] == 1
