"""URLs as text: what is one, how it is shown, and what it means, with no room for two readings.

Nothing is looked up or fetched here: ``addresses.py``, ``fetch.py``.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from ..errors import UnsafeURLError

MAX_URL = 8000
PORTS = {"http": 80, "https": 443}

_URL = re.compile(r"\s*(https?:|[a-z][a-z0-9+.-]+://)", re.IGNORECASE)
_DATA_URL = re.compile(r"\s*data:", re.IGNORECASE)
_USERINFO = re.compile(r"^(\s*[a-z][a-z0-9+.-]*:[/\\]*)[^/?#]*@", re.IGNORECASE)
_NETLOC = re.compile(r"(\[[0-9a-f:.]*:[0-9a-f:.]*\]|[^][:@]+)(:[0-9]*)?", re.IGNORECASE)
_HOST = re.compile(r"[a-z0-9_]([a-z0-9._-]*[a-z0-9_])?\.?", re.IGNORECASE)


@dataclass(frozen=True)
class Target:
    """A URL taken apart; ``path`` carries the query, and all but ``url`` is ASCII."""

    url: str
    scheme: str
    host: str
    port: int
    path: str

    @property
    def host_header(self) -> str:
        """The host as the server wants to see it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"


def is_url(source: object) -> bool:
    """Whether this is text that looks like a URL, of any scheme but ``data:``: never taken for a path."""
    return isinstance(source, str) and _URL.match(source) is not None


def is_data_url(source: object) -> bool:
    """Whether this is text that looks like a ``data:`` URL."""
    return isinstance(source, str) and _DATA_URL.match(source) is not None


def one_line(text: str) -> str:
    """The text without line breaks and other characters that cannot be printed."""
    return "".join(c if c.isprintable() else "�" for c in text)


def without_password(url: str) -> str:
    """The URL in one line, user name and password hidden."""
    return one_line(_USERINFO.sub(r"\1***@", url))


def shortened(name: str, limit: int = 160) -> str:
    """Cut in the middle, so that a message's own words are not lost behind a long name."""
    return name if len(name) <= limit else f"{name[: limit - 60]}…{name[-59:]}"


def take_apart(url: str, shown: str, allow_private: bool) -> Target:
    """The parts of a URL that may be fetched.

    Args:
        url: http or https.
        shown: how messages name it.
        allow_private: let any port pass, not only 80 and 443.

    Raises:
        UnsafeURLError: another scheme or port, a user name, or anything that two programs might read in two
            ways.
    """

    def refused(why: str) -> UnsafeURLError:
        return UnsafeURLError(f"{shown}: refused, {why}")

    if len(url) > MAX_URL:
        raise refused(f"it is longer than {MAX_URL} characters; download it yourself")
    if any(c.isspace() or not c.isprintable() or c == "\\" for c in url):
        raise refused("it has a space, control character or backslash in it; write them as %20 and the like")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise refused(f"it is not a proper URL ({error})") from error
    scheme = parts.scheme.lower()
    if scheme not in PORTS:
        raise refused("only http and https are fetched; give local files as a path")
    if "@" in parts.netloc:
        raise refused("it has a user name or password in it; download it yourself")
    if not re.match(r"https?://[^/]", url, re.IGNORECASE) or not host:
        raise refused("it has no host; it must look like https://host/path")
    if not _NETLOC.fullmatch(parts.netloc):  # urlsplit() takes http://a[::1]/ for ::1
        raise refused("its host is no proper name or address")
    port = PORTS[scheme] if port is None else port
    if not allow_private and port not in PORTS.values():
        raise refused(f"port {port} is neither 80 nor 443; {how_to_allow()}")
    return Target(url, scheme, _ascii_host(host, shown), port, _ascii_path(parts.path, parts.query))


def how_to_allow() -> str:
    """The two ways to fetch a URL that is refused by default."""
    return "if you trust it, allow it with --allow-private-urls (command line) or allow_private=True (Python)"


def _ascii_host(host: str, shown: str) -> str:
    try:
        if ":" in host:
            ipaddress.IPv6Address(host)
            return host
        host = host if host.isascii() else _idna(host)
    except ValueError as error:  # idna's errors are UnicodeErrors, and these are ValueErrors
        raise UnsafeURLError(f"{shown}: refused, its host is no proper name ({error})") from error
    if not _HOST.fullmatch(host):
        raise UnsafeURLError(f"{shown}: refused, its host is no proper name or address")
    return host


def _idna(host: str) -> str:
    import idna

    # As browsers do (UTS 46): the dots, digits and letters of other scripts become ASCII where they mean it.
    return idna.encode(host, uts46=True).decode("ascii")


def _ascii_path(path: str, query: str) -> str:
    path = quote(path or "/", safe="/%:@!$&'()*+,;=~")
    return path + "?" + quote(query, safe="/%:@!$&'()*+,;=~?[]|") if query else path
