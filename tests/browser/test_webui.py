"""The WebUI's server, asked over HTTP: what it answers, what it refuses, how it starts and stops."""

from __future__ import annotations

import base64
import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from serve import ROOT, WebUI, shared

from vit_pipeline import predict
from vit_pipeline.images import MAX_BYTES

CAT = ROOT / "examples" / "cat.png"


@pytest.fixture(scope="module")
def web() -> WebUI:
    return shared()


def upload(url: str, content: bytes, name: str = "cat.png") -> str:
    answer = requests.post(f"{url}/gradio_api/upload", files={"files": (name, content)}, timeout=60)
    assert answer.status_code == 200, answer.text
    return str(answer.json()[0])


def call(url: str, endpoint: str, *data: Any) -> tuple[str, Any]:
    """The endpoint's last event and its data, as curl would get them."""
    begun = requests.post(f"{url}/gradio_api/call/{endpoint}", json={"data": data}, timeout=60)
    assert begun.status_code == 200, begun.text
    stream = requests.get(f"{url}/gradio_api/call/{endpoint}/{begun.json()['event_id']}", timeout=120)
    event, _, rest = stream.content.decode().strip().rpartition("event: ")[2].partition("\n")
    return event, json.loads(rest.partition("data: ")[2])


def sent(path: str, name: str = "cat.png") -> dict[str, Any]:
    return {"path": path, "orig_name": name, "meta": {"_type": "gradio.FileData"}}


