"""What a URL must look like before any name is resolved: https, a plain host name, a port from the list, no credentials."""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from api_schemas.errors import ErrorCode, SecateurError
from store.outbound.addresses import is_public
from store.settings import Settings

MAX_URL = 2048
_PRINTABLE = re.compile(r"[!-~]+")
# The last label begins with a letter: what is left are the many ways to write an IPv4 address as numbers.
_NAME = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9])?\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True)
class UrlRules:
    """What may be called at all."""

    ports: tuple[int, ...] = (443,)
    test_target: str = ""
    """`host:port` on loopback that may be called all the same, and without TLS."""

    @classmethod
    def of(cls, settings: Settings) -> "UrlRules":
        return cls(settings.outbound_ports, settings.outbound_test_target)

    def is_test_target(self, host: str, port: int) -> bool:
        return f"{host}:{port}" == self.test_target


def parse(text: str, rules: UrlRules, hosts: Sequence[str] | None = None) -> httpx.URL:
    """The URL, where its form is allowed; addresses of a name are judged when it is connected to.

    `hosts`: names that it must be one of, `*.example.org` for all below that. Raises TARGET_REFUSED.
    """
    # One parser for the check and for the call: two could disagree about where the host ends.
    if len(text) > MAX_URL or not _PRINTABLE.fullmatch(text) or "\\" in text:
        raise refused(
            f"it must be at most {MAX_URL} printable ASCII characters without a backslash; write other hosts in Punycode"
        )
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        raise refused("it is not a URL") from None
    # Not `host`, which decodes Punycode: what is judged is what is looked up.
    host = url.raw_host.decode("ascii")
    port = {"https": 443, "http": 80}.get(url.scheme, 0) if url.port is None else url.port
    if url.userinfo or "@" in text.partition("://")[2].partition("/")[0]:
        raise refused("it must not contain a user name or password")
    if rules.is_test_target(host, port) and url.scheme in ("http", "https"):
        return url
    if url.scheme != "https":
        raise refused("it must start with https://")
    if port not in rules.ports:
        allowed = ", ".join(map(str, rules.ports))
        raise refused(f"port {port} is not allowed; allowed ports: {allowed}")
    _check_host(host)
    if hosts is not None and not any(_matches(host, pattern) for pattern in hosts):
        raise refused(f"the host {host} is not on this server's list of allowed hosts")
    return url


def refused(reason: str) -> SecateurError:
    """TARGET_REFUSED."""
    return SecateurError(ErrorCode.TARGET_REFUSED, f"This server does not call this URL: {reason}.")


def _check_host(host: str) -> None:
    if _NAME.fullmatch(host) and len(host) <= 253:
        return
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise refused(
            "the host must be a full name such as hooks.example.com, or an IP address in standard notation"
        ) from None
    if not is_public(str(address)):
        raise refused(f"the address {host} is not on the public internet")


def _matches(host: str, pattern: str) -> bool:
    return host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern
