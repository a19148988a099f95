"""What is freed goes back to the system, whatever was allocated after it."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from worker.engine.runtime.memory import MemoryWatch

# bytearray allocates by malloc, as torch does. What stays in between keeps a heap from shrinking.
PROGRAM = """
import sys
from pathlib import Path
from api_schemas import freed_memory
from worker.engine.runtime import memory

MiB = 1 << 20
size, how = int(sys.argv[1]), sys.argv[2]
if how == "returned":
    memory.return_freed_memory()
large = bytearray(24 * MiB)
del large  # glibc takes blocks up to this size from its heap from now on
before = memory.held_bytes(Path("/proc/self/status"))
pages = b"x" * (size * MiB // 4096)
pairs = []
for _ in range(120 // size):
    block = bytearray(size * MiB)
    block[::4096] = pages
    pairs.append((block, bytearray(200_000)))
kept = [small for _, small in pairs]
del block, pairs
if how == "trimmed":
    freed_memory.trim()
print((memory.held_bytes(Path("/proc/self/status")) - before) // MiB)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
@pytest.mark.parametrize(("size", "how"), [(6, "returned"), (2, "trimmed")])
def test_blocks_between_small_ones_are_given_back(size: int, how: str) -> None:
    held = {}
    for each in ("as glibc does", how):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(size), each], capture_output=True, text=True, check=True
        )
        held[each] = int(done.stdout)
    assert held[how] < 30
    assert held["as glibc does"] > 100, "without it nothing would be gained: the function can go"


def test_the_heap_is_trimmed_when_much_more_is_held(tmp_path: Path) -> None:
    status, trimmed = tmp_path / "status", threading.Event()

    def say(mebibytes: int) -> None:
        new = tmp_path / "new"
        new.write_text(f"RssAnon:\t {mebibytes << 10} kB\nRssShmem:\t 0 kB\n")
        new.replace(status)

    def trim() -> None:
        say(100)
        trimmed.set()

    say(200)
    watch = MemoryWatch(status, trim)
    assert not trimmed.wait(0.3)
    say(300)
    assert trimmed.wait(30)
    assert watch.peak() == 300 << 20, "what was held before"
    status.unlink()
