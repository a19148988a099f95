"""Stacks of real processes to break, and the job that nothing disturbed. Not part of `make test`: `make test-faults`."""

from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks.faults.client import SPEC
from benchmarks.faults.drill import Drill
from benchmarks.faults.stack import Stack, running_stack
from tests.support.checkpoints.tiny import tiny_data, tiny_model
from tests.support.gate import WHOLE

SHORT: dict[str, Any] = {"pruning": {**SPEC["pruning"], "schedule": {"steps": 2}}}
"""A step after another is all that a fault can fall between; whole, jobs have three as in the benchmark."""


def drill_on(stack: Stack, like: Drill | None = None) -> Drill:
    """Judged by the undisturbed job of another drill, where there is one: the same inputs give the same bytes in every stack."""
    reference = None if like is None else like.reference()
    return Drill(stack, tiny_model(), tiny_data(), SPEC if WHOLE else {**SPEC, **SHORT}, reference)


@pytest.fixture(scope="session")
def drill(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drill]:
    """PostgreSQL, Valkey without persistence, two workers; the undisturbed job has run."""
    with running_stack(tmp_path_factory.mktemp("rig"), "postgresql", preemption="tenant") as stack:
        made = drill_on(stack)
        made.reference()
        yield made
