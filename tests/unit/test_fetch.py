"""Fetching: what must not be fetched never is, and what may be fetched ends in time and within its size.

A canary listens on the loopback interface; whatever the vector, it must not be connected to.
"""

from __future__ import annotations

import gzip
import ipaddress
import random
import socket
import ssl
import struct
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sample_images
from web import Talk, Web, body, redirect, serving, talking

from vit_pipeline import __version__
from vit_pipeline import fetch as fetch_module
from vit_pipeline.errors import FetchError, ImageError, UnsafeURLError
from vit_pipeline.fetch import fetch
from vit_pipeline.fetch.urls import is_public
from vit_pipeline.images import read_image

TLS = Path(__file__).parents[1] / "golden" / "tls"
IMAGE = sample_images.encoded(sample_images.gradient(), "PNG")
PUBLIC = "93.184.215.14"  # ``web`` plays it
PROXIES = [
    name
    for lower in ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
    for name in (lower, lower.upper())
]


@pytest.fixture(autouse=True)
def no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*PROXIES, "REQUEST_METHOD"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def web() -> Iterator[Web]:
    with serving() as running:
        running.pages["/x.png"] = body(IMAGE)
        yield running


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[list[str]]]:
    """Host name → what each look-up of it answers, the last for all that follow. Other names as ever."""
    answers: dict[str, list[list[str]]] = {"public.test": [[PUBLIC]]}
    real = socket.getaddrinfo

    def getaddrinfo(host: str, port: int, *args: Any, **kwargs: Any) -> list[Any]:
        if host not in answers:
            return real(host, port, *args, **kwargs)
        found = answers[host].pop(0) if len(answers[host]) > 1 else answers[host][0]
        return [info for address in found for info in real(address, port, type=socket.SOCK_STREAM)]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return answers


@pytest.fixture
def dialled(monkeypatch: pytest.MonkeyPatch, web: Web) -> list[str]:
    """The addresses that are connected to; the public one is answered by ``web``."""
    seen: list[str] = []
    real = socket.socket.connect

    def connect(self: socket.socket, address: Any) -> None:
        seen.append(address[0])
        real(self, ("127.0.0.1", web.port) if address[0] == PUBLIC else address)

    monkeypatch.setattr(socket.socket, "connect", connect)
    return seen


def message(url: str, **options: Any) -> str:
    """What a fetch that must fail says."""
    with pytest.raises(FetchError) as caught:
        fetch(url, **{"deadline": 30.0, **options})
    assert "\n" not in str(caught.value)
    return str(caught.value)


def wait_for(condition: Any, limit: float = 30) -> None:
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@contextmanager
def memory() -> Iterator[Callable[[], int]]:
    """Afterwards: how many bytes at most Python had more than before."""
    peak = 0
    tracemalloc.start()
    try:
        yield lambda: peak
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()


# -- what must not be fetched -----------------------------------------------------------------------------

