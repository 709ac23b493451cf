"""A URL → bytes, safely: the only place of this package that fetches an address that somebody typed.

Refused before anything is sent: schemes but http and https, ports but 80 and 443, user names and passwords,
control characters, backslashes and spaces (``urls.py``), and every host of which any address is not public
(``addresses.py``). The address that was checked is the address that is connected to, so a name that changes
between look-ups changes nothing; TLS certificates are verified against the name. Each of at most three
redirects is checked like the first URL. One deadline holds for everything: look-ups, connections, TLS,
headers, and a body that drips.

The ranges of addresses are microsoft-antissrf's. Its ``requests`` session is not used: it looks names up
without a limit of time, tries the first address only, and keeps its socket, which the deadline needs, to
itself. No proxy of the environment is asked, since it would do the look-up itself. Cookies, ranges and
compression are left out.
"""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from http import HTTPStatus
from typing import Any
from urllib.parse import urljoin

from .. import __version__
from ..errors import FetchError, UnsafeURLError
from .addresses import AddressInfo, is_public, look_up
from .urls import Target, how_to_allow, shortened, take_apart, without_password
from .urls import is_url as is_url

#: Bytes of a body at most, as in ``images.py``.
MAX_BYTES = 64 * 1024 * 1024
MAX_REDIRECTS = 3
_MAX_ADDRESSES = 4  # of one host are tried
_CHUNK = 64 * 1024
_COMPRESSED = {"gzip", "x-gzip", "deflate", "br", "zstd", "compress"}


def fetch(
    url: str,
    *,
    allow_private: bool = False,
    max_bytes: int = MAX_BYTES,
    connect_timeout: float = 5.0,
    deadline: float = 20.0,
) -> bytes:
    """The body that a URL answers with.

    Args:
        url: http or https.
        allow_private: leave out the check of addresses and ports, for URLs of your own network. All else is
            checked all the same.
        max_bytes: a longer body is refused, by its Content-Length or as soon as it is longer.
        connect_timeout: seconds for one address of a host.
        deadline: seconds for the whole, redirects included.

    Raises:
        UnsafeURLError: the URL, or one that it redirects to, must not be fetched.
        FetchError: it could not be fetched.
    """
    shown = shortened(without_password(url.strip()))
    end = time.monotonic() + deadline
    target = take_apart(url, shown, allow_private)
    try:
        for _ in range(MAX_REDIRECTS + 1):
            with _answer(target, shown, allow_private, connect_timeout, end) as response:
                location = response.getheader("Location")
                if response.status not in (301, 302, 303, 307, 308) or location is None:
                    return _body(response, shown, max_bytes)
            target = _redirected(target, location, shown, allow_private)
    except TimeoutError as error:
        raise FetchError(
            f"{shown}: took longer than {deadline:g} s; try again, or download it yourself"
        ) from error
    except ssl.SSLCertVerificationError as error:
        raise FetchError(
            f"{shown}: its certificate is not valid ({error.verify_message}); check the URL"
        ) from error
    except (OSError, http.client.HTTPException, UnicodeError, ValueError) as error:
        detail = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise FetchError(
            f"{shown}: cannot be fetched ({detail}); check the URL and your connection"
        ) from error
    raise FetchError(f"{shown}: redirects more than {MAX_REDIRECTS} times; give the address that it ends at")


def _redirected(target: Target, location: str, shown: str, allow_private: bool) -> Target:
    # Headers arrive as Latin-1; servers that put other letters into them mean UTF-8.
    location = location.encode("latin-1").decode("utf-8", "replace")
    shown = f"{shown} → {shortened(without_password(location))}"
    try:
        there = urljoin(target.url, location)
    except ValueError as error:
        raise UnsafeURLError(f"{shown}: refused, it is not a proper URL ({error})") from error
    return take_apart(there, shown, allow_private)


