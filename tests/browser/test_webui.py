"""The WebUI's server, asked over HTTP: what it answers, what it rejects, how it starts and stops."""

from __future__ import annotations

import html
import http.client
import json
import os
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
from conftest import PATIENCE, Run, wait_for
from serve import ROOT, WebUI, shared

from vit_pipeline import predict
from vit_pipeline.images import MAX_BYTES
from vit_pipeline.webui.guard import MAX_BODY

CAT = ROOT / "examples" / "cat.png"


@pytest.fixture(scope="module")
def web() -> WebUI:
    return shared()


def upload(url: str, content: bytes, name: str = "cat.png") -> str:
    answer = requests.post(f"{url}/gradio_api/upload", files={"files": (name, content)}, timeout=PATIENCE)
    assert answer.status_code == 200, answer.text
    return str(answer.json()[0])


def call(url: str, endpoint: str, *data: Any) -> tuple[str, Any]:
    """The endpoint's last event and its data, as curl would get them."""
    begun = requests.post(f"{url}/gradio_api/call/{endpoint}", json={"data": data}, timeout=PATIENCE)
    assert begun.status_code == 200, begun.text
    stream = requests.get(f"{url}/gradio_api/call/{endpoint}/{begun.json()['event_id']}", timeout=PATIENCE)
    event, _, rest = stream.content.decode().strip().rpartition("event: ")[2].partition("\n")
    return event, json.loads(rest.partition("data: ")[2])


def sent(path: str, name: str = "cat.png") -> dict[str, Any]:
    return {"path": path, "orig_name": name, "meta": {"_type": "gradio.FileData"}}


def ask(
    url: str, method: str, target: str, body: Any = None, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], str]:
    """The answer to a request that nobody tidies up: status, headers, body."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=PATIENCE)
    try:
        connection.request(method, target, body, headers or {})
        response = connection.getresponse()
        found = {key.lower(): value for key, value in response.getheaders()}
        return response.status, found, response.read().decode("utf-8", "replace")
    finally:
        connection.close()


def raw(*request: Any, **options: Any) -> tuple[int, str]:
    """The same without headers."""
    status, _, body = ask(*request, **options)
    return status, body


# Answers


def test_health(web: WebUI) -> None:
    assert requests.get(f"{web.url}/health/live", timeout=PATIENCE).json() == {"status": "live"}
    assert requests.get(f"{web.url}/health/ready", timeout=PATIENCE).json() == {
        "status": "ready",
        "model": "demo",
    }


def test_classify_is_predict(web: WebUI) -> None:
    event, (answer,) = call(web.url, "classify", sent(upload(web.url, CAT.read_bytes())), "", 3, "")
    assert event == "complete"
    assert answer == predict(CAT, "demo", top_k=3).to_dict() | {"source": "cat.png"}


PAGE = (ROOT / "docs/en/howto/webui.md").read_text("utf-8")
SNIPPET = re.search(r"```python\n(from gradio_client.*?)```", PAGE, re.S)


def test_the_documented_calls_run_in_another_process(web: WebUI, tmp_path: Path, photo_server: str) -> None:
    assert SNIPPET is not None
    (tmp_path / "cat.png").write_bytes(CAT.read_bytes())
    program = SNIPPET[1].replace("http://127.0.0.1:7860", web.url)
    program = (
        program.replace("https://example.com", photo_server) + 'print(answer["source"], len(answer["top"]))\n'
    )
    done = python("-c", program, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    expected = predict(CAT, "demo")
    assert f"Predicted class: {expected.label} {expected.score}\n" in done.stdout
    assert "ViTForImageClassification" in done.stdout
    assert f"{photo_server}/cat.jpg 3\n" in done.stdout


def test_the_page_shows_the_same_calls_with_its_own_address() -> None:
    from vit_pipeline.webui.views import render

    assert SNIPPET is not None
    shown = html.unescape(render("api", "en", origin="http://127.0.0.1:7860"))
    assert SNIPPET[1].strip() in shown
    assert "https://photos.example:8443" in render("api", "zh", origin="https://photos.example:8443")


def test_only_the_two_endpoints_are_public(web: WebUI) -> None:
    info = requests.get(f"{web.url}/gradio_api/info", timeout=PATIENCE).json()
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
    event, (answer,) = call(web.url, "classify", None, url, 1, "")
    assert event == "complete"
    assert answer["label"] == "cat"
    assert answer["source"] == url


# Rejections


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
def test_gradio_itself_fetches_nothing(web: WebUI, photo_server: str, as_url: bool) -> None:
    target = f"{photo_server}/cat.png"
    file = sent(target) | ({"url": target} if as_url else {})
    smuggled = {"fn_index": 0, "session_hash": "abc", "data": [[{"deep": file}], "", 1, ""]}
    for route, body in (
        ("call/classify", {"data": [file, "", 1, ""]}),
        ("call/structure", {"data": ["", file, "module"]}),
        ("queue/join", smuggled),
        ("run/predict", smuggled),
    ):
        answer = requests.post(f"{web.url}/gradio_api/{route}", json=body, timeout=PATIENCE)
        assert answer.status_code == 400
        assert "url=" in answer.json()["detail"]
    for route in (f"file={target}", f"file/{target}", f"proxy={target}"):
        assert raw(web.url, "GET", f"/gradio_api/{route}")[0] in (403, 404)
    assert PhotoServer.requests == []


def test_a_call_may_leave_out_what_has_a_default(web: WebUI) -> None:
    """As Python's arguments; Gradio itself would write a trace into the log for every such call."""
    before = len(web.lines)
    event, answer = call(web.url, "classify", sent(upload(web.url, CAT.read_bytes())))
    assert (event, answer[0]["label"], len(answer[0]["top"])) == ("complete", "cat", 5)
    event, structure = call(web.url, "structure")
    assert (event, structure[0]["order"]) == ("complete", "execution")
    event, why = call(web.url, "classify")
    assert event == "error"
    assert "no image" in why["error"].lower()
    assert web.lines[before:] == []


