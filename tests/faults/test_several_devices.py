"""An engine of two processes, broken on purpose: whichever of them is killed, the job goes on, to the same bits."""

from collections.abc import Iterator

import psutil
import pytest

from benchmarks.faults.drill import Drill
from benchmarks.faults.stack import Stack, running_stack, wait_until
from tests.faults.conftest import drill_on


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drill]:
    """One worker, whose engines are two processes; the undisturbed job has run."""
    with running_stack(tmp_path_factory.mktemp("rig"), "sqlite", engine_devices=2) as stack:
        stack.down("worker-2")
        made = drill_on(stack)
        made.reference()
        yield made


def processes_of(stack: Stack) -> list[psutil.Process]:
    """Of the engine that runs: the first, and those that it has forked and not ended."""
    for engine in stack.engines():
        forked = [child for child in engine.children() if child.name() == engine.name()]
        if engine.name() == "secateur-engine" and forked:
            return [engine, *forked]
    return []


def test_whichever_process_is_killed_the_job_goes_on_as_if_none_had_been(together: Drill) -> None:
    stack, client = together.stack, together.client
    job_id = together.submit()
    for attempt, victim in enumerate((1, 0), start=1):
        wait_until(lambda: (client.job(job_id)["progress"] or {}).get("phase") == "finetuning", 120, "a recovery")
        found = processes_of(stack)
        assert len(found) == 2
        found[victim].kill()
        wait_until(lambda found=found: all(map(_gone, found)), 60, "the end of both")
        wait_until(lambda attempt=attempt: client.job(job_id)["attempts"] > attempt, 60, "the next attempt")
    stack.terminate("worker-1", 60)
    together.judge(job_id)
    outcome = together.outcome
    assert (outcome.lost, outcome.duplicated, outcome.differing) == ([], [], [])
    assert client.job(job_id)["attempts"] >= 3
    wait_until(lambda: not stack.stray_engines(), 10, "the end of engines without a worker")


def _gone(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
