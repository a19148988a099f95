"""What breaks a stack reaches every process that is there, and none that is not."""

import signal
import subprocess
import sys
from unittest.mock import patch

import psutil

from benchmarks.faults.servers import send_to_family
from tests.support.servers.databases import wait_for


def test_a_signal_reaches_those_that_live_beside_one_that_has_just_ended() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as short:
        ended = psutil.Process(short.pid)
    with subprocess.Popen(["sleep", "1000"]) as first, subprocess.Popen(["sleep", "1000"]) as second:
        main, child = psutil.Process(first.pid), psutil.Process(second.pid)
        with patch.object(main, "children", return_value=[ended, child]):
            assert send_to_family(main, signal.SIGSTOP) == [main, child]
            wait_for(lambda: {main.status(), child.status()} == {psutil.STATUS_STOPPED})
            assert [first.poll(), second.poll()] == [None, None]
            send_to_family(main, signal.SIGKILL)
        assert [first.wait(), second.wait()] == [-signal.SIGKILL, -signal.SIGKILL]
