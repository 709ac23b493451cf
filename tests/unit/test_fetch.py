"""The URL door: what must not be fetched never is, and what may be ends in time and within its size.

A canary listens on the loopback interface; whatever the vector, it must not be connected to.
"""

from __future__ import annotations

import gzip
import http.server
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sample_images
from web import Web, body, redirect, serving

from vit_pipeline import fetch as fetch_module
from vit_pipeline.errors import FetchError, ImageError, UnsafeURLError
from vit_pipeline.fetch import addresses, fetch
from vit_pipeline.fetch.urls import take_apart
from vit_pipeline.images import read_image

TLS = Path(__file__).parents[1] / "golden" / "tls"
IMAGE = sample_images.encoded(sample_images.gradient(), "PNG")


@pytest.fixture
def web() -> Iterator[Web]:
    with serving() as running:
        running.pages["/x.png"] = body(IMAGE)
        yield running


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[list[str]]]:
    """Host name → what each look-up of it answers, the last for all that follow. Other names as ever."""
    answers: dict[str, list[list[str]]] = {}
    real = socket.getaddrinfo

    def getaddrinfo(host: str, port: int, *args: Any, **kwargs: Any) -> list[Any]:
        if host not in answers:
            return real(host, port, *args, **kwargs)
        found = answers[host].pop(0) if len(answers[host]) > 1 else answers[host][0]
        return [info for address in found for info in real(address, port, type=socket.SOCK_STREAM)]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return answers


def message(url: str, **options: Any) -> str:
    """What a fetch that must fail says."""
    with pytest.raises(FetchError) as caught:
        fetch(url, **{"deadline": 5.0, **options})
    assert "\n" not in str(caught.value)
    return str(caught.value)


# -- what must not be fetched -----------------------------------------------------------------------------

#: With {port}, the canary's own port, and with none: both must be refused before anything is sent.
VECTORS = """
http://127.0.0.1{port}/            http://localhost{port}/           http://LOCALHOST{port}/
http://localhost.{port}/           http://127.1{port}/               http://127.0.1{port}/
http://2130706433{port}/           http://0x7f000001{port}/          http://0x7f.0.0.1{port}/
http://0177.0.0.1{port}/           http://017700000001{port}/        http://00000177.0.0.1{port}/
http://0{port}/                    http://0.0.0.0{port}/             http://127.255.255.254{port}/
http://①②⑦.⓪.⓪.①{port}/            http://１２７.０.０.１{port}/     http://127。0。0。1{port}/
http://[::1]{port}/                http://[::]{port}/                http://[0:0:0:0:0:0:0:1]{port}/
http://[::ffff:127.0.0.1]{port}/   http://[::ffff:7f00:1]{port}/     http://[::127.0.0.1]{port}/
http://[64:ff9b::127.0.0.1]{port}/ http://[64:ff9b:1::7f00:1]{port}/ http://[2002:7f00:1::]{port}/
http://[2001:0:7f00:1::]{port}/    http://[::ffff:0:127.0.0.1]{port}/
http://[fe80::1%25lo]{port}/       http://[fc00::1]{port}/           http://[2606:4700::5efe:127.0.0.1]{port}/
http://169.254.169.254{port}/latest/meta-data/                       http://[fd00:ec2::254]{port}/
http://100.100.100.200{port}/      http://168.63.129.16{port}/       http://192.168.1.1{port}/
http://10.0.0.1{port}/             http://172.16.0.1{port}/          http://192.0.0.192{port}/
http://198.18.0.1{port}/           http://224.0.0.1{port}/           http://255.255.255.255{port}/
http://user@127.0.0.1{port}/       http://example.com@127.0.0.1{port}/
http://127.0.0.1{port}@example.com/                                  http://example.com:80@127.0.0.1{port}/
http://example.com\\@127.0.0.1{port}/                                 http://127.0.0.1{port}\\@example.com/
http://127.0.0.1{port}#@example.com/                                 http://127.0.0.1{port}?@example.com/
http://127.0.0.1%2f@example.com/   http://%31%32%37.0.0.1{port}/     http://127.0.0.1%00.example.com/
http://[127.0.0.1]{port}/          http://127.0.0.1:{digits}:80/     http://[::1{port}/
http:127.0.0.1{port}/              http:/127.0.0.1{port}/            http:///127.0.0.1{port}/
http:\\\\127.0.0.1{port}/            https:127.0.0.1{port}             ht\ttp://127.0.0.1{port}/
file:///etc/passwd                 file://127.0.0.1/etc/passwd       gopher://127.0.0.1{port}/_GET
ftp://127.0.0.1{port}/             dict://127.0.0.1{port}/           ldap://127.0.0.1{port}/
jar:http://127.0.0.1{port}/        unix:///var/run/docker.sock       http://127.0.0.1:99999/
http://internal.test{port}/        http://mixed.test{port}/          http://canary.test.{port}/
""".split("  ")
VECTORS = [vector.strip("\n") for part in VECTORS for vector in part.split("\n") if vector.strip()]


