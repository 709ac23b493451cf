"""Whether an address belongs to the public internet. Nothing is looked up here."""

from __future__ import annotations

import ipaddress

#: IPv6 outside of this is special (loopback, link-local, multicast) or has an IPv4 address inside.
_IPV6_PUBLIC = ipaddress.ip_network("2000::/3")
#: Not public, although ``is_global`` of one supported Python or another says so: IANA's special-purpose
#: registries (protocol assignments, AS112, relays, documentation), multicast, and Azure's platform address.
_SPECIAL = [
    ipaddress.ip_network(text)
    for text in (
        "168.63.129.16/32 192.0.0.0/24 192.31.196.0/24 192.52.193.0/24 192.88.99.0/24 192.175.48.0/24 "
        "224.0.0.0/4 2001::/23 2002::/16 2620:4f:8000::/48 3fff::/20"
    ).split()
]


def is_public(address: str) -> bool:
    """Whether a numeric IPv4 or IPv6 address is public, and has no other address inside."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        isatap = int(ip) >> 32 & 0xFCFFFFFF == 0x5EFE  # RFC 5214: the last four bytes are an IPv4 address
        if ip.scope_id or ip not in _IPV6_PUBLIC or isatap:
            return False
    return ip.is_global and not any(ip in network for network in _SPECIAL)