#: With the canary's own port in the place of {port}, and with none: both must be rejected before anything is
#: sent. {digits} is the port without its colon.
VECTORS = """
http://127.0.0.1{port}/            http://localhost{port}/           http://LOCALHOST{port}/
http://localhost.{port}/           http://127.1{port}/               http://127.0.1{port}/
http://2130706433{port}/           http://0x7f000001{port}/          http://0x7f.0.0.1{port}/
http://0X7F.1{port}/               http://0177.0.0.1{port}/          http://017700000001{port}/
http://00000177.0.0.1{port}/       http://127.0.0.1.{port}/          http://127.0.0.0x1{port}/
http://0{port}/                    http://0.0.0.0{port}/             http://127.255.255.254{port}/
http://010.0.0.1{port}/            http://08.8.8.8{port}/            http://134744072{port}/
http://①②⑦.⓪.⓪.①{port}/            http://１２７.０.０.１{port}/     http://127。0。0。1{port}/
http://ｌｏｃａｌｈｏｓｔ{port}/        http://ⓛocalhost{port}/           http://lo%63alhost{port}/
http://[::1]{port}/                http://[::]{port}/                http://[0:0:0:0:0:0:0:1]{port}/
http://[::ffff:127.0.0.1]{port}/   http://[::ffff:7f00:1]{port}/     http://[::127.0.0.1]{port}/
http://[64:ff9b::127.0.0.1]{port}/ http://[64:ff9b:1::7f00:1]{port}/ http://[2002:7f00:1::]{port}/
http://[2001:0:7f00:1::]{port}/    http://[::ffff:0:127.0.0.1]{port}/
http://[0:0:0:0:0:ffff:7f00:0001]{port}/                             http://[::FFFF:169.254.169.254]{port}/
http://[fe80::1%25lo]{port}/       http://[fe80::1%lo]{port}/        http://[2606:4700::5efe:127.0.0.1]{port}/
http://[fc00::1]{port}/            http://[fec0::1]{port}/           http://[ff02::1]{port}/
http://[2001:db8::1]{port}/        http://[3fff::1]{port}/           http://[5f00::1]{port}/
http://[100::1]{port}/             http://[2620:4f:8000::1]{port}/   http://[v1.x]{port}/
http://169.254.169.254{port}/latest/meta-data/                       http://[fd00:ec2::254]{port}/
http://2852039166{port}/           http://0xa9fea9fe{port}/          http://0251.0376.0251.0376{port}/
http://100.100.100.200{port}/      http://168.63.129.16{port}/       http://192.168.1.1{port}/
http://10.0.0.1{port}/             http://172.16.0.1{port}/          http://192.0.0.192{port}/
http://198.18.0.1{port}/           http://224.0.0.1{port}/           http://255.255.255.255{port}/
http://192.88.99.1{port}/          http://192.31.196.1{port}/        http://192.0.0.9{port}/
http://user@127.0.0.1{port}/       http://example.com@127.0.0.1{port}/
http://@127.0.0.1{port}/           http://user:pass@localhost{port}/ http://:@127.0.0.1{port}/
http://127.0.0.1{port}@example.com/                                  http://example.com:80@127.0.0.1{port}/
http://example.com\\@127.0.0.1{port}/                                 http://127.0.0.1{port}\\@example.com/
http://127.0.0.1{port}#@example.com/                                 http://127.0.0.1{port}?@example.com/
http://127.0.0.1{port}\\.example.com/                                 http://example.com%40127.0.0.1{port}/
http://127.0.0.1%2f@example.com/   http://%31%32%37.0.0.1{port}/     http://127.0.0.1%00.example.com/
http://127.0.0.1%0d%0a{port}/      http://127.0.0.1&.example.com/    http://127.0.0.1,example.com/
http://[127.0.0.1]{port}/          http://127.0.0.1:{digits}:80/     http://[::1{port}/
http://a[::1]{port}/               http://[::1]a{port}/              http://[::1].example.com{port}/
http:127.0.0.1{port}/              http:/127.0.0.1{port}/            http:///127.0.0.1{port}/
http:\\\\127.0.0.1{port}/            https:127.0.0.1{port}             ht{tab}tp://127.0.0.1{port}/
http://127.0.0.1{tab}{port}/          http://127.0.0{lf}.1{port}/         http://127.0.0.1:99999/
//127.0.0.1{port}/                 https://127.0.0.1{port}/          https://localhost{port}/
file:///etc/passwd                 file://127.0.0.1/etc/passwd       gopher://127.0.0.1{port}/_GET
ftp://127.0.0.1{port}/             dict://127.0.0.1{port}/           ldap://127.0.0.1{port}/
jar:http://127.0.0.1{port}/        unix:///var/run/docker.sock       ws://127.0.0.1{port}/
http://internal.test{port}/        http://mixed.test{port}/          http://canary.test.{port}/
http://metadata.test{port}/        http://six.test{port}/            http://mapped.test{port}/
""".split()
INSIDE = {
    "internal.test": "127.0.0.1",
    "canary.test.": "127.0.0.1",
    "localhost.": "127.0.0.1",
    "metadata.test": "169.254.169.254",
    "six.test": "::1",
    "mapped.test": "::ffff:127.0.0.1",
}


def spelled(vector: str, port: str) -> str:
    for mark, text in {"port": port and f":{port}", "digits": port, "tab": "\t", "lf": "\n"}.items():
        vector = vector.replace("{" + mark + "}", text)
    return vector


@pytest.mark.parametrize("vector", VECTORS)
def test_the_canary_is_never_reached(vector: str, names: dict[str, list[list[str]]]) -> None:
    names |= {name: [[address]] for name, address in INSIDE.items()} | {"mixed.test": [[PUBLIC, "127.0.0.1"]]}
    with serving() as canary:
        for port in (str(canary.port), ""):
            url = spelled(vector, port)
            with pytest.raises(UnsafeURLError) as caught:
                fetch(url, deadline=30)
            assert "\n" not in str(caught.value)
            with pytest.raises(ImageError):
                read_image(url)
        assert canary.connections == 0


def test_the_canary_is_never_reached_by_a_redirect(
    web: Web, names: dict[str, list[list[str]]], dialled: list[str]
) -> None:
    names |= {name: [[address]] for name, address in INSIDE.items()} | {"mixed.test": [[PUBLIC, "127.0.0.1"]]}
    with serving() as canary:
        for vector in VECTORS:
            if "{lf}" in vector:  # ends the header
                continue
            for port in (str(canary.port), ""):
                web.pages["/go"] = redirect(spelled(vector, port).encode().decode("latin-1"))
                with pytest.raises(FetchError) as caught:
                    fetch("http://public.test/go", deadline=30)
                # "http:127.0.0.1" is relative where it redirects: the public server is asked for that path.
                assert isinstance(caught.value, UnsafeURLError) or "404" in str(caught.value), vector
        assert canary.connections == 0
    assert set(dialled) == {PUBLIC}


