"""Settings every test runs under, and what a run of pytest does beside the tests.

The environment is set before anything imports torch: one thread a process (xdist runs several), and never a network.
"""

import gc
import os

import pytest

pytest_plugins = ["tests.support.servers.databases"]
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
for name in [name for name in os.environ if name.startswith("SECATEUR_")]:
    del os.environ[name]  # a developer's settings are not the tests'
# On a busy machine no dataset is small enough to be checked within a second: the answer is waited for.
os.environ["SECATEUR_CHECK_WAIT_SECONDS"] = "600"


def pytest_collection_finish() -> None:
    """Modules and tests stay until the end: without them a collection of garbage takes a hundredth of a second, not half."""
    gc.collect()
    gc.freeze()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How to run each test that failed without the others."""
    failed = {report.nodeid for key in ("failed", "error") for report in terminalreporter.getreports(key)}
    if failed:
        terminalreporter.section("run it alone")
    for nodeid in sorted(failed):
        quoted = nodeid.replace("'", "'\\''")
        terminalreporter.write_line(f"OMP_NUM_THREADS=1 .venv/bin/python -m pytest -p no:xdist '{quoted}'")