def _checked_addresses(target: Target, shown: str, allow_private: bool, end: float) -> list[AddressInfo]:
    try:
        found = look_up(target.host, target.port, end - time.monotonic())
    except socket.gaierror as error:
        raise FetchError(
            f"{shown}: no such host, {target.host}; check the URL and your connection"
        ) from error
    if not allow_private and not all(is_public(info[4][0]) for info in found):
        # Which address it is stays unsaid: a stranger at a web page must not read our name server.
        raise UnsafeURLError(f"{shown}: refused, {target.host} is not a public address; {how_to_allow()}")
    return found[:_MAX_ADDRESSES]


class _Timed(socket.socket):
    """A socket each of whose reads may take what is left until ``end``, not a time-out of its own."""

    end: float

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        self.settimeout(_left(self.end))
        return super().recv_into(*args, **kwargs)


class _TimedTLS(ssl.SSLSocket):
    """The same with TLS."""

    end: float

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        self.settimeout(_left(self.end))
        return super().recv_into(*args, **kwargs)


def _left(end: float) -> float:
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError("the deadline has passed")
    return left


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    import certifi

    context = ssl.create_default_context()  # what this system trusts, a company's own certificates included
    context.load_verify_locations(certifi.where())
    context.sslsocket_class = _TimedTLS
    return context


def _connect(
    target: Target, addresses: list[AddressInfo], connect_timeout: float, end: float
) -> socket.socket:
    """A connection to the first of the (checked) addresses that takes one."""
    failure: OSError = OSError("the host has no address")
    for family, kind, protocol, _, address in addresses:
        plain = _Timed(family, kind, protocol)
        plain.end = end
        try:
            plain.settimeout(min(connect_timeout, _left(end)))
            plain.connect(address)
            plain.settimeout(_left(end))
            if target.scheme == "http":
                return plain
            secure = _tls().wrap_socket(plain, server_hostname=target.host, do_handshake_on_connect=False)
        except OSError as error:
            plain.close()
            _left(end)
            failure = OSError(f"no connection to {address[0]}: {error.strerror or error}")
            continue
        assert isinstance(secure, _TimedTLS)
        try:
            secure.end = end
            secure.do_handshake()
        except BaseException:
            secure.close()
            raise
        return secure
    raise failure


@contextmanager
def _answer(
    target: Target, shown: str, allow_private: bool, connect_timeout: float, end: float
) -> Iterator[http.client.HTTPResponse]:
    """The response's head, its body still to be read; the connection is closed afterwards."""
    addresses = _checked_addresses(target, shown, allow_private, end)
    connection = http.client.HTTPConnection(target.host, target.port)
    connection.sock = _connect(target, addresses, connect_timeout, end)
    try:
        headers = {
            "Host": target.host_header,
            "User-Agent": f"vit-pipeline/{__version__}",
            "Accept": "image/*",
            "Accept-Encoding": "identity",
            "Connection": "close",
        }
        connection.request("GET", target.path, headers=headers)
        with connection.getresponse() as response:
            yield response
    finally:
        connection.close()


def _body(response: http.client.HTTPResponse, shown: str, max_bytes: int) -> bytes:
    if response.status != 200:
        known = next((status.phrase for status in HTTPStatus if status == response.status), "")
        raise FetchError(
            f"{shown}: the server answered {response.status} {known}".rstrip() + "; check the URL"
        )
    if response.getheader("Content-Encoding", "").strip().lower() in _COMPRESSED:
        raise FetchError(f"{shown}: sent compressed although asked not to; download it yourself")
    too_large = FetchError(f"{shown}: larger than the {max_bytes} bytes that are read; use a smaller image")
    announced = response.length
    if announced is not None and announced > max_bytes:
        raise too_large
    body = io.BytesIO()
    while chunk := response.read(_CHUNK):
        if body.tell() + len(chunk) > max_bytes:
            raise too_large
        body.write(chunk)
    if announced is not None and body.tell() < announced:
        raise FetchError(f"{shown}: broke off after {body.tell()} of {announced} bytes; try again")
    return body.getvalue()
