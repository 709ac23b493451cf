"""The door, asked without a server: what passes reaches the application, everything else gets its status."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from filelock import FileLock
from starlette.requests import Request

from vit_pipeline import webui
from vit_pipeline.webui import guard as door
from vit_pipeline.webui.guard import MAX_BODY, MAX_UPLOAD, Guard
from vit_pipeline.webui.serving import report

API = "/gradio_api"


class App:
    """Answers 200, or what it is told to; remembers the bodies that reached it."""

    status = 200

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.bodies.append((await receive()).get("body", b""))
        await send({"type": "http.response.start", "status": self.status, "headers": []})
        await send({"type": "http.response.body", "body": b""})


@pytest.fixture
def guard(tmp_path: Path) -> Guard:
    return Guard(App(), tmp_path, ["Photos.example."])


def ask(guard: Guard, method: str, path: str, body: Any = b"", client: str = "1.2.3.4", **given: str) -> Any:
    """Status and headers of the answer."""
    pieces = [body[:1], body[1:]] if isinstance(body, bytes) else [json.dumps(body).encode(), b""]
    headers = {"host": "localhost", "content_length": str(len(b"".join(pieces)))} | given
    events = [{"type": "http.request", "body": piece, "more_body": n == 0} for n, piece in enumerate(pieces)]
    answers: list[dict[str, Any]] = []

    async def receive() -> Any:
        return events.pop(0)

    async def send(event: Any) -> None:
        answers.append(event)

    raw = [
        (name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items() if value
    ]
    scope = {"type": "http", "method": method, "path": path, "headers": raw, "client": (client, 1)}
    asyncio.run(guard(scope, receive, send))
    return answers[0]["status"], dict(answers[0]["headers"])


def status(*request: Any, **given: str) -> int:
    return int(ask(*request, **given)[0])


def test_names_and_pages(guard: Guard) -> None:
    for host in (
        "localhost",
        "LOCALHOST.:80",
        "127.0.0.1:7860",
        "[::1]:1",
        "photos.example",
        "photos.example.:8443",
    ):
        assert status(guard, "GET", "/", host=host) == 200
        assert status(guard, "GET", "/", host=host, origin=f"https://{host}") == 200
        assert status(guard, "GET", "/", host=host, origin="https://evil.example") == 403
    assert status(guard, "GET", "/", origin="https://photos.example") == 200  # behind a proxy
    for host in ("", "evil.example", "evil.photos.example", "localhost:x", "localhost:0", "a@localhost"):
        assert status(guard, "GET", "/", host=host) == 400
    assert status(guard, "GET", "/", origin="http://localhost:81") == 403


def test_methods_and_routes(guard: Guard) -> None:
    passing = (
        "/",
        "/config",
        "/assets/a/b.js",
        "/health/live",
        f"{API}/heartbeat/abc",
        f"{API}/call/classify/a1",
    )
    for path in passing:
        assert status(guard, "GET", path) == status(guard, "HEAD", path) == 200, path
        assert status(guard, "POST", path) == 404, path
        assert status(guard, "PUT", path) == 405, path
    for path in (
        "/config2",
        "/x/config",
        "/assets/../a",
        "/assets/a\n",
        f"{API}/call/load/a1",
        f"{API}/upload",
    ):
        assert status(guard, "GET", path) == 404, path
    for path in ("component_server/x", "run/classify", "cancel/x", "call/load", "upload/x"):
        assert status(guard, "POST", f"{API}/{path}") == 404, path
    answered, headers = ask(guard, "GET", "/")
    assert answered == 200
    assert headers[b"x-content-type-options"] == b"nosniff"
    assert headers[b"content-security-policy"].startswith(b"default-src 'self'; script-src")
    assert b"\n" not in headers[b"content-security-policy"]


def test_only_uploads_are_served_and_named(guard: Guard, tmp_path: Path) -> None:
    mine, work = str(tmp_path / "a" / "cat.png"), f"{API}/call/classify"
    assert status(guard, "GET", f"{API}/file={mine}") == 200
    assert status(guard, "GET", f"{API}/file=/etc/passwd") == 403
    assert status(guard, "GET", f"{API}/file={tmp_path}/\x1b.png") == 404
    (tmp_path / "link").symlink_to("/etc")
    assert status(guard, "GET", f"{API}/file={tmp_path}/link/passwd") == 403
    bodies = guard.app.bodies  # type: ignore[attr-defined]
    bodies.clear()
    fine = {"data": [{"path": mine}, "", {"deep": [{"path": mine}]}]}
    assert status(guard, "POST", work, fine) == 200
    assert json.loads(bodies.pop()) == fine
    for path in ("/etc/passwd", "http://127.0.0.1/", "cat.png", f"{mine}/../../../x", None, {"path": mine}):
        for body in (
            {"path": path},
            {"data": [{"deep": [{"path": path}]}]},
            [{"path": mine}, {"path": path}],
        ):
            assert status(guard, "POST", work, body) == 400, body
    for body in (b"", b"{", b"[" * 100_000):
        assert status(guard, "POST", work, body) == 400
    assert bodies == []


def test_sizes(guard: Guard) -> None:
    for path, limit in ((f"{API}/upload", MAX_UPLOAD), (f"{API}/cancel", MAX_BODY)):
        assert status(guard, "POST", path, content_length=str(limit)) == 200
        refused, headers = ask(guard, "POST", path, content_length=str(limit + 1))
        assert (refused, headers[b"connection"]) == (413, b"close")
        for length in ("", "-1", "1e3", "²"):
            assert status(guard, "POST", path, content_length=length) == 411
        assert status(guard, "POST", path, transfer_encoding="chunked") == 411
    assert status(guard, "GET", "/", content_length="") == 200


def test_a_server_that_stops_takes_no_work(guard: Guard) -> None:
    guard.draining = True
    for path in ("upload", "queue/join", "call/structure"):
        assert status(guard, "POST", f"{API}/{path}", {}) == 503
    for method, path in (("GET", "/health/ready"), ("GET", f"{API}/queue/data"), ("POST", f"{API}/cancel")):
        assert status(guard, method, path) == 200


def test_a_wrong_password_has_to_wait(guard: Guard, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [time.monotonic() + 10]
    monkeypatch.setattr(door, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(door, "MAX_ADDRESSES", 2)
    guard.app.status = 400  # type: ignore[attr-defined]
    assert [status(guard, "POST", "/login", client=n) for n in "aa"] == [400, 429]
    now[0] += door.LOGIN_DELAY - 0.1
    assert [status(guard, "POST", "/login", client=n) for n in "abc"] == [429, 400, 400]
    assert [status(guard, "POST", "/login", client=n) for n in "bca"] == [429, 429, 400]  # a was forgotten
    now[0] += door.LOGIN_DELAY + 0.1
    guard.app.status = 200  # type: ignore[attr-defined]
    assert [status(guard, "POST", "/login", client=n) for n in "cc"] == [200, 200]


def test_it_knows_whether_somebody_waits(guard: Guard, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [time.monotonic() + 10]
    monkeypatch.setattr(door, "time", SimpleNamespace(monotonic=lambda: now[0]))
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        now[0] += 10
        seen.append(guard.at_work)
        await send({"type": "http.response.start", "status": 200, "headers": []})

    guard.app = app
    status(guard, "GET", f"{API}/heartbeat/abc")
    status(guard, "GET", f"{API}/queue/data")
    assert seen == [False, True]
    assert guard.at_work  # who has just got an event's number comes back for its answer
    now[0] += 1
    assert not guard.at_work


def test_a_visitor_has_so_much_room(guard: Guard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "MAX_BYTES_EACH", 10)
    monkeypatch.setattr(door, "MAX_ADDRESSES", 2)
    upload = f"{API}/upload"
    assert status(guard, "POST", upload, b"123456") == 200
    assert status(guard, "POST", upload, b"123456") == 429
    assert status(guard, "POST", upload, b"1234") == 200
    assert status(guard, "POST", upload, b"123456", client="5.6.7.8") == 200
    guard._sent["1.2.3.4"] = (time.monotonic() - door.WINDOW - 1, 10)
    assert status(guard, "POST", upload, b"123456") == 200
    assert status(guard, "POST", upload, b"1", client="9.9.9.9") == 200
    assert len(guard._sent) == 2


def test_a_request_that_pauses_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what fails behind the door is one answer, and one report however often it happens."""
    monkeypatch.setattr(door, "PAUSE", 0.01)

    async def read(scope: Any, receive: Any, send: Any) -> None:
        await Request(scope, receive).body()

    async def fail(scope: Any, receive: Any, send: Any) -> None:
        raise KeyError(9999)

    async def never() -> Any:
        await asyncio.Event().wait()

    reported: list[Exception] = []
    monkeypatch.setattr(door, "report", reported.append)
    headers = [(b"host", b"localhost"), (b"content-length", b"9")]
    for app, path, count in ((read, "upload", 0), (App(), "queue/join", 0), (fail, "upload", 1)):
        answers: list[Any] = []

        async def send(event: Any, answers: list[Any] = answers) -> None:
            answers.append(event)

        scope = {
            "type": "http",
            "method": "POST",
            "path": f"{API}/{path}",
            "headers": headers,
            "client": None,
        }
        asyncio.run(Guard(app, tmp_path)(scope, never, send))
        assert answers[0]["status"] == 400
        assert len(reported) == count


def test_a_report_is_made_once(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(3):
        try:
            raise ZeroDivisionError("once")
        except ZeroDivisionError as error:
            report(error)
    assert capsys.readouterr().err.count("ZeroDivisionError: once") == 1


def test_uploads_of_a_killed_server_are_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the next one; those of a server that runs stay."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    dead, alive = (tmp_path / f"{webui.PREFIX}{name}" for name in ("dead", "alive"))
    for folder in (dead, alive):
        folder.mkdir()
        (folder / "cat.png").touch()
        Path(f"{folder}.lock").touch()
    with FileLock(f"{alive}.lock"), webui._uploads() as own:
        assert Path(own).is_dir()
        assert not dead.exists()
        assert (alive / "cat.png").exists()
    assert {path.name for path in tmp_path.iterdir()} == {alive.name, f"{alive.name}.lock"}
