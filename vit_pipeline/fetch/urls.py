"""URLs and addresses: what is a URL, how it is shown, and which may be fetched. Nothing is looked up here."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urljoin

from urllib3.util import Url, parse_url

from ..errors import UnsafeURLError, printable

MAX_URL = 8000
HOW_TO_ALLOW = (
    "if you trust it, allow it with --allow-private-urls (command line) or allow_private=True (Python)"
)

_URL = re.compile(r"\s*(https?:|[a-z][a-z0-9+.-]+://)", re.IGNORECASE)
_DATA_URL = re.compile(r"\s*data:", re.IGNORECASE)
_USERINFO = re.compile(r"^(\s*[a-z][a-z0-9+.-]*:[/\\]*)[^/?#]*@", re.IGNORECASE)
_HOST = re.compile(r"[a-z0-9_]([a-z0-9._-]*[a-z0-9_])?\.?")
_NUMERIC = re.compile(r"[^%]*:[^%]*|(.*\.)?([0-9]+|0x[0-9a-f]*)\.?")
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


def is_url(source: object) -> bool:
    """Whether this is text that looks like a URL, of any scheme but ``data:``; such text is never a path."""
    return isinstance(source, str) and _URL.match(source) is not None


def is_data_url(source: object) -> bool:
    """Whether this is text that looks like a ``data:`` URL."""
    return isinstance(source, str) and _DATA_URL.match(source) is not None


def without_password(url: str) -> str:
    """The URL in one line, user name and password hidden."""
    return printable(_USERINFO.sub(r"\1***@", url), limit=MAX_URL)


def shortened(name: str, limit: int = 160) -> str:
    """Cut in the middle, so that a message's own words are not lost behind a long name."""
    return name if len(name) <= limit else f"{name[: limit - 60]}…{name[-59:]}"


def is_public(address: str) -> bool:
    """Whether a numeric IPv4 or IPv6 address belongs to the public internet and contains no other address."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        isatap = int(ip) >> 32 & 0xFCFFFFFF == 0x5EFE  # RFC 5214: the last four bytes are an IPv4 address
        if ip.scope_id or ip not in _IPV6_PUBLIC or isatap:
            return False
    return ip.is_global and not any(ip in network for network in _SPECIAL)


def take_apart(url: str, shown: str, allow_private: bool, base: str = "") -> Url:
    """The parts of a URL that may be fetched, relative to ``base`` if that redirected to it.

    Raises:
        UnsafeURLError: another scheme or port, a user name, or anything that two programs might read in two
            ways. It names the URL as ``shown``.
    """

    def rejected(why: str) -> UnsafeURLError:
        return UnsafeURLError(f"{shown}: rejected, {why}")

    if len(url) > MAX_URL:
        raise rejected(f"it is longer than {MAX_URL} characters; download it yourself")
    if any(c.isspace() or not c.isprintable() or c == "\\" for c in url):
        raise rejected("it contains a space, control character or backslash; write them as %20 and the like")
    try:
        parts = parse_url(urljoin(base, url))
        host = parts.host or ""
        if _NUMERIC.fullmatch(host):  # 010.8.8.8 means 8.8.8.8 here and 10.8.8.8 there: plain numbers only
            ipaddress.ip_address(host.strip("[]"))
    except ValueError:  # its message may contain a password
        raise rejected("it is not a valid URL; check the spelling") from None
    if parts.scheme not in ("http", "https"):
        raise rejected("only http and https are fetched; give local files as a path")
    if parts.auth:
        raise rejected("it contains a user name or password; download it yourself")
    if not (_HOST.fullmatch(host) or _NUMERIC.fullmatch(host)):
        raise rejected("it has no host that can be looked up; it must look like https://host/path")
    if not allow_private and parts.port not in (None, 80, 443):
        raise rejected(f"port {parts.port} is neither 80 nor 443; {HOW_TO_ALLOW}")
    return parts