def raw(
    url: str, method: str, target: str, body: Any = None, headers: dict[str, str] | None = None
) -> tuple[int, str]:
    """A request whose path nobody tidies up."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    try:
        connection.request(method, target, body, headers or {})
        response = connection.getresponse()
        return response.status, response.read().decode("utf-8", "replace")
    finally:
        connection.close()


# Answers


def test_health(web: WebUI) -> None:
    assert requests.get(f"{web.url}/health/live", timeout=10).json() == {"status": "live"}
    assert requests.get(f"{web.url}/health/ready", timeout=10).json() == {"status": "ready", "model": "demo"}


def test_classify_is_predict(web: WebUI) -> None:
    event, (answer,) = call(web.url, "classify", sent(upload(web.url, CAT.read_bytes())), "", 3, "")
    assert event == "complete"
    assert answer == predict(CAT, "demo", top_k=3).to_dict() | {"source": "cat.png"}


SNIPPET = re.search(r"```python\n(from gradio_client.*?)```", (ROOT / "docs" / "webui.md").read_text(), re.S)


def test_the_documented_snippet_runs_in_another_process(web: WebUI, tmp_path: Path) -> None:
    assert SNIPPET is not None
    (tmp_path / "cat.png").write_bytes(CAT.read_bytes())
    program = SNIPPET[1].replace("http://127.0.0.1:7860", web.url)
    done = run("-c", program, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    expected = predict(CAT, "demo")
    assert f"Predicted class: {expected.label} {expected.score}\n" in done.stdout
    assert "ViTForImageClassification" in done.stdout


def test_the_page_shows_the_same_snippet() -> None:
    from vit_pipeline.webui.page import SNIPPET as SHOWN

    assert SNIPPET is not None
    assert SHOWN.format(lang="en") == SNIPPET[1]


def test_only_the_two_endpoints_are_public(web: WebUI) -> None:
    info = requests.get(f"{web.url}/gradio_api/info", timeout=10).json()
    assert sorted(info["named_endpoints"]) == ["/classify", "/structure"]
    assert info["unnamed_endpoints"] == {}


def test_structure_of_a_model_in_both_languages(web: WebUI) -> None:
    for lang, word in (("en", "attention"), ("zh", "参数量")):
        event, (structure,) = call(web.url, "structure", "", lang, "execution")
        assert event == "complete"
        assert structure["params"] == 2693578
        assert word in structure["text"]


def test_a_url_is_fetched_by_our_own_code(web: WebUI, photo_server: str) -> None:
    url = f"{photo_server}/cat.png"
    for image, box in ((None, url), (sent(url), "")):  # as handle_file(url) sends it
        event, (answer,) = call(web.url, "classify", image, box, 1, "")
        assert event == "complete"
        assert answer["label"] == "cat"
        assert answer["source"] == url


# Refusals


def test_urls_of_private_addresses_are_refused_by_default(plain: WebUI, photo_server: str) -> None:
    targets = [
        f"{photo_server}/cat.png",
        "http://127.0.0.1/",
        "http://169.254.169.254/latest/",
        "http://[::1]/",
    ]
    targets += [
        "http://2130706433/",
        "http://0x7f000001/",
        "http://127.1/",
        "http://localhost/",
        "file:///etc/passwd",
    ]
    for target in targets:
        event, why = call(plain.url, "classify", None, target, 1, "")
        assert event == "error", target
        assert "This address" in why["error"], why
    assert PhotoServer.requests == []


@pytest.mark.parametrize("as_url", [True, False])
def test_gradio_itself_fetches_nothing(plain: WebUI, photo_server: str, as_url: bool) -> None:
    target = f"{photo_server}/cat.png"
    file = sent(target) | ({"url": target} if as_url else {})
    event, why = call(plain.url, "classify", file, "", 1, "")
    assert event == "error"
    assert "This address is not allowed." in why["error"]
    for smuggled in (("", file, "module"), (file, "en", "module")):
        event, why = call(plain.url, "structure", *smuggled)
        assert event == "error"
        assert "url=" in why["error"]
    assert PhotoServer.requests == []


def test_files_that_were_not_uploaded_are_not_read(web: WebUI) -> None:
    for path in (str(CAT), "/etc/passwd", "../../etc/passwd", str(ROOT / "README.md"), "README.md"):
        event, why = call(web.url, "classify", sent(path), "", 1, "")
        assert event == "error", path
        for smuggled in (("", sent(path), "module"), (sent(path), "en", "module")):
            event, why = call(web.url, "structure", *smuggled)
            assert event == "error", path
            assert "vit-pipeline-" not in str(why), "where a copy of the file might be"
        event, why = call(web.url, "classify", None, path, 1, "")
        assert event == "error", path
        assert "not an address" in why["error"]


@pytest.mark.parametrize("prefix", ["", "/zh"])
@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/gradio_api/file=http://127.0.0.1:1/x"),
        ("GET", "/gradio_api/file=https://example.com/x.png"),
        ("GET", "/gradio_api/file=/etc/passwd"),
        ("GET", "/gradio_api/file=%2Fetc%2Fpasswd"),
        ("GET", "/gradio_api/file=../../../../etc/passwd"),
        ("GET", "/gradio_api/file=/tmp/../etc/passwd"),
        ("GET", f"/gradio_api/file={CAT}"),
        ("GET", "/gradio_api/file=C:/Windows/win.ini"),
        ("GET", "/gradio_api/file=/proc/self/environ%00.png"),
        ("GET", "/gradio_api/file/etc/passwd"),
        ("GET", "/file=/etc/passwd"),
        ("GET", "/file/http://127.0.0.1:1/x"),
        ("GET", "/gradio_api/proxy=http://127.0.0.1:1/x"),
        ("GET", "/proxy=http://127.0.0.1:1/x"),
        ("HEAD", "/gradio_api/proxy=https://x.hf.space/x"),
        ("GET", "/assets/../../../../../etc/passwd"),
        ("GET", "/static/..%2f..%2f..%2fetc/passwd"),
        ("GET", "/gradio_api/stream/a/b/1/playlist.m3u8"),
        ("GET", "/gradio_api/deep_link?session_hash=a"),
        ("GET", "/monitoring"),
        ("GET", "/gradio_api/runs"),
        ("GET", "/docs"),
        ("POST", "/gradio_api/component_server"),
        ("POST", "/gradio_api/run/classify"),
        ("POST", "/gradio_api/vibe-code"),
        ("POST", "/gradio_api/process_recording"),
        ("PUT", "/gradio_api/upload"),
        ("OPTIONS", "/gradio_api/upload"),
    ],
)
def test_doors_that_are_shut(web: WebUI, prefix: str, method: str, target: str) -> None:
    status, body = raw(web.url, method, prefix + target)
    assert status in (403, 404, 405), body
    assert "root:" not in body


def test_an_upload_can_be_seen_by_its_path_only(web: WebUI) -> None:
    path = upload(web.url, CAT.read_bytes())
    assert requests.get(f"{web.url}/gradio_api/file={path}", timeout=10).content == CAT.read_bytes()
    folder = str(Path(path).parent)
    assert raw(web.url, "GET", f"/gradio_api/file={folder}")[0] in (403, 404)
    assert raw(web.url, "GET", f"/gradio_api/file={folder}/../../../etc/passwd")[0] == 404


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("drawing.svg", b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>"),
        ("page.html", b"<html><script>alert(1)</script></html>"),
        ("page.png", b"<html><script>alert(1)</script></html>"),
        ("empty.png", b""),
        ("cut.png", CAT.read_bytes()[:5000]),
        ("bomb.png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\xff\xff\0\0\xff\xff\x08\x02\0\0\0"),
    ],
)
def test_what_is_no_image_gets_a_sentence(web: WebUI, name: str, content: bytes) -> None:
    event, why = call(web.url, "classify", sent(upload(web.url, content, name), name), "", 1, "")
    assert event == "error"
    assert why["error"].startswith("This image could not be read."), why
    assert name in why["error"]
    assert "/tmp" not in why["error"]


def test_uploads_that_are_too_large_are_refused(web: WebUI) -> None:
    boundary = b'--x\r\nContent-Disposition: form-data; name="files"; filename="big.png"\r\n\r\n'
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    declared = {**form, "Content-Length": str(200 * 1024 * 1024)}
    assert raw(web.url, "POST", "/gradio_api/upload", boundary, declared)[0] == 413

    def body(size: int) -> Iterator[bytes]:
        yield boundary
        for _ in range(size // 2**20):
            yield bytes(2**20)
        yield b"\r\n--x--\r\n"

    try:
        sent = requests.post(
            f"{web.url}/gradio_api/upload", data=body(MAX_BYTES + 2**21), headers=form, timeout=60
        )
    except requests.ConnectionError:  # it hung up while we were still sending
        pass
    else:
        assert sent.status_code == 413
    assert raw(web.url, "POST", "/gradio_api/call/classify", b"[" * (2 * 2**20))[0] == 413
    test_health(web)


def test_models_that_are_not_allowed_are_refused(web: WebUI) -> None:
    for name in ("someone/else", "/etc", "./examples", "../"):
        event, why = call(web.url, "classify", sent(upload(web.url, CAT.read_bytes())), "", 1, name)
        assert event == "error"
        assert "The owner of this server allows: vit-base, vit-small, demo" in why["error"]


def test_a_crowd_gets_right_answers_or_busy(plain: WebUI) -> None:
    """A few seconds of benchmarks/webui_load.py, which does it for longer."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        from webui_load import Load, expected, images
    finally:
        sys.path.pop(0)
    images = images()
    load = Load(plain.url, images, expected(images, "demo"))
    load.run(clients=24, seconds=3)
    assert load.problems == []
    assert set(load.count) == {"answer", "busy"}
    test_classify_is_predict(plain)