def test_there_are_many_vectors() -> None:
    assert len(set(VECTORS)) > 110


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1",
        "no address",
        "fe80::1%lo",
        "2606:4700::1111%1",
        "2606:4700::5efe:8.8.8.8",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
    ],
)
def test_addresses_that_are_not_public(text: str) -> None:
    assert not is_public(text)


@pytest.mark.parametrize("text", ["8.8.8.8", "1.1.1.1", "203.0.114.1", "2606:4700::1111", "2a00:1450::1"])
def test_addresses_that_are_public(text: str) -> None:
    assert is_public(text)


#: microsoft-antissrf 1.0.0, ``IPAddressRanges.recommended_latest``: what it denies, we deny.
DENIED = """
0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 168.63.129.16/32 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24
192.0.2.0/24 192.31.196.0/24 192.52.193.0/24 192.88.99.0/24 192.168.0.0/16 192.175.48.0/24 198.18.0.0/15
198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 240.0.0.0/4 ::1/128 ::/128 64:ff9b::/96 64:ff9b:1::/48 100::/64
100:0:0:1::/64 2001::/23 2001:db8::/32 2002::/16 2620:4f:8000::/48 3fff::/20 5f00::/16 fc00::/7 fe80::/10
fec0::/10 ff00::/8
""".split()


@pytest.mark.parametrize("text", DENIED)
def test_no_range_that_a_maintained_list_denies_is_public(text: str) -> None:
    network, chance = ipaddress.ip_network(text), random.Random(text)
    size = network.num_addresses
    for place in [0, size - 1, *(chance.randrange(size) for _ in range(500))]:
        assert not is_public(str(network[place]))


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://user@public.test/", "user name"),
        ("http://public.test:22/", "port 22"),
        ("https://public.test:8443/", "port 8443"),
        ("http://public.test/" + "x" * 8000, "longer than 8000"),
    ],
    ids=["user", "22", "8443", "long"],
)
@pytest.mark.usefixtures("names")
def test_urls_that_are_rejected_although_their_host_is_public(
    url: str, words: str, dialled: list[str]
) -> None:
    with pytest.raises(UnsafeURLError, match=words):
        fetch(url)
    assert dialled == []


def test_the_rejection_names_both_ways_to_allow_it_and_no_address(names: dict[str, list[list[str]]]) -> None:
    names["intranet.test"] = [["10.1.2.3"]]
    said = message("http://intranet.test/x.png")
    assert "intranet.test" in said
    assert "--allow-private-urls" in said
    assert "allow_private=True" in said
    assert "10.1.2.3" not in said


def test_the_address_that_was_checked_is_the_one_connected_to(
    names: dict[str, list[list[str]]], dialled: list[str], web: Web
) -> None:
    """Fails as well when urllib3 no longer asks ``_new_conn`` for its connections."""
    names["rebind.test"] = [[PUBLIC], ["127.0.0.1"]]
    assert fetch("http://rebind.test/x.png") == IMAGE
    assert dialled == [PUBLIC]
    assert names["rebind.test"] == [["127.0.0.1"]]  # looked up once
    web.pages["/again"] = redirect("http://rebind.test/x.png")
    assert "not a public address" in message("http://public.test/again")
    assert dialled == [PUBLIC, PUBLIC]
    names["rebind.test"] = [[PUBLIC], ["127.0.0.1"]]
    message("https://rebind.test/x.png")  # no TLS there
    assert dialled == [PUBLIC, PUBLIC, PUBLIC]


def test_passwords_are_not_in_messages() -> None:
    for url in ("http://user:hidden@host/", "http://user:hidden@host:99999/", "http://user:hid\\den@[::1/"):
        said = message(url)
        assert "hidden" not in said
        assert "hid\\den" not in said
    for proxy in ("http://user:hidden@host:99999", "socks5://user:hidden@host:1080", "http://user:hidden@"):
        assert "hidden" not in message("http://public.test/", proxy=proxy)


# -- what may be fetched ----------------------------------------------------------------------------------


def test_an_image_is_fetched(web: Web) -> None:
    assert fetch(web.address + "/x.png", allow_private=True) == IMAGE
    path, headers = web.seen[0]
    assert path == "/x.png"
    assert headers == {
        "host": f"127.0.0.1:{web.port}",
        "user-agent": f"vit-pipeline/{__version__}",
        "accept": "image/*",
        "accept-encoding": "gzip, deflate",
        "connection": "close",
    }
    image = read_image(web.address + "/x.png", allow_private=True)
    assert image.tobytes() == sample_images.gradient().tobytes()
    with pytest.raises(UnsafeURLError):
        read_image(web.address + "/x.png")


