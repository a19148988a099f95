"""The documentation, run. Not part of `make test`: `make test-docs`."""

from tests.support.servers.up import service

__all__ = ["service"]
