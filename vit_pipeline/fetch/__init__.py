"""A URL → bytes, safely: the only place in this package that fetches an address that a user typed.

``urls`` rejects what must not be fetched before anything is sent: by its text, and by every address that the
host has. urllib3 then connects to the address that was checked, so a name that changes between look-ups
changes nothing. Each redirect is checked like the first URL. Leaves out cookies, retries, caches and logins.
"""

from __future__ import annotations

import os
import socket
import ssl
import threading
import time
from concurrent.futures import Future
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from http.client import HTTPException, responses
from io import BytesIO
from typing import Any
from urllib.parse import unquote

import certifi
from urllib3 import HTTPResponse, make_headers
from urllib3 import exceptions as urllib3_errors
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.util import Url, parse_url

from .. import __version__
from ..errors import FetchError, UnsafeURLError, printable, reason
from .urls import HOW_TO_ALLOW, is_public, shortened, take_apart, without_password

MAX_BYTES = 64 * 1024 * 1024  # of an image: a body, unpacked; a file
MAX_REDIRECTS = 10
_MAX_ADDRESSES = 4  # of one host are tried
_CONNECT = 5.0  # seconds for each of them
_ENCODINGS = ("", "identity", "gzip", "x-gzip", "deflate")
_ADVICE = {
    401: "it requires a login; download the file in a browser and pass its path",
    403: "it may reject programs; download the file in a browser and pass its path",
    407: "the proxy requires a login; write it as http://user:password@host:port",
    429: "these are too many requests for it; wait a few minutes and try again",
}


def fetch(
    url: str,
    *,
    allow_private: bool = False,
    proxy: str | None = None,
    max_bytes: int = MAX_BYTES,
    deadline: float = 20.0,
) -> bytes:
    """The body that a URL answers with.

    Args:
        url: http or https.
        allow_private: do not check addresses and ports, for URLs of your own network. Everything else is
            still checked.
        proxy: ``"http://host:port"`` or ``"http://user:password@host:port"``, which may be private; ``"env"``
            for what HTTP_PROXY, HTTPS_PROXY and NO_PROXY say; None ignores the environment. Every URL is
            checked as ever, and a host that can be looked up here must be public. But the proxy looks it up
            again: names that only the proxy knows, or knows otherwise, are for the proxy to judge.
        max_bytes: a longer body is rejected, by its Content-Length or once that much has been unpacked.
        deadline: seconds for everything: look-ups, connections, TLS, redirects, headers, the body.

    Raises:
        UnsafeURLError: the URL, or one that it redirects to, must not be fetched.
        FetchError: it could not be fetched.
    """
    shown = shortened(without_password(url.strip()))
    job = _Job(shown, allow_private, proxy, max_bytes, time.monotonic() + deadline)
    threading.Thread(target=job.run, args=(url,), name="fetch", daemon=True).start()
    try:
        return job.body.result(deadline)
    except (OSError, HTTPException, urllib3_errors.HTTPError, ValueError) as error:
        if isinstance(error, TimeoutError | urllib3_errors.TimeoutError):
            what = f"took longer than {deadline:g} s; try again, or download it yourself"
        elif isinstance(error, urllib3_errors.ProtocolError | urllib3_errors.DecodeError):
            what = "the answer broke off or is damaged; try again, or download it yourself"
        else:
            what = f"cannot be fetched ({reason(error)}); check the URL and your connection"
        raise FetchError(f"{shown}: {what}") from error
    finally:
        job.stop()


