"""Settings every test runs under, and what a run of pytest does beside the tests.

The environment is set before anything imports torch: one thread a process (xdist runs several), and never a network.
"""

import gc
import os
from collections.abc import Generator

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
    _keep_out_of_collections()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, object, object]:
    """So does what the tests of a file have imported. The engine collects before every measurement of time."""
    said = yield
    if nextitem is None or nextitem.path != item.path:
        _keep_out_of_collections()
    return said


def _keep_out_of_collections() -> None:
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
