"""Which addresses are public, including those that are wrapped in another.

The lists are our own: what `ipaddress` calls global has changed between Python releases, and the same name must be refused on
each of them. They follow IANA's registries of special-purpose addresses
(https://www.iana.org/assignments/iana-ipv4-special-registry, …/iana-ipv6-special-registry) as of 2026.
"""

import ipaddress
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

_NOT_PUBLIC_IPV4 = tuple(
    map(
        IPv4Network,
        (
            *("0.0.0.0/8", "127.0.0.0/8"),  # this machine
            *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"),  # networks of somebody's own
            "169.254.0.0/16",  # this link; where nearly every cloud tells a machine its credentials
            *("192.0.0.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.175.48.0/24"),  # protocols, 192.0.0.192 too
            *("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "198.18.0.0/15"),  # examples and measurements
            "192.88.99.0/24",  # relays of 6to4, once
            *("224.0.0.0/4", "240.0.0.0/4"),  # multicast, reserved, broadcast
            "168.63.129.16/32",  # Azure's own services, from inside its machines; registered as public
        ),
    )
)
# The only part of IPv6 in which addresses are allocated. Everything outside is private, local, multicast or unallocated,
# including fd00:ec2::254 and fd20:ce::254, where cloud providers serve credentials.
_GIVEN_OUT = IPv6Network("2000::/3")
_NOT_PUBLIC_IPV6 = tuple(
    map(
        IPv6Network,
        (
            "2001::/23",  # protocols: Teredo, benchmarks, ORCHID
            *("2001:db8::/32", "3fff::/20"),  # examples
            "2620:4f:8000::/48",  # AS112: answers to questions about private addresses
        ),
    )
)
# Forms of IPv6 that carry an IPv4 address in their last 32 bits: IPv4-compatible (RFC 4291), NAT64 (RFC 6052).
_IN_LAST_BITS = (IPv6Network("::/96"), IPv6Network("64:ff9b::/96"))


def is_public(text: str) -> bool:
    """Whether `text` is a unicast address that is reachable from everywhere, and so is the address it carries inside."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    if isinstance(address, IPv4Address):
        return _is_public_ipv4(address)
    # A zone says on which of this machine's links an address lies.
    if address.scope_id is not None:
        return False
    inner = _inside(address)
    if inner is not None:
        return _is_public_ipv4(inner)
    return address in _GIVEN_OUT and not any(address in network for network in _NOT_PUBLIC_IPV6)


def _is_public_ipv4(address: IPv4Address) -> bool:
    return not any(address in network for network in _NOT_PUBLIC_IPV4)


def _inside(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address to which this one is translated or tunnelled."""
    wrapped = address.ipv4_mapped or address.sixtofour
    if wrapped is None and any(address in network for network in _IN_LAST_BITS):
        wrapped = IPv4Address(int(address) & 0xFFFF_FFFF)
    return wrapped