@dataclass
class _Job:
    """One fetch, in a thread of its own, so that the deadline holds whatever it waits for.

    A name look-up has no time limit, and a server may drip. A thread that waits for a server ends when
    ``stop`` shuts its connection down; one that waits for a name ends with the resolver's own limit.
    """

    shown: str
    allow_private: bool
    proxy: str | None
    max_bytes: int
    end: float
    sockets: list[socket.socket] = field(default_factory=list)
    body: Future[bytes] = field(default_factory=Future)

    def run(self, url: str) -> None:
        try:
            self.body.set_result(self._follow(url))
        except Exception as error:
            self.body.set_exception(error)

    def stop(self) -> None:
        for sock in self.sockets:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _follow(self, url: str) -> bytes:
        target = take_apart(url, self.shown, self.allow_private)
        for _ in range(MAX_REDIRECTS + 1):
            connection, path, headers = self._prepare(target)
            with closing(connection):
                connection.request("GET", path, headers=headers, preload_content=False)
                with closing(connection.getresponse()) as response:
                    location = response.get_redirect_location()
                    if not location:
                        return self._read(response)
            # Headers arrive as Latin-1; servers that put other letters into them mean UTF-8.
            location = location.encode("latin-1").decode("utf-8", "replace")
            there = f"{self.shown} → {shortened(without_password(location))}"
            target = take_apart(location, there, self.allow_private, base=target.url)
        raise FetchError(f"{self.shown}: more than {MAX_REDIRECTS} redirects; use the final address")

    def _prepare(self, target: Url) -> tuple[_Connection, str, dict[str, str]]:
        """A connection to a checked address, not yet open; what to request on it; the headers."""
        proxy = _proxy(target, self.proxy)
        (host, port), gate = _host_and_port(target), _host_and_port(proxy or target)
        addresses = _look_up(host, port, known_elsewhere=proxy is not None)
        if not self.allow_private and not all(is_public(str(info[4][0])) for info in addresses):
            # Which address it is stays unsaid: a stranger at a web page must not read our name server.
            raise UnsafeURLError(f"{self.shown}: rejected, {host} is not a public address; {HOW_TO_ALLOW}")
        contact = printable(os.environ.get("VIT_PIPELINE_CONTACT", "")).encode("ascii", "ignore").decode()
        headers = {
            "User-Agent": f"vit-pipeline/{__version__}" + (f" ({contact})" if contact else ""),
            "Accept": "image/*",
            "Accept-Encoding": "gzip, deflate",
            "Connection": "close",
        }
        path, secure = target.request_uri, target.scheme == "https"
        connection = _TLSConnection(*gate, ssl_context=_tls()) if secure else _Connection(*gate)
        if proxy:
            addresses = _look_up(*gate)
            login = make_headers(proxy_basic_auth=unquote(proxy.auth)) if proxy.auth else {}
            if secure:
                connection.set_tunnel(host, port, headers=login)
            else:
                path, headers = target._replace(fragment=None).url, headers | login
        connection.job, connection.addresses = self, addresses
        return connection, path, headers

    def _read(self, response: HTTPResponse) -> bytes:
        status = response.status
        if status != 200:
            said = f"{self.shown}: the server answered {status} {responses.get(status, '')}".rstrip()
            advice = "try again later" if 500 <= status < 600 else "check the URL"
            raise FetchError(f"{said}; {_ADVICE.get(status, advice)}")
        if response.headers.get("Content-Encoding", "").strip().lower() not in _ENCODINGS:
            raise FetchError(
                f"{self.shown}: compressed in a way that was not asked for; download it yourself"
            )
        body = BytesIO()
        # read1: http.client's read() takes a negative chunk size for "all there is", however much.
        while (response.length_remaining or 0) <= self.max_bytes >= body.tell():
            if not (chunk := response.read1(64 * 1024, decode_content=True)):
                return body.getvalue()
            body.write(chunk)
        raise FetchError(f"{self.shown}: larger than the {self.max_bytes} bytes allowed; use a smaller image")


class _Connection(HTTPConnection):
    """Connects to the first of the checked ``addresses`` that answers, and looks nothing up."""

    job: _Job
    addresses: list[Any]

    def _new_conn(self) -> socket.socket:
        failure = "the host has no address"
        for family, kind, protocol, _, address in self.addresses[:_MAX_ADDRESSES]:
            sock = socket.socket(family, kind, protocol)
            try:
                sock.settimeout(min(_CONNECT, self.job.end - time.monotonic()))
                sock.connect(address)
                self.job.sockets.append(sock.dup())  # for stop(): TLS takes the socket itself
                sock.settimeout(self.job.end - time.monotonic())
                return sock
            except (OSError, ValueError) as error:  # ValueError: a negative time-out, the deadline has passed
                sock.close()
                failure = f"no connection to {self.host}: {reason(error)}"
        raise OSError(failure)


class _TLSConnection(_Connection, HTTPSConnection):
    """The same with TLS, the certificate verified against the host's name."""


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    context = ssl.create_default_context()  # what this system trusts, a company's own certificates included
    context.load_verify_locations(certifi.where())
    return context


def _host_and_port(url: Url) -> tuple[str, int]:
    return str(url.host).strip("[]"), url.port or (443 if url.scheme == "https" else 80)


def _look_up(host: str, port: int, known_elsewhere: bool = False) -> list[Any]:
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        if known_elsewhere:
            return []
        raise OSError(f"no such host, {host}") from error


def _proxy(target: Url, proxy: str | None) -> Url | None:
    if proxy == "env":
        from requests.utils import get_environ_proxies, select_proxy

        proxy = select_proxy(target.url, get_environ_proxies(target.url))
    if not proxy:
        return None
    with suppress(ValueError):  # its message may contain a password
        found = parse_url(proxy if "://" in proxy else f"http://{proxy}")
        if found.scheme == "http" and found.host:
            return found
    raise FetchError(f"the proxy {without_password(proxy)} cannot be used; write it as http://host:port")
