"""Every family and everything that can be asked of it. Not part of `make test`: `make test-families`."""

from tests.support.servers.up import client, service

__all__ = ["client", "service"]
