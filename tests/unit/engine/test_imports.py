"""What importing the engine brings with it: nothing that only part of a job needs, and no thread.

A process that has imported it once can then be forked for every job: a fork copies the thread that forks and no other.
"""

import json
import os
import subprocess
import sys

import pytest

LATER = (
    "datasets",
    "pyarrow",
    "pandas",
    "matplotlib",
    "torchaudio",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "sklearn",
    "peft",
)
"""Imported where they are needed: to read data, draw a report, resample audio, export, fine-tune."""
PROGRAM = """
import json, sys
import worker.engine.run
threads = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("Threads:"))
print(json.dumps({"modules": sorted(sys.modules), "threads": int(threads)}))
"""


@pytest.fixture(scope="module")
def imported():
    # The OpenBLAS that comes with numpy, and scipy's, start their threads when they are loaded, unless they are told not to.
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    environment.pop("OMP_NUM_THREADS", None)
    run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, env=environment)
    return json.loads(run.stdout.splitlines()[-1])


def test_the_engine_imports_no_library_before_it_is_needed(imported):
    assert "torch" in imported["modules"]
    assert [name for name in LATER if name in imported["modules"]] == []


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
def test_the_engine_starts_no_thread_when_it_is_imported(imported):
    assert imported["threads"] == 1
