"""No URL leads to a connection to an address that is not public, or can be read in two ways."""

from __future__ import annotations

import ipaddress
import os
import socket
from typing import Any
from urllib.parse import urlsplit

import idna
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vit_pipeline.errors import FetchError, ImageError, UnsafeURLError
from vit_pipeline.fetch import fetch
from vit_pipeline.fetch.urls import is_public, take_apart
from vit_pipeline.images import read_image, source_name

EXAMPLES = int(os.environ.get("VIT_PIPELINE_FUZZ_EXAMPLES", "50"))
fuzz = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=EXAMPLES <= 1000,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

PIECES = st.sampled_from(
    "http https HTTP : / // /// @ \\ ? # % %2f %00 %40 [ ] [::1] [::ffff:127.0.0.1] 127.0.0.1 127.1 0x7f.1 0 "
    "2130706433 localhost example.com user:pass "
    ". 。 ① ﹕ ：／ ＠ :80 :443 :22 :0 :99999 [fe80::1%25lo] é 猫 \t \n".split(" ")
)
URLS = st.builds(
    lambda start, pieces: start + "".join(pieces),
    st.sampled_from(["http://", "https://", "http:", ""]),
    st.lists(st.one_of(PIECES, st.text(max_size=3)), max_size=8),
)


@pytest.fixture
def dialled(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every name is 127.0.0.1 or 10.0.0.1; a connection is noted, and refused."""
    calls: list[Any] = []

    def getaddrinfo(host: str, port: int, **kwargs: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"{(127, 10)[len(host) % 2]}.0.0.1", port))]

    def connect(self: socket.socket, address: Any) -> None:
        calls.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(socket.socket, "connect", connect)
    return calls


@fuzz
@given(url=URLS)
def test_nothing_is_connected_to(url: str, dialled: list[Any]) -> None:
    with pytest.raises(FetchError) as caught:
        fetch(url, deadline=5)
    assert "\n" not in str(caught.value)
    with pytest.raises(ImageError):
        read_image(url)
    assert not dialled


@fuzz
@given(url=URLS)
def test_two_parsers_agree_about_the_host(url: str) -> None:
    try:
        target = take_apart(url, url, allow_private=True)
    except UnsafeURLError:
        return
    host = str(target.host)
    other = urlsplit(url)
    name = other.hostname or ""
    assert (name if name.isascii() else idna.encode(name, uts46=True).decode()).strip("[]") == host.strip(
        "[]"
    )
    assert other.port == target.port
    assert (host + target.request_uri).isascii()
    assert target.request_uri.startswith("/")
    assert not set(host + target.request_uri) & set(" \r\n\t\\#")
    assert not set(host) & set("@%/?")


@fuzz
@given(number=st.one_of(st.integers(0, 2**32 - 1), st.integers(0, 2**128 - 1)))
def test_public_addresses_carry_no_other(number: int) -> None:
    ip = ipaddress.ip_address(number)
    if is_public(str(ip)):
        assert ip.is_global
        for name in ("is_multicast", "is_private", "is_loopback", "is_link_local", "is_reserved"):
            assert not getattr(ip, name), name
        for name in ("ipv4_mapped", "sixtofour", "teredo"):
            assert getattr(ip, name, None) is None


@fuzz
@given(text=st.one_of(URLS, st.text(max_size=40)))
def test_names_are_one_line(text: str) -> None:
    name = source_name(text)
    assert name.isprintable()
    assert "user:pass" not in source_name("http://user:pass@" + text.replace("user:pass", ""))
