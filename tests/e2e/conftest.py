"""The whole embedded stack, once for all end-to-end tests."""

from tests.support.servers.up import client, service

__all__ = ["client", "service"]