# The page


def test_the_page_speaks_the_browsers_language(web: WebUI) -> None:
    def page(path: str, language: str, **cookies: str) -> requests.Response:
        headers = {"Accept": "text/html", "Accept-Language": language}
        return requests.get(web.url + path, headers=headers, cookies=cookies, timeout=10)

    english, chinese = page("/", "en-US,en;q=0.9,zh;q=0.1"), page("/", "zh-CN,zh;q=0.9,en;q=0.8")
    assert english.url == f"{web.url}/"
    assert '<html\n\tlang="en"' in english.text
    assert chinese.url == f"{web.url}/zh/"
    assert '<html\n\tlang="zh-CN"' in chinese.text
    chosen = page("/?lang=en", "zh-CN")
    assert chosen.url == f"{web.url}/?lang=en"
    assert "vit_lang=en" in chosen.headers["set-cookie"]
    assert page("/", "zh-CN", vit_lang="en").url == f"{web.url}/"
    assert page("/", "en", vit_lang="zh").url == f"{web.url}/zh/"
    assert page("/zh", "en").url == f"{web.url}/zh/"
    assert "connect-src 'self'" in english.headers["content-security-policy"]
    assert len({page("/", "en").cookies["vit_session"] for _ in range(3)}) == 3


def test_the_page_names_no_other_host(web: WebUI) -> None:
    config = requests.get(f"{web.url}/config", timeout=10).text
    theme = requests.get(f"{web.url}/theme.css", timeout=10).text
    assert "fonts.googleapis" not in config + theme
    assert json.loads(config)["analytics_enabled"] is False
    assert "@import" not in theme


# Start and stop


