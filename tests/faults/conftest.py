"""Stacks of real processes to break, and the job that nothing disturbed. Not part of `make test`: `make test-faults`."""

from collections.abc import Iterator

import pytest

from benchmarks.faults.drill import Drill
from benchmarks.faults.stack import running_stack
from tests.support.checkpoints.tiny import tiny_data, tiny_model


@pytest.fixture(scope="session")
def drill(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drill]:
    """PostgreSQL, Valkey without persistence, two workers; the undisturbed job has run."""
    with running_stack(tmp_path_factory.mktemp("rig"), "postgresql") as stack:
        made = Drill(stack, tiny_model(), tiny_data())
        made.reference()
        yield made
