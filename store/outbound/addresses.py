"""Which addresses belong to the public internet, also where one is wrapped in another."""

import ipaddress
from ipaddress import IPv4Address, IPv6Address

# Forms of IPv6 that carry an IPv4 address in their last 32 bits: IPv4-compatible (RFC 4291), NAT64 (RFC 6052).
_IN_LAST_BITS = (ipaddress.IPv6Network("::/96"), ipaddress.IPv6Network("64:ff9b::/96"))
# Never the public internet, whatever a version of `ipaddress` says: Teredo, NAT64 of a local network (RFC 8215), site-local.
_NEVER = tuple(map(ipaddress.IPv6Network, ("2001::/32", "64:ff9b:1::/48", "fec0::/10")))


def is_public(text: str) -> bool:
    """Whether `text` is a unicast address that is reachable from everywhere, and so is the address it carries inside."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    if isinstance(address, IPv4Address):
        return _is_global(address)
    # A zone says on which of this machine's links an address lies.
    if address.scope_id is not None or any(address in network for network in _NEVER):
        return False
    inner = _inside(address)
    return _is_global(inner) if inner is not None else _is_global(address)


def _is_global(address: IPv4Address | IPv6Address) -> bool:
    return address.is_global and not address.is_multicast and not address.is_reserved


def _inside(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address to which this one is translated or tunnelled."""
    wrapped = address.ipv4_mapped or address.sixtofour
    if wrapped is None and any(address in network for network in _IN_LAST_BITS):
        wrapped = IPv4Address(int(address) & 0xFFFF_FFFF)
    return wrapped
