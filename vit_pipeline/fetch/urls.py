"""URLs as text: what counts as one, how it is shown, and its parts. Nothing is looked up or fetched here."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from ..errors import UnsafeURLError, printable

if TYPE_CHECKING:
    from urllib3.util import Url

MAX_URL = 8000
HOW_TO_ALLOW = (
    "if you trust it, allow it with --allow-private-urls (command line) or allow_private=True (Python)"
)

_URL = re.compile(r"\s*(https?:|[a-z][a-z0-9+.-]+://)", re.IGNORECASE)
_DATA_URL = re.compile(r"\s*data:", re.IGNORECASE)
_USERINFO = re.compile(r"^(\s*[a-z][a-z0-9+.-]*:[/\\]*)[^/?#]*@", re.IGNORECASE)
_HOST = re.compile(r"[a-z0-9_]([a-z0-9._-]*[a-z0-9_])?\.?")
_NUMERIC = re.compile(r"[^%]*:[^%]*|(.*\.)?([0-9]+|0x[0-9a-f]*)\.?")


def is_url(source: object) -> bool:
    """Whether this is text that looks like a URL, of any scheme but ``data:``: never taken for a path."""
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


def take_apart(url: str, shown: str, allow_private: bool, base: str = "") -> Url:
    """The parts of a URL that may be fetched, relative to ``base`` where that redirected to it.

    Raises:
        UnsafeURLError: another scheme or port, a user name, or anything that two programs might read in two
            ways. It names the URL as ``shown``.
    """
    from urllib3.util import parse_url

    def rejected(why: str) -> UnsafeURLError:
        return UnsafeURLError(f"{shown}: rejected, {why}")

    if len(url) > MAX_URL:
        raise rejected(f"it is longer than {MAX_URL} characters; download it yourself")
    if any(c.isspace() or not c.isprintable() or c == "\\" for c in url):
        raise rejected("it has a space, control character or backslash in it; write them as %20 and the like")
    try:
        parts = parse_url(urljoin(base, url))
        host = parts.host or ""
        if _NUMERIC.fullmatch(host):  # 010.8.8.8 means 8.8.8.8 here and 10.8.8.8 there: plain numbers only
            ipaddress.ip_address(host.strip("[]"))
    except ValueError:  # its message may have a password in it
        raise rejected("it is not a proper URL; check how it is written") from None
    if parts.scheme not in ("http", "https"):
        raise rejected("only http and https are fetched; give local files as a path")
    if parts.auth is not None:
        raise rejected("it has a user name or password in it; download it yourself")
    if not (_HOST.fullmatch(host) or _NUMERIC.fullmatch(host)):
        raise rejected("it has no host that can be looked up; it must look like https://host/path")
    if not allow_private and parts.port not in (None, 80, 443):
        raise rejected(f"port {parts.port} is neither 80 nor 443; {HOW_TO_ALLOW}")
    return parts