def test_a_contact_in_the_user_agent(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIT_PIPELINE_CONTACT", "me@example.org\r\nX-Other: 1 猫")
    assert fetch(web.address + "/x.png", allow_private=True) == IMAGE
    _, headers = web.seen[0]
    assert headers["user-agent"].startswith(f"vit-pipeline/{__version__} (me@example.org ")
    assert "x-other" not in headers


def test_paths_queries_and_fragments(web: Web) -> None:
    web.pages["/%E7%8C%AB%20a.png?q=%E7%8C%AB&b=%5B1%5D%7C%2F"] = body(IMAGE)  # as requests writes it
    assert fetch(web.address + "/猫%20a.png?q=猫&b=[1]|%2f#top", allow_private=True) == IMAGE
    web.pages["/?x=1"] = body(b"root")
    assert fetch(web.address + "?x=1", allow_private=True) == b"root"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed(status: int, web: Web) -> None:
    web.pages["/a"] = redirect("there/b", status)
    web.pages["/there/b"] = redirect("c", status)  # relative to the redirect before it
    web.pages["/there/c"] = redirect(web.address + "/猫.png".encode().decode("latin-1"), status)
    web.pages["/%E7%8C%AB.png"] = redirect("/x.png#part", status)
    assert fetch(web.address + "/a", allow_private=True) == IMAGE


def test_ten_redirects_are_followed_and_eleven_are_not(web: Web) -> None:
    web.pages |= {f"/{step}": redirect(f"/{step + 1}") for step in range(1, 11)} | {"/11": body(IMAGE)}
    assert fetch(web.address + "/1", allow_private=True) == IMAGE
    web.pages["/0"] = redirect("/1")
    web.seen.clear()
    assert "10" in message(web.address + "/0", allow_private=True)
    assert len(web.seen) == 11
    web.pages["/loop"] = redirect("/loop")
    web.seen.clear()
    message(web.address + "/loop", allow_private=True)
    assert len(web.seen) == 11


def chunks(*parts: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def test_chunked_bodies(web: Web) -> None:
    chunked = chunks(IMAGE[:9], IMAGE[9:])
    web.pages["/chunked"] = body(chunked, content_length="", transfer_encoding="chunked")
    assert fetch(web.address + "/chunked", allow_private=True) == IMAGE
    web.pages["/broken"] = body(chunked[:-20], content_length="", transfer_encoding="chunked")
    assert "broke off" in message(web.address + "/broken", allow_private=True)


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize(
    ("packed", "encoding"),
    [
        (gzip.compress(IMAGE), "gzip"),
        (gzip.compress(IMAGE), "X-GZip"),
        (gzip.compress(IMAGE[:99]) + gzip.compress(IMAGE[99:]), "gzip"),
        (zlib.compress(IMAGE), "deflate"),
        (raw_deflate(IMAGE), "deflate"),
        (IMAGE, "identity"),
    ],
)
def test_packed_bodies_are_unpacked(packed: bytes, encoding: str, web: Web) -> None:
    web.pages["/packed"] = body(packed, content_encoding=encoding)
    assert fetch(web.address + "/packed", allow_private=True) == IMAGE
    pieces = [packed[at : at + 7] for at in range(0, len(packed), 7)]
    web.pages["/chunked"] = body(
        chunks(*pieces), content_encoding=encoding, content_length="", transfer_encoding="chunked"
    )
    assert fetch(web.address + "/chunked", allow_private=True) == IMAGE


def test_a_body_may_be_as_long_as_the_cap_and_no_longer(web: Web) -> None:
    for data, headers in [
        (bytes(2000), {}),
        (bytes(2000), {"content_length": ""}),
        (gzip.compress(bytes(2000)), {"content_encoding": "gzip"}),
        (zlib.compress(bytes(2000)), {"content_encoding": "deflate"}),
    ]:
        web.pages["/x"] = body(data, **headers)
        assert fetch(web.address + "/x", allow_private=True, max_bytes=2000) == bytes(2000)
        assert "larger" in message(web.address + "/x", allow_private=True, max_bytes=1999)


@pytest.mark.slow
def test_a_gzip_bomb_stops_at_the_cap(web: Web) -> None:
    packer = zlib.compressobj(9, wbits=31)
    bomb = b"".join(packer.compress(bytes(1_000_000)) for _ in range(400)) + packer.flush()
    web.pages["/bomb"] = body(bomb, content_encoding="gzip")
    with memory() as peak:
        assert "larger" in message(web.address + "/bomb", allow_private=True, max_bytes=2_000_000)
    assert peak() < 20_000_000
    # Not said to be packed, it is bytes like any other.
    web.pages["/plain"] = body(bomb)
    assert fetch(web.address + "/plain", allow_private=True) == bomb


def test_the_second_address_is_tried_when_the_first_takes_no_connection(
    web: Web, names: dict[str, list[list[str]]]
) -> None:
    names["two.test"] = [["127.0.0.2", "127.0.0.1"]]
    web.pages["/x"] = body(b"here")
    assert fetch(f"http://two.test:{web.port}/x", allow_private=True) == b"here"
    assert web.seen[0][1]["host"] == f"two.test:{web.port}"


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The certificate of images.test is one that this system trusts."""
    monkeypatch.setenv("SSL_CERT_FILE", str(TLS / "certificate.pem"))
    fetch_module._tls.cache_clear()
    yield
    fetch_module._tls.cache_clear()


def secure_web() -> Any:
    return serving(str(TLS / "certificate.pem"), str(TLS / "key.pem"))


def test_a_certificate_that_nobody_signed(names: dict[str, list[list[str]]]) -> None:
    names["images.test"] = [["127.0.0.1"]]
    with secure_web() as web:
        assert "certificate" in message(f"https://images.test:{web.port}/x.png", allow_private=True)
        assert web.seen == []


@pytest.mark.usefixtures("trusted")
def test_tls_is_verified_against_the_name(names: dict[str, list[list[str]]]) -> None:
    names["images.test"] = names["images.test."] = names["other.test"] = [["127.0.0.1"]]
    with secure_web() as web:
        web.pages["/x.png"] = body(IMAGE)
        for host in ("images.test", "images.test.", "IMAGES.test"):
            assert fetch(f"https://{host}:{web.port}/x.png", allow_private=True) == IMAGE
        for host in ("other.test", "127.0.0.1"):
            assert "certificate" in message(f"https://{host}:{web.port}/x.png", allow_private=True)
        assert [path for path, _ in web.seen] == ["/x.png"] * 3


# -- proxies ----------------------------------------------------------------------------------------------


@pytest.fixture
def proxy() -> Iterator[Web]:
    with serving() as running:
        yield running


def test_no_proxy_of_the_environment_is_asked(web: Web, proxy: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES[:-2]:
        monkeypatch.setenv(name, proxy.address)
    assert fetch(web.address + "/x.png", allow_private=True) == IMAGE
    assert read_image(web.address + "/x.png", allow_private=True).size == sample_images.gradient().size
    assert proxy.connections == 0


@pytest.mark.parametrize("source", ["argument", "bare", "http_proxy", "HTTP_PROXY", "ALL_PROXY"])
def test_a_proxy_is_used_where_it_is_asked_for(
    source: str,
    web: Web,
    proxy: Web,
    names: dict[str, list[list[str]]],
    dialled: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names["alone.test"] = [[]]  # known to the proxy alone
    proxy.pages["http://public.test/x.png?a=1"] = redirect("http://alone.test/y.png")
    proxy.pages["http://alone.test/y.png"] = body(IMAGE)
    given = {"argument": proxy.address, "bare": f"127.0.0.1:{proxy.port}"}.get(source, "env")
    if given == "env":
        monkeypatch.setenv(source, proxy.address)
    assert fetch("http://public.test/x.png?a=1", proxy=given) == IMAGE
    assert [headers["host"] for _, headers in proxy.seen] == ["public.test", "alone.test"]
    assert set(dialled) == {"127.0.0.1"}  # the proxy, which may be private
    assert web.connections == 0


@pytest.mark.usefixtures("trusted")
def test_https_goes_through_a_tunnel(names: dict[str, list[list[str]]], proxy: Web) -> None:
    names["images.test"] = names["other.test"] = [[PUBLIC]]
    given = f"http://us%20er:p%40ss@127.0.0.1:{proxy.port}"
    with secure_web() as web:
        proxy.tunnel = web.port
        web.pages["/x.png"] = body(IMAGE)
        assert fetch("https://images.test/x.png", proxy=given) == IMAGE
        ((asked, login),) = proxy.seen
        assert asked == "images.test:443"
        assert login["proxy-authorization"] == "Basic dXMgZXI6cEBzcw=="
        assert "proxy-authorization" not in web.seen[0][1]  # nor anything else of the proxy's
        assert web.seen[0][1]["host"] == "images.test"
        assert "certificate" in message("https://other.test/x.png", proxy=given)
        assert len(web.seen) == 1


def test_a_login_is_sent_to_the_proxy(names: dict[str, list[list[str]]], proxy: Web) -> None:
    proxy.pages["http://public.test/x.png"] = body(IMAGE)
    assert fetch("http://public.test/x.png#top", proxy=f"http://a:b@127.0.0.1:{proxy.port}") == IMAGE
    assert proxy.seen[0][1]["proxy-authorization"] == "Basic YTpi"


def test_no_proxy_names_what_is_asked_for_directly(
    web: Web,
    proxy: Web,
    names: dict[str, list[list[str]]],
    dialled: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names["images.public.test"] = [[PUBLIC]]
    proxy.pages["http://public.test/x.png"] = body(b"by the proxy")
    for name in ("HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, proxy.address)
    monkeypatch.setenv("NO_PROXY", "other.test, .images.public.test,10.0.0.0/8")
    assert fetch("http://public.test/x.png", proxy="env") == b"by the proxy"
    assert fetch("http://images.public.test/x.png", proxy="env") == IMAGE
    assert proxy.connections == 1
    with pytest.raises(UnsafeURLError):  # and directly means checked and pinned
        fetch("http://10.0.0.1/x.png", proxy="env")
    assert fetch("http://public.test/x.png", proxy=proxy.address) == b"by the proxy"  # asked for by name
    assert dialled[1] == PUBLIC


@pytest.mark.parametrize("vector", VECTORS)
def test_a_proxy_is_not_asked_for_what_must_not_be_fetched(
    vector: str, proxy: Web, names: dict[str, list[list[str]]]
) -> None:
    names |= {name: [[address]] for name, address in INSIDE.items()} | {"mixed.test": [[PUBLIC, "127.0.0.1"]]}
    for port in ("8765", ""):
        with pytest.raises(UnsafeURLError):
            fetch(spelled(vector, port), proxy=proxy.address)
    assert proxy.connections == 0


def test_proxies_that_do_not_work(names: dict[str, list[list[str]]], proxy: Web) -> None:
    url = "http://public.test/x.png"
    for given in (
        "socks5://127.0.0.1:1080",
        "https://127.0.0.1:1",
        "http://",
        "http://[::1",
        "127.0.0.1:99999",
    ):
        assert "http://host:port" in message(url, proxy=given)
    proxy.pages[url] = body(b"", 407)
    assert "user:password" in message(url, proxy=proxy.address)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    for asked in (url, "https://public.test/x.png"):
        assert "no connection to 127.0.0.1" in message(asked, proxy=f"http://127.0.0.1:{port}")
    assert "no such host, no-such-proxy.invalid" in message(url, proxy="http://no-such-proxy.invalid:3128")
    assert "403" in message("https://public.test/", proxy=proxy.address)


# -- what answers badly -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (body(b"gone", 404), "404 Not Found; check the URL"),
        (body(b"gone", 410), "check the URL"),
        (body(b"no", 401), "browser"),
        (body(b"no", 403), "browser"),
        (body(b"no", 429, Retry_After="1"), "wait"),
        (body(b"", 500), "later"),
        (body(b"", 503), "later"),
        (body(b"", 599), "later"),
        (body(b"", 206), "206"),
        (body(b"", 304), "304"),
        (body(b"", 302), "302"),
        (body(b"", 799), "answered 799; check"),
        (body(b"no", 404, content_encoding="gzip"), "404"),
        (body(IMAGE, content_encoding="br"), "not asked for"),
        (body(IMAGE, content_encoding="zstd"), "not asked for"),
        (body(gzip.compress(gzip.compress(IMAGE)), content_encoding="gzip, gzip"), "not asked for"),
        (body(IMAGE, content_encoding="gzip"), "damaged"),
        (body(IMAGE, content_encoding="deflate"), "damaged"),
        (body(gzip.compress(bytes(3_000)), content_encoding="gzip"), "larger than"),
        (body(zlib.compress(bytes(3_000)), content_encoding="deflate"), "larger than"),
        (body(IMAGE, content_length=str(10 * 1024**3)), "larger than"),
        (body(IMAGE, content_length=str(len(IMAGE) + 9)), "broke off"),
        (body(b"x" * 2001), "larger than the 2000 bytes"),
        (body(b"x" * 2001, content_length=""), "larger than the 2000 bytes"),
        (redirect("http://[::1"), "not a valid URL"),
        (redirect("http://a b/"), "space"),
        (redirect("http://u:p@127.0.0.1/"), "password"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_answers_end_in_one_line(answer: Any, words: str, web: Web) -> None:
    web.pages["/x"] = answer
    assert words in message(web.address + "/x", allow_private=True, max_bytes=2000)
    assert len(web.seen) == 1  # nothing is repeated


@pytest.mark.parametrize("status", [401, 403, 429, 500])
def test_the_url_is_not_blamed_for_what_the_server_does(status: int, web: Web) -> None:
    web.pages["/x"] = body(b"", status)
    assert "check the URL" not in message(web.address + "/x", allow_private=True)


def test_html_is_told_from_an_image(web: Web) -> None:
    web.pages["/page"] = body(b"<!doctype html><title>cat</title>", content_type="image/png")
    with pytest.raises(ImageError, match="HTML page"):
        read_image(web.address + "/page", allow_private=True)


def test_no_server_and_no_host() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
    assert "no connection" in message(url, allow_private=True)
    assert "no such host" in message("http://no-such-host.invalid/")


# -- servers that mean harm -------------------------------------------------------------------------------

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
GZIP = OK + b"Content-Encoding: gzip\r\n\r\n"
RECORD = b"\x16\x03\x03\x40\x00"  # the start of a TLS record of 16 KiB


def say(*pieces: bytes, hang: bool = False, read: bool = True) -> Talk:
    """Send these pieces, then hang up, or wait."""

    def talk(connection: socket.socket, closing: threading.Event) -> None:
        if read:
            connection.recv(10_000)
        for piece in pieces:
            connection.sendall(piece)
        if hang:
            closing.wait()

    return talk


def drip(before: bytes, piece: bytes, read: bool = True) -> Talk:
    """The same small piece for ever, with pauses."""

    def talk(connection: socket.socket, closing: threading.Event) -> None:
        say(before, read=read)(connection, closing)
        while not closing.wait(0.02):
            connection.sendall(piece)

    return talk


def flood(before: bytes, piece: bytes) -> Talk:
    """The same piece for ever, as fast as it is taken."""

    def talk(connection: socket.socket, closing: threading.Event) -> None:
        say(before)(connection, closing)
        block = piece * (20_000 // len(piece) + 1)
        while not closing.is_set():
            connection.sendall(block)

    return talk


def reset(connection: socket.socket, closing: threading.Event) -> None:
    connection.recv(10_000)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


HOSTILE = {
    "silent": say(hang=True, read=False),
    "silent after the request": say(hang=True),
    "hangs up": say(),
    "hangs up unread": say(read=False),
    "resets": reset,
    "another protocol": say(b"SSH-2.0-OpenSSH_9.6\r\n"),
    "zeros": say(bytes(100_000), hang=True),
    "HTTP/0.9": say(IMAGE),
    "HTTP/9.9": say(b"HTTP/9.9 200 OK\r\n\r\n"),
    "status line cut": say(b"HTTP/1.1", hang=True),
    "status line that drips": drip(b"HTTP/1.1 ", b"0"),
    "status line without an end": flood(b"HTTP/1.1 200 ", b"0"),
    "status that is no number": say(b"HTTP/1.1 OK 200\r\n\r\n"),
    "status of 999999": say(b"HTTP/1.1 999999 OK\r\n\r\n"),
    "headers cut": say(OK + b"X: ", hang=True),
    "header that drips": drip(OK, b"X"),
    "headers that drip": drip(OK, b"X: y\r\n"),
    "headers without an end": flood(OK, b"X: y\r\n"),
    "header without an end": flood(OK, b"X"),
    "headers that are none": say(OK + b"\x00\xff: \x01\r\n: :\r\n \r\nno colon\r\n\r\n", hang=True),
    "headers of 6 MB": say(OK + b"X: %s\r\n" % (b"y" * 65_000) * 99, hang=True),
    "100 Continue that drips": drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "100 Continue for ever": flood(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "101 Switching": say(b"HTTP/1.1 101 Switching Protocols\r\n\r\n", hang=True),
    "204 with a body": say(b"HTTP/1.1 204 No Content\r\nContent-Length: 9\r\n\r\n", hang=True),
    "no body": say(OK + b"\r\n", hang=True),
    "no body of a length": say(OK + b"Content-Length: 100000\r\n\r\n", hang=True),
    "body that drips": drip(OK + b"\r\n", b"x"),
    "body of a length that drips": drip(OK + b"Content-Length: 100000\r\n\r\n", b"x"),
    "body without an end": flood(OK + b"\r\n", b"x"),
    "length too long": say(OK + b"Content-Length: 9\r\n\r\n12345678"),
    "length of an exabyte": flood(OK + b"Content-Length: 1152921504606846976\r\n\r\n", b"x"),
    "length of 5000 digits": flood(OK + b"Content-Length: %s\r\n\r\n" % (b"9" * 5000), b"x"),
    "length below zero": flood(OK + b"Content-Length: -1\r\n\r\n", b"x"),
    "length that is none": flood(OK + b"Content-Length: 1e3\r\n\r\n", b"x"),
    "two lengths": flood(OK + b"Content-Length: 10\r\nContent-Length: 20\r\n\r\n", b"x"),
    "length and chunks": flood(OK + b"Content-Length: 10\r\nTransfer-Encoding: chunked\r\n\r\n", b"x"),
    "chunk size cut": say(CHUNKED + b"f", hang=True),
    "chunk size that drips": drip(CHUNKED, b"0"),
    "chunk size without an end": flood(CHUNKED, b"0"),
    "chunk size below zero": flood(CHUNKED + b"-1\r\n", b"x"),
    "chunk size below zero, often": flood(CHUNKED, b"-2\r\nx\r\n"),
    "chunk size of an exabyte": flood(CHUNKED + b"fffffffffffffff\r\n", b"x"),
    "chunk size that is none": say(CHUNKED + b"xyz\r\n"),
    "chunk cut": say(CHUNKED + b"9\r\nx"),
    "chunks that drip": drip(CHUNKED, b"1\r\nx\r\n"),
    "chunks of one byte": flood(CHUNKED, b"1\r\nx\r\n"),
    "chunk extension without an end": flood(CHUNKED + b"1;", b"x"),
    "chunk extension that drips": drip(CHUNKED + b"1;", b"x"),
    "chunks, and trailers that drip": drip(CHUNKED + b"1\r\nx\r\n0\r\n", b"X: y\r\n"),
    "chunks, and trailers without an end": flood(CHUNKED + b"1\r\nx\r\n0\r\n", b"X: y\r\n"),
    "gzip that drips": drip(GZIP, gzip.compress(b"")[:1]),
    "gzip that is none": flood(GZIP, b"x"),
    "gzip of nothing for ever": flood(GZIP, gzip.compress(b"")),
    "gzip of zeros for ever": flood(GZIP, gzip.compress(bytes(10_000_000))),
    "gzip header without an end": flood(GZIP + b"\x1f\x8b\x08\x08" + bytes(6), b"x"),
    "gzip, gzip, gzip": flood(OK + b"Content-Encoding: gzip, gzip, gzip\r\n\r\n", b"x"),
    "redirect, and a body without an end": flood(b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n", b"x"),
    "redirect to 60 KB": say(b"HTTP/1.1 302 Found\r\nLocation: /%s\r\n\r\n" % (b"x" * 60_000), hang=True),
    "redirect that is slow": drip(b"HTTP/1.1 302 Found\r\nLocation: /\r\n", b"X: y\r\n"),
}
HOSTILE_TLS = {
    "TLS: silent": say(hang=True),
    "TLS: hangs up": say(),
    "TLS: HTTP": say(OK + b"\r\n", hang=True),
    "TLS: zeros": flood(b"", b"\0"),
    "TLS: an alert for ever": flood(b"", b"\x15\x03\x03\x00\x02\x01\x00"),
    "TLS: a record cut": say(RECORD, hang=True),
    "TLS: a record that drips": drip(RECORD, b"\0"),
    "TLS: records without an end": flood(b"", RECORD + bytes(16_384)),
}


@pytest.mark.parametrize("name", [*HOSTILE, *HOSTILE_TLS])
def test_no_server_holds_longer_than_the_deadline(name: str) -> None:
    with talking((HOSTILE | HOSTILE_TLS)[name]) as port, memory() as peak:
        scheme = "https" if name in HOSTILE_TLS else "http"
        started = time.monotonic()
        with pytest.raises(FetchError) as caught:
            fetch(f"{scheme}://localhost:{port}/", allow_private=True, deadline=0.3, max_bytes=100_000)
        assert time.monotonic() - started < 10  # far from the deadline only on a busy machine
        assert str(caught.value).isprintable()
        # The thread behind it ends too, although the server would go on for ever.
        wait_for(lambda: not any(thread.name == "fetch" for thread in threading.enumerate()))
    assert peak() < 80_000_000  # http.client keeps 6 MB of headers, several times


def test_there_are_many_hostile_servers() -> None:
    assert len(HOSTILE) + len(HOSTILE_TLS) > 60


@pytest.mark.slow
@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("talk", [say(hang=True), drip(OK, b"X: y\r\n"), drip(OK + b"\r\n", b"x")])
def test_the_deadline_holds_inside_tls_and_tunnels(
    talk: Talk, names: dict[str, list[list[str]]], proxy: Web
) -> None:
    names["images.test"] = [["127.0.0.1"]]
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(TLS / "certificate.pem", TLS / "key.pem")

    def encrypted(connection: socket.socket, closing: threading.Event) -> None:
        with context.wrap_socket(connection, server_side=True) as secure:
            talk(secure, closing)

    with talking(encrypted) as port:
        proxy.tunnel = port
        for given in (None, proxy.address):
            url = f"https://images.test:{port}/"
            assert "longer than 1 s" in message(url, allow_private=True, deadline=1, proxy=given)
        wait_for(lambda: not any(thread.name == "fetch" for thread in threading.enumerate()))


@pytest.mark.parametrize("talk", [say(hang=True), drip(b"HTTP/1.1 200 ", b"x"), drip(OK, b"X: y\r\n"), say()])
def test_a_proxy_does_not_hold_either(talk: Talk, names: dict[str, list[list[str]]]) -> None:
    with talking(talk) as port:
        for scheme in ("http", "https"):
            url = f"{scheme}://public.test/"
            started = time.monotonic()
            message(url, deadline=0.3, proxy=f"http://127.0.0.1:{port}")
            assert time.monotonic() - started < 10
        wait_for(lambda: not any(thread.name == "fetch" for thread in threading.enumerate()))


@pytest.mark.slow
def test_one_deadline_holds_for_all_redirects(web: Web) -> None:
    def slow(handler: Any) -> None:
        web.closing.wait(0.4)
        redirect("/slow")(handler)

    web.pages["/slow"] = slow
    assert "longer than 1 s" in message(web.address + "/slow", allow_private=True, deadline=1)
    assert len(web.seen) <= 3


def test_a_name_server_that_never_answers(monkeypatch: pytest.MonkeyPatch, web: Web) -> None:
    hang = threading.Event()
    real = socket.getaddrinfo

    def getaddrinfo(host: str, *args: Any, **kwargs: Any) -> Any:
        hang.wait(30)
        return real("127.0.0.1", *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    url = f"http://slow.test:{web.port}/x.png"
    assert "longer than 0.3 s" in message(url, allow_private=True, deadline=0.3)
    hang.set()  # it answers when nobody waits any more: nothing is connected to
    wait_for(lambda: not any(thread.name == "fetch" for thread in threading.enumerate()))
    assert web.connections == 0