def test_files_that_were_not_uploaded_are_not_read(web: WebUI) -> None:
    for path in (str(CAT), "/etc/passwd", "../../etc/passwd", str(ROOT / "README.md"), "README.md", ""):
        for data in ([sent(path), "", 1, ""], [{"path": path}, "", 1, ""], [None, [sent(path)], 1, ""]):
            answer = requests.post(
                f"{web.url}/gradio_api/call/classify", json={"data": data}, timeout=PATIENCE
            )
            assert answer.status_code == 400, path
            assert "vit-pipeline-" not in answer.text, "where a copy of the file might be"
    for path in (str(CAT), "/etc/passwd", "README.md"):
        event, why = call(web.url, "classify", None, path, 1, "")
        assert event == "error", path
        assert "not an address" in why["error"]


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
        ("POST", "/gradio_api/run/classify"),
        ("POST", "/gradio_api/vibe-code"),
        ("POST", "/gradio_api/process_recording"),
        ("PUT", "/gradio_api/upload"),
        ("OPTIONS", "/gradio_api/upload"),
    ],
)
def test_doors_that_are_shut(web: WebUI, method: str, target: str) -> None:
    status, body = raw(web.url, method, target)
    assert status in (403, 404, 405), body
    assert "root:" not in body


def test_an_upload_can_be_seen_by_its_path_only(web: WebUI) -> None:
    path = upload(web.url, CAT.read_bytes())
    assert requests.get(f"{web.url}/gradio_api/file={path}", timeout=PATIENCE).content == CAT.read_bytes()
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
            f"{web.url}/gradio_api/upload", data=body(MAX_BYTES + 2**21), headers=form, timeout=PATIENCE
        )
    except requests.ConnectionError:  # it hung up while we were still sending
        pass
    else:
        assert sent.status_code in (411, 413)
    declared = {"Content-Length": str(MAX_BODY + 1)}
    assert raw(web.url, "POST", "/gradio_api/call/classify", b"[", declared)[0] == 413
    test_health(web)


def test_models_that_are_not_allowed_are_refused(web: WebUI) -> None:
    for name in ("someone/else", "/etc", "./examples", "../"):
        event, why = call(web.url, "classify", sent(upload(web.url, CAT.read_bytes())), "", 1, name)
        assert event == "error"
        assert "whose owner allows vit-base, vit-small, demo" in why["error"]


