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
import importlib
importlib.import_module(sys.argv[1])
threads = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("Threads:"))
print(json.dumps({"modules": sorted(sys.modules), "threads": int(threads)}))
"""


def imported_by(module):
    # The OpenBLAS that comes with numpy, and scipy's, start their threads when they are loaded, unless they are told not to.
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    environment.pop("OMP_NUM_THREADS", None)
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, module], capture_output=True, text=True, check=True, env=environment
    )
    return json.loads(run.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def imported():
    return imported_by("worker.engine.run")


def test_a_template_imports_torch_and_transformers_and_nothing_of_the_engine():
    """The server of the reload gate is forked from it, and has to prove that a checkpoint needs no more."""
    found = imported_by("worker.engine.warm")
    assert {"torch", "transformers"} <= set(found["modules"])
    rooms = ("api_schemas", "checkpoints", "store", "service", "secateur")
    assert [name for name in found["modules"] if name.partition(".")[0] in (*rooms, *LATER)] == []
    ours = [name for name in found["modules"] if name.partition(".")[0] == "worker"]
    assert ours == ["worker", "worker.engine", "worker.engine.warm"]
    assert found["threads"] == 1


def test_the_engine_imports_no_library_before_it_is_needed(imported):
    assert "torch" in imported["modules"]
    assert [name for name in LATER if name in imported["modules"]] == []


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
def test_the_engine_starts_no_thread_when_it_is_imported(imported):
    assert imported["threads"] == 1
