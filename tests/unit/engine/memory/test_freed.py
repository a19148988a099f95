"""What is freed goes back to the system, whatever was allocated after it."""

import subprocess
import sys

import pytest

# bytearray allocates by malloc, as torch does. What stays in between keeps a heap from shrinking.
PROGRAM = """
import sys
from pathlib import Path
from worker.engine.runtime import memory

MiB = 1 << 20
if sys.argv[1] == "returned":
    memory.return_freed_memory()
large = bytearray(24 * MiB)
del large  # glibc takes blocks up to this size from its heap from now on
before = memory.held_bytes(Path("/proc/self/status"))
pages = b"x" * (6 * MiB // 4096)
pairs = []
for _ in range(20):
    block = bytearray(6 * MiB)
    block[::4096] = pages
    pairs.append((block, bytearray(200_000)))
kept = [small for _, small in pairs]
del block, pairs
print((memory.held_bytes(Path("/proc/self/status")) - before) // MiB)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_large_blocks_between_small_ones_are_given_back() -> None:
    held = {}
    for how in ("as glibc does", "returned"):
        done = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True)
        held[how] = int(done.stdout)
    assert held["returned"] < 10
    assert held["as glibc does"] > 100, "without it nothing would be gained: the function can go"