@pytest.mark.parametrize("vector", VECTORS)
def test_the_canary_is_never_reached(vector: str, web: Web, names: dict[str, list[list[str]]]) -> None:
    names["internal.test"] = names["localhost."] = [["127.0.0.1"]]
    names["mixed.test"] = [["93.184.215.14", "127.0.0.1"]]
    names["canary.test."] = [["127.0.0.1"]]
    for port in (f":{web.port}", ""):
        url = vector.strip(" ").replace("{port}", port).replace("{digits}", str(web.port))
        with pytest.raises(UnsafeURLError) as caught:
            fetch(url, deadline=2.0)
        assert "\n" not in str(caught.value)
        with pytest.raises(ImageError):
            read_image(url)
    assert web.connections == 0


def test_there_are_many_vectors() -> None:
    assert len(set(VECTORS)) > 60


@pytest.mark.parametrize(
    "text", ["127.0.0.1", "no address", "fe80::1%lo", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_addresses_that_are_not_public(text: str) -> None:
    assert not addresses.is_public(text)


@pytest.mark.parametrize("text", ["8.8.8.8", "1.1.1.1", "203.0.114.1", "2606:4700::1111", "2a00:1450::1"])
def test_addresses_that_are_public(text: str) -> None:
    assert addresses.is_public(text)


def test_the_refusal_names_both_ways_to_allow_it_and_no_address(names: dict[str, list[list[str]]]) -> None:
    names["intranet.test"] = [["10.1.2.3"]]
    said = message("http://intranet.test/x.png")
    assert "intranet.test" in said
    assert "--allow-private-urls" in said
    assert "allow_private=True" in said
    assert "10.1.2.3" not in said


def test_a_name_that_changes_between_look_ups_is_looked_up_once(
    names: dict[str, list[list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    names["rebind.test"] = [["93.184.215.14"], ["127.0.0.1"]]
    dialled: list[Any] = []

    def connect(self: socket.socket, address: Any) -> None:
        dialled.append(address)
        raise ConnectionRefusedError(111, "refused")

    monkeypatch.setattr(fetch_module._Timed, "connect", connect)
    assert "no connection" in message("http://rebind.test/x.png")
    assert dialled == [("93.184.215.14", 80)]
    assert names["rebind.test"] == [["127.0.0.1"]]


def test_a_redirect_into_the_own_network_is_refused(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as canary:
        monkeypatch.setattr(
            fetch_module, "is_public", lambda address: True
        )  # the first server plays a public one
        monkeypatch.setattr(fetch_module, "take_apart", lambda url, shown, _: take_apart(url, shown, True))
        for there in (
            f"//user@127.0.0.1:{canary.port}/",
            "file:///etc/passwd",
            "gopher://127.0.0.1/",
            "//[::1%25lo]/",
        ):
            web.pages["/go"] = redirect(there)
            with pytest.raises(UnsafeURLError, match="→"):
                fetch(web.address + "/go")
        web.pages["/go"] = redirect(f"http://localhost:{canary.port}/")
        # Judged again, by what it resolves to: from the second hop on, no address is public.
        judged = iter([True])
        monkeypatch.setattr(fetch_module, "is_public", lambda address: next(judged, False))
        with pytest.raises(UnsafeURLError, match="not a public address"):
            fetch(web.address + "/go")
        assert canary.connections == 0


def test_no_proxy_of_the_environment_is_asked(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as proxy:
        for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.address)
        assert fetch(web.address + "/x.png", allow_private=True) == IMAGE
        assert proxy.connections == 0


# -- what may be fetched ----------------------------------------------------------------------------------


def test_a_image_is_fetched(web: Web) -> None:
    assert fetch(web.address + "/x.png", allow_private=True) == IMAGE
    path, headers = web.seen[0]
    assert path == "/x.png"
    assert headers["host"] == f"127.0.0.1:{web.port}"
    assert headers["accept-encoding"] == "identity"
    assert headers["user-agent"].startswith("vit-pipeline/")
    assert "x-forwarded-for" not in headers
    image = read_image(web.address + "/x.png", allow_private=True)
    assert image.tobytes() == sample_images.gradient().tobytes()
    with pytest.raises(UnsafeURLError):
        read_image(web.address + "/x.png")


def test_paths_queries_and_fragments(web: Web) -> None:
    web.pages["/%E7%8C%AB%20a.png?q=%E7%8C%AB&b=[1]|%2f"] = body(IMAGE)
    assert fetch(web.address + "/猫%20a.png?q=猫&b=[1]|%2f#top", allow_private=True) == IMAGE
    web.pages["/?x=1"] = body(b"root")
    assert fetch(web.address + "?x=1", allow_private=True) == b"root"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed(status: int, web: Web) -> None:
    web.pages["/a"] = redirect("b", status)
    web.pages["/b"] = redirect(web.address + "/猫.png".encode().decode("latin-1"), status)
    web.pages["/%E7%8C%AB.png"] = redirect("/x.png#part", status)
    assert fetch(web.address + "/a", allow_private=True) == IMAGE


def test_chunked_bodies(web: Web) -> None:
    chunked = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (IMAGE[:9], IMAGE[9:])) + b"0\r\n\r\n"
    web.pages["/chunked"] = body(chunked, content_length="", transfer_encoding="chunked")
    assert fetch(web.address + "/chunked", allow_private=True) == IMAGE
    web.pages["/broken"] = body(chunked[:-20], content_length="", transfer_encoding="chunked")
    assert "cannot be fetched" in message(web.address + "/broken", allow_private=True)


def test_the_second_address_is_tried_when_the_first_takes_no_connection(
    web: Web, names: dict[str, list[list[str]]]
) -> None:
    names["two.test"] = [["127.0.0.2", "127.0.0.1"]]
    web.pages["/x"] = body(b"here")
    assert fetch(f"http://two.test:{web.port}/x", allow_private=True) == b"here"
    assert web.seen[0][1]["host"] == f"two.test:{web.port}"


def test_tls_is_verified_against_the_name(
    names: dict[str, list[list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    names["images.test"] = names["other.test"] = [["127.0.0.1"]]
    with serving(str(TLS / "certificate.pem"), str(TLS / "key.pem")) as web:
        web.pages["/x.png"] = body(IMAGE)
        good = f"https://images.test:{web.port}/x.png"
        assert "certificate is not valid" in message(good, allow_private=True)  # nobody signed it
        context = ssl.create_default_context(cafile=str(TLS / "certificate.pem"))
        context.sslsocket_class = fetch_module._TimedTLS
        monkeypatch.setattr(fetch_module, "_tls", lambda: context)
        assert fetch(good, allow_private=True) == IMAGE
        for url in (good.replace("images", "other"), good.replace("images.test", "127.0.0.1")):
            assert "certificate is not valid" in message(url, allow_private=True)
        assert [path for path, _ in web.seen] == ["/x.png"]


# -- what answers badly -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (body(b"gone", 404), "answered 404 Not Found"),
        (body(b"", 500), "answered 500"),
        (body(b"", 304), "answered 304"),
        (body(b"", 302), "answered 302"),
        (body(b"", 799), "answered 799; check"),
        (body(gzip.compress(bytes(50_000_000)), content_encoding="gzip"), "sent compressed"),
        (body(IMAGE, content_length=str(10 * 1024**3)), "larger than"),
        (body(IMAGE, content_length=str(len(IMAGE) + 9)), "broke off after"),
        (body(b"x" * 2001), "larger than the 2000 bytes"),
        (body(b"x" * 2001, content_length=""), "larger than the 2000 bytes"),
        (redirect("/loop"), "more than 3 times"),
        (redirect("http://[::1"), "not a proper URL"),
        (redirect("http://a b/"), "space"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_answers_end_in_one_line(answer: Any, words: str, web: Web) -> None:
    web.pages["/loop"] = answer
    assert words in message(web.address + "/loop", allow_private=True, max_bytes=2000)


def test_a_redirect_loop_is_four_requests(web: Web) -> None:
    web.pages["/loop"] = redirect("/loop")
    message(web.address + "/loop", allow_private=True)
    assert len(web.seen) == 4


def test_html_is_told_from_a_image(web: Web) -> None:
    web.pages["/page"] = body(b"<!doctype html><title>cat</title>", content_type="image/png")
    with pytest.raises(ImageError, match="HTML page"):
        read_image(web.address + "/page", allow_private=True)


def test_a_gzip_bomb_without_its_header_stays_compressed(web: Web) -> None:
    bomb = gzip.compress(bytes(5_000_000))
    web.pages["/bomb"] = body(bomb)
    assert fetch(web.address + "/bomb", allow_private=True) == bomb


def test_no_http_at_all() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def talk() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")

        thread = threading.Thread(target=talk)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        assert "cannot be fetched" in message(url, allow_private=True)
        thread.join()
    assert "no connection" in message(url, allow_private=True)
    assert "no such host" in message("http://no-such-host.invalid/")


# -- time -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "piece"),
    [
        (b"HTTP/1.1 ", b"0"),
        (b"HTTP/1.1 200 OK\r\n", b"X"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b""),
    ],
    ids=["status", "header", "body", "endless", "chunks", "continue", "silence"],
)
def test_one_deadline_holds_for_drips(before: bytes, piece: bytes, web: Web) -> None:
    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.wfile.write(before)
        while not web.closing.wait(0.02):
            handler.wfile.write(piece)

    web.pages["/drip"] = answer
    started = time.monotonic()
    assert "took longer than 0.5 s" in message(web.address + "/drip", allow_private=True, deadline=0.5)
    assert time.monotonic() - started < 3  # the drip itself would go on for ever


def test_one_deadline_holds_for_all_redirects(web: Web) -> None:
    def slow(handler: http.server.BaseHTTPRequestHandler) -> None:
        web.closing.wait(0.3)
        redirect("/slow")(handler)

    web.pages["/slow"] = slow
    assert "took longer than 0.5 s" in message(web.address + "/slow", allow_private=True, deadline=0.5)
    assert len(web.seen) == 2


def test_an_endless_body_ends_at_the_cap(web: Web) -> None:
    def endless(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while not web.closing.is_set():
            handler.wfile.write(bytes(100_000))

    web.pages["/endless"] = endless
    said = message(web.address + "/endless", allow_private=True, max_bytes=1_000_000)
    assert "larger than the 1000000 bytes" in said


def test_a_server_that_never_answers_tls(names: dict[str, list[list[str]]]) -> None:
    names["images.test"] = [["127.0.0.1"]]
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"https://images.test:{server.getsockname()[1]}/"
        assert "took longer than 0.4 s" in message(url, allow_private=True, deadline=0.4)


def test_a_name_server_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    hang = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: hang.wait(20))
    assert "took longer than 0.3 s" in message("http://slow.test/", deadline=0.3)
    hang.set()
