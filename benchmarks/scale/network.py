"""Hosts on one machine: network namespaces, each with a link to a bridge on which the servers stand."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

PREFIX = "scale"
"""Of every name of the kernel's that is made here."""


@dataclass(frozen=True)
class Hosts:
    """Where the servers listen, and hosts by number from 1; on loopback all of them are this machine."""

    address: str
    pool: str
    """What PostgreSQL lets in."""
    apart: bool

    def command(self, host: int, command: Sequence[str]) -> list[str]:
        """The command, as it is run on that host."""
        # Not `ip netns exec`, which mounts another /sys: there the container's bounds would be missing.
        return ["nsenter", f"--net=/run/netns/{PREFIX}{host}", "--", *command] if self.apart else list(command)

    @contextmanager
    def cut(self, hosts: Sequence[int]) -> Iterator[None]:
        """Their links are down until the block ends. Raises RuntimeError on loopback, where there are none."""
        if not self.apart:
            raise RuntimeError("there are no links on loopback")
        try:
            for host in hosts:
                _ip("link", "set", f"{PREFIX}{host}", "down")
            yield
        finally:
            for host in hosts:
                _ip("link", "set", f"{PREFIX}{host}", "up")


def why_not() -> str | None:
    """Why there can be no namespaces here; None where there can."""
    if os.geteuid() != 0:
        return "not root"
    missing = [name for name in ("ip", "nsenter") if shutil.which(name) is None]
    if missing:
        return f"there is no {missing[0]}"
    tried = subprocess.run(["ip", "netns", "add", f"{PREFIX}0"], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        return tried.stderr.strip() or "ip netns add failed"
    _ip("netns", "del", f"{PREFIX}0")
    return None


def address(host: int, network: int) -> str:
    """Of a host, 0 being the servers', in one of 256 private networks."""
    return f"10.77.{network}.{host + 1}"


@contextmanager
def hosts(count: int, network: int) -> Iterator[Hosts]:
    """That many, or loopback where `why_not` says why; removed with the block. Raises CalledProcessError."""
    if why_not() is not None:
        yield Hosts("127.0.0.1", "127.0.0.1/32", apart=False)
        return
    try:
        _ip("link", "add", PREFIX, "type", "bridge")
        _ip("address", "add", f"{address(0, network)}/24", "dev", PREFIX)
        _ip("link", "set", PREFIX, "up")
        for host in range(1, count + 1):
            name = f"{PREFIX}{host}"
            _ip("netns", "add", name)
            _ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
            _ip("link", "set", name, "master", PREFIX, "up")
            _ip("-n", name, "address", "add", f"{address(host, network)}/24", "dev", "eth0")
            _ip("-n", name, "link", "set", "lo", "up")
            _ip("-n", name, "link", "set", "eth0", "up")
        yield Hosts(address(0, network), f"10.77.{network}.0/24", apart=True)
    finally:
        for host in range(1, count + 1):
            subprocess.run(["ip", "netns", "del", f"{PREFIX}{host}"], capture_output=True, check=False)
        subprocess.run(["ip", "link", "del", PREFIX], capture_output=True, check=False)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
