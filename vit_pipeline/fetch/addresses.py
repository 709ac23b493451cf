"""Which addresses a host name means, and whether they are the public internet's.

Judged is what the name resolves to, never how it is written: ``2130706433``, ``0x7f.1`` and ``①②⑦.0.0.1`` all
are 127.0.0.1 once they are looked up. The ranges come from microsoft-antissrf, which follows IANA's special
purpose registries and the clouds' metadata addresses.
"""

from __future__ import annotations

import ipaddress
import queue
import socket
import threading
from functools import lru_cache
from typing import Any

#: What getaddrinfo gives for one address: family, type, protocol, canonical name, socket address.
AddressInfo = tuple[Any, Any, int, str, Any]

#: Every address outside of this is special (loopback, link-local, multicast) or carries an IPv4 address in it
#: (::/96, ::ffff:0:0/96, 64:ff9b::/96, …). antissrf's ranges name most of those, not all.
_IPV6_PUBLIC = ipaddress.ip_network("2000::/3")


@lru_cache(maxsize=1)
def _denied() -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    from AntiSSRF import IPAddressRanges

    return tuple(ipaddress.ip_network(text) for text in IPAddressRanges.recommended_latest)


def is_public(address: str) -> bool:
    """Whether a numeric IPv4 or IPv6 address is one of the public internet, and carries no other inside."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.scope_id or ip not in _IPV6_PUBLIC:
            return False
        if int(ip) >> 32 & 0xFCFFFFFF == 0x5EFE:  # ISATAP, RFC 5214: the last four bytes are an IPv4 address
            return False
    return ip.is_global and not any(ip.version == net.version and ip in net for net in _denied())


def look_up(host: str, port: int, timeout: float) -> list[AddressInfo]:
    """The addresses of a host, in the order in which they should be tried.

    The system's resolver knows no time limit, so it is asked in a thread, which is left behind when it takes
    too long (it ends by the resolver's own limits, and keeps no process from ending).

    Raises:
        TimeoutError: no answer within ``timeout`` seconds.
        OSError, UnicodeError: the resolver's own.
    """
    answers: queue.SimpleQueue[list[AddressInfo] | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except Exception as error:
            answers.put(error)

    threading.Thread(target=ask, name="look-up", daemon=True).start()
    try:
        answer = answers.get(timeout=max(timeout, 0))
    except queue.Empty:
        raise TimeoutError(f"the name server did not answer within {timeout:.1f} s") from None
    if isinstance(answer, Exception):
        raise answer
    return answer
