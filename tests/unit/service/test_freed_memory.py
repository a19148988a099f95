"""What pieces of uploads took goes back to the system."""

import subprocess
import sys
from pathlib import Path

import pytest

# bytearray allocates by malloc. What is small and stays keeps a heap from shrinking.
PROGRAM = """
import re, sys
from pathlib import Path
from fastapi.testclient import TestClient
from service.app import create_app
from service.core.uploads.resumable import PIECE
from store.settings import Settings

def held():
    return int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024

with TestClient(create_app(Settings(data_dir=Path(sys.argv[1])))):
    large = bytearray(24 << 20)
    del large  # glibc takes blocks up to this size from its heap from now on
    before = held()
    pairs = [(bytearray(b"x" * PIECE), bytearray(200_000)) for _ in range(60)]
    kept = [small for _, small in pairs]
    del pairs
    print("grown", held() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_pieces_between_small_blocks_are_given_back(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path)], capture_output=True, text=True, check=True)
    assert int(done.stdout.split("grown")[1]) < 30, "of 120 MiB"
