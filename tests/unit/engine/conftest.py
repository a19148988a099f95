"""Fixtures of tests of the engine in their own process."""

from collections.abc import Iterator

import pytest

from worker.engine.runtime import offload


@pytest.fixture
def offloading_ends() -> Iterator[None]:
    """No layer's weights stay on the host after the test, and no copies are left."""
    yield
    offload.offload_to(None)
    assert not offload._calls.running
    assert not offload._calls.copied