def test_a_port_that_is_taken_is_said_in_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = run(str(ROOT / "app.py"), "--port", port)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == (
        f"error: cannot listen on 127.0.0.1:{port} (Address already in use); choose another one with --port\n"
    )


@pytest.mark.parametrize("auth", ["nobody", ":secret", "nobody:"])
def test_auth_must_be_user_and_password(auth: str) -> None:
    from vit_pipeline.errors import ArgumentError
    from vit_pipeline.webui import launch

    with pytest.raises(ArgumentError, match="USER:PASSWORD"):
        launch(auth=auth)


def test_warnings_at_start(monkeypatch: pytest.MonkeyPatch) -> None:
    import PIL

    from vit_pipeline.webui import _warnings

    monkeypatch.setattr(PIL, "__version__", "13.0.0")
    assert _warnings("127.0.0.1", False) == _warnings("::1", False) == _warnings("0.0.0.0", True) == []
    (open_to_all,) = _warnings("0.0.0.0", False)
    assert "--auth USER:PASSWORD" in open_to_all
    monkeypatch.setattr(PIL, "__version__", "12.3.0")
    (old,) = _warnings("127.0.0.1", False)
    assert "make webui" in old


def test_sigterm_answers_what_is_there_and_ends_well(plain: WebUI, photo_server: str) -> None:
    """The last test with this server. Also: --auth, on both pages, and for gradio_client."""
    login = base64.b64encode(b"no").decode()
    assert raw(plain.url, "GET", "/config", headers={"Authorization": login})[0] == 200
    server = WebUI("--allow-private-urls", "--auth", "ann:secret")
    session = requests.Session()
    assert session.get(f"{server.url}/gradio_api/info", timeout=10).status_code == 401
    assert session.get(f"{server.url}/zh/gradio_api/info", timeout=10).status_code == 401
    assert raw(server.url, "POST", "/gradio_api/upload")[0] == 401
    for password, status in (("no", 400), ("secret", 200)):
        account = {"username": "ann", "password": password}
        assert session.post(f"{server.url}/login", data=account, timeout=10).status_code == status
    assert session.get(f"{server.url}/gradio_api/info", timeout=10).ok
    assert session.get(f"{server.url}/zh/gradio_api/info", timeout=10).ok

    PhotoServer.delay.clear()
    data = {"data": [None, f"{photo_server}/cat.png", 1, ""]}
    event = session.post(f"{server.url}/gradio_api/call/classify", json=data, timeout=10).json()["event_id"]
    answers: list[str] = []

    def wait() -> None:
        answers.append(session.get(f"{server.url}/gradio_api/call/classify/{event}", timeout=30).text)

    waiting = threading.Thread(target=wait)
    waiting.start()
    while not PhotoServer.requests:
        time.sleep(0.02)
    idle = socket.create_connection((urlsplit(server.url).hostname, urlsplit(server.url).port))
    idle.sendall(b"GET /gradio_api/heartbeat/abc HTTP/1.1\r\nHost: x\r\n\r\n")  # a page that stays open
    server.process.send_signal(signal.SIGTERM)
    while requests.get(f"{server.url}/health/ready", timeout=10).status_code == 200:
        time.sleep(0.02)
    assert requests.get(f"{server.url}/health/live", timeout=10).ok
    refused = session.post(f"{server.url}/gradio_api/call/classify", json=data, timeout=10)
    assert refused.status_code == 503
    assert "about to stop" in refused.json()["detail"]
    PhotoServer.delay.set()
    waiting.join(30)
    assert '"label": "cat"' in answers[0]
    assert server.process.wait(10) == 0
    assert "Traceback" not in server.output
    idle.close()
    assert plain.stop(10) == 0


# What the tests above need


def run(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture(scope="module")
def plain() -> Iterator[WebUI]:
    """A server that may not reach private addresses, and refuses early."""
    server = WebUI("--max-waiting", "4")
    yield server
    server.stop()


class PhotoServer:
    """Serves the cat; waits for ``delay`` first."""

    requests: list[str] = []  # noqa: RUF012
    delay = threading.Event()


@pytest.fixture
def photo_server() -> Iterator[str]:
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            PhotoServer.requests.append(self.path)
            PhotoServer.delay.wait(20)
            content = CAT.read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    PhotoServer.requests.clear()
    PhotoServer.delay.set()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()