def test_a_crowd_gets_right_answers_or_busy(plain: WebUI, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few seconds of benchmarks/webui_load.py, which does it for longer."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    from webui_load import Load, expected, make_images

    images = make_images()
    load = Load(plain.url, images, expected(images, "demo"))
    load.run(clients=24, seconds=3)
    assert load.problems == []
    assert set(load.count) == {"answer", "busy"}
    test_classify_is_predict(plain)


def test_the_load_test_says_when_it_does_not_know_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    from webui_load import memory

    assert memory(0) == memory(2**30) == "not known"
    assert isinstance(memory(os.getpid()), float)


# The page


EVIL = "evil.example"
ROUTES = [
    ("GET", "/"),
    ("GET", "/config"),
    ("GET", "/theme.css"),
    ("GET", "/health/ready"),
    ("GET", "/gradio_api/info"),
    ("GET", "/gradio_api/queue/data?session_hash=abc"),
    ("GET", "/gradio_api/call/classify/abc"),
    ("POST", "/login"),
    ("POST", "/gradio_api/upload"),
    ("POST", "/gradio_api/queue/join"),
    ("POST", "/gradio_api/run/predict"),
    ("POST", "/gradio_api/call/classify"),
]


@pytest.mark.parametrize(("method", "target"), ROUTES)
def test_a_strangers_name_or_page_gets_nothing(web: WebUI, method: str, target: str) -> None:
    """DNS rebinding: a page of evil.example, whose name now leads here, asks as its own server."""
    port, body = urlsplit(web.url).port, b'{"data": []}' if method == "POST" else None
    for host in (
        EVIL,
        f"{EVIL}:{port}",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "a@localhost:x",
        "",
    ):
        status, headers, answer = ask(web.url, method, target, body, {"Host": host})
        assert (status, len(answer) < 300) == (400, True), host
        assert "access-control-allow-origin" not in headers
    own = f"127.0.0.1:{port}"
    for origin in (f"http://{EVIL}", "null", "http://127.0.0.1:1", f"http://localhost:{port}", "http://[bad"):
        status, headers, answer = ask(web.url, method, target, body, {"Host": own, "Origin": origin})
        assert (status, len(answer) < 300) == (403, True), origin
        assert "access-control-allow-origin" not in headers


def test_its_own_names_and_pages_pass(web: WebUI) -> None:
    port = urlsplit(web.url).port
    for host in (
        f"127.0.0.1:{port}",
        "LOCALHOST",
        f"localhost.:{port}",
        f"[::1]:{port}",
        "192.0.2.7:80",
        socket.gethostname(),
    ):
        for headers in ({"Host": host}, {"Host": host, "Origin": f"https://{host}"}):
            status, answered, answer = ask(web.url, "GET", "/config", None, headers)
            assert (status, "components" in answer) == (200, True), headers
            assert "access-control-allow-origin" not in answered
    form = {"files": ("cat.png", CAT.read_bytes())}
    sent = requests.post(
        f"{web.url}/gradio_api/upload", files=form, headers={"Origin": web.url}, timeout=PATIENCE
    )
    assert sent.status_code == 200


def test_the_page_names_no_other_host(web: WebUI) -> None:
    config = requests.get(f"{web.url}/config", timeout=PATIENCE).text
    theme = requests.get(f"{web.url}/theme.css", timeout=PATIENCE).text
    assert "fonts.googleapis" not in config + theme
    assert json.loads(config)["analytics_enabled"] is False
    assert "@import" not in theme


# Start and stop


def test_a_port_that_is_taken_is_said_in_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = python(str(ROOT / "app.py"), "--port", port)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == (
        f"error: cannot listen on 127.0.0.1:{port} (Address already in use); choose another one with --port\n"
    )


@pytest.mark.parametrize("auth", ["nobody", ":secret", "nobody:"])
def test_a_login_is_user_and_password(auth: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from vit_pipeline.errors import ArgumentError
    from vit_pipeline.webui import launch

    with pytest.raises(ArgumentError, match="USER:PASSWORD"):
        launch(auth=auth)
    monkeypatch.setenv("VIT_PIPELINE_AUTH", auth)
    with pytest.raises(ArgumentError, match="USER:PASSWORD"):
        launch()


def test_no_password_on_the_command_line(run: Run, tmp_path: Path) -> None:
    assert run("webui", "--auth", "ann:secret")[0] == 2
    for content in (None, "", "nobody", b"\xff"):
        file = tmp_path / "login"
        if content is not None:
            file.write_bytes(content if isinstance(content, bytes) else content.encode())
        code, _, err = run("webui", "--auth-file", file)
        assert code == 2
        assert "USER:PASSWORD" in err


def test_warnings_at_start(monkeypatch: pytest.MonkeyPatch) -> None:
    import PIL

    from vit_pipeline.webui import _warnings

    monkeypatch.setattr(PIL, "__version__", "13.0.0")
    for host, login in (("127.0.0.1", False), ("::1", False), ("0.0.0.0", True)):
        assert [*_warnings(host, login)] == []
    (open_to_all,) = _warnings("0.0.0.0", False)
    assert "VIT_PIPELINE_AUTH=USER:PASSWORD" in open_to_all
    monkeypatch.setattr(PIL, "__version__", "12.3.0")
    (old,) = _warnings("127.0.0.1", False)
    assert "make webui" in old


def test_sigterm_answers_what_is_there_and_ends_well(plain: WebUI, photo_server: str) -> None:
    """The last test with this server."""
    server = WebUI("--allow-private-urls")
    PhotoServer.delay.clear()
    data = {"data": [None, f"{photo_server}/cat.png", 1, ""]}
    begun = requests.post(f"{server.url}/gradio_api/call/classify", json=data, timeout=PATIENCE)
    result = f"{server.url}/gradio_api/call/classify/{begun.json()['event_id']}"
    answers: list[str] = []
    waiting = threading.Thread(target=lambda: answers.append(requests.get(result, timeout=PATIENCE).text))
    waiting.start()
    wait_for(lambda: PhotoServer.requests)
    idle = socket.create_connection((urlsplit(server.url).hostname, urlsplit(server.url).port))
    idle.sendall(
        b"GET /gradio_api/heartbeat/abc HTTP/1.1\r\nHost: localhost\r\n\r\n"
    )  # a page that stays open
    server.process.send_signal(signal.SIGTERM)
    wait_for(lambda: requests.get(f"{server.url}/health/ready", timeout=PATIENCE).status_code == 503)
    assert requests.get(f"{server.url}/health/live", timeout=PATIENCE).ok
    rejected = requests.post(f"{server.url}/gradio_api/call/classify", json=data, timeout=PATIENCE)
    assert rejected.status_code == 503
    assert "about to stop" in rejected.json()["detail"]
    PhotoServer.delay.set()
    waiting.join(PATIENCE)
    assert '"label": "cat"' in answers[0]
    assert server.process.wait(PATIENCE) == 0
    assert "Traceback" not in server.output
    idle.close()
    assert server.stop() == plain.stop() == 0


def test_a_server_with_a_name_and_a_password() -> None:
    server = WebUI(
        "--allowed-host", "photos.example", "--allowed-host", "Second.example",
        environment={"VIT_PIPELINE_AUTH": "ann:se:cret"},
    )  # fmt: skip
    try:
        session = requests.Session()
        for host in ("photos.example", "photos.example:8443", "second.example"):
            headers = {"Host": host, "Origin": f"https://{host}"}
            assert raw(server.url, "GET", "/config", None, headers)[0] == 401
            assert raw(server.url, "GET", "/health/live", None, headers)[0] == 200
        behind_a_proxy = {"Host": "127.0.0.1", "Origin": "https://photos.example"}
        assert raw(server.url, "GET", "/health/live", None, behind_a_proxy)[0] == 200
        assert raw(server.url, "GET", "/health/live", None, {"Host": EVIL})[0] == 400
        assert raw(server.url, "GET", "/gradio_api/info")[0] == 401
        assert raw(server.url, "POST", "/gradio_api/upload", b"")[0] == 401

        def sign_in(password: str) -> int:
            account = {"username": "ann", "password": password}
            return session.post(f"{server.url}/login", data=account, timeout=PATIENCE).status_code

        assert [sign_in("no"), sign_in("se:cret"), sign_in("se:cret")] == [400, 429, 429]
        assert not session.get(f"{server.url}/gradio_api/info", timeout=PATIENCE).ok
        wait_for(lambda: sign_in("se:cret") == 200)
        assert session.get(f"{server.url}/gradio_api/info", timeout=PATIENCE).ok
        assert "cret" not in server.output
    finally:
        assert server.stop() == 0


AGED = """
import vit_pipeline.webui.server as server
server.SWEEP = 0.1
from vit_pipeline.webui import launch
launch(port=0)
"""


def test_files_31_minutes_old_in_every_journey() -> None:
    server = WebUI(program=AGED)
    try:
        config = requests.get(f"{server.url}/config", timeout=PATIENCE).text
        photos = sorted(set(re.findall(r'"(/[^"]*/vit-pipeline-[^"]+\.(?:png|jpg))"', config)))
        assert len(photos) == 7
        mine, later = (upload(server.url, CAT.read_bytes() + end) for end in (b"mine", b"later"))
        folder = Path(mine).parents[1]
        for path in (*folder.rglob("*.png"), *folder.rglob("*.jpg")):
            if str(path) != later:
                os.utime(path, (time.time() - 31 * 60,) * 2)
        wait_for(lambda: not Path(mine).exists())
        assert requests.get(f"{server.url}/gradio_api/file={mine}", timeout=PATIENCE).status_code != 200
        assert requests.get(f"{server.url}/gradio_api/file={later}", timeout=PATIENCE).ok
        for path in photos:
            assert requests.get(f"{server.url}/gradio_api/file={path}", timeout=PATIENCE).ok, path
            event, _ = call(server.url, "classify", sent(path), "", 1, "")
            assert event == "complete", path
        event, why = call(server.url, "classify", sent(mine), "", 1, "")
        assert event == "error"
        assert "the upload is gone; give it again" in why["error"]
        assert (
            call(server.url, "classify", sent(upload(server.url, CAT.read_bytes())), "", 1, "")[0]
            == "complete"
        )
    finally:
        assert server.stop() == 0


# What the tests above need


def python(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, timeout=PATIENCE, check=False
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
