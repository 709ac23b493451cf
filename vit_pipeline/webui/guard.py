"""The door in front of Gradio: who may ask, for what, how much of it, and when the answer is no.

Gradio has many more routes than this page needs, some of which fetch URLs or read files for anyone who asks.
Only those that the page and ``gradio_client`` use pass. Leaves out what is done with it (``handlers``).
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import re
import socket
import time
from collections import OrderedDict
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import printable
from ..images import MAX_BYTES

#: Bytes of one request: an upload of several images, and anything else.
MAX_UPLOAD, MAX_BODY = 2 * MAX_BYTES, 1024 * 1024
#: Seconds before another password is looked at from an address that gave a wrong one; addresses remembered.
LOGIN_DELAY, MAX_ADDRESSES = 5.0, 1000

_API = r"/gradio_api"
_GET = re.compile(
    r"/|/config/?|/theme\.css|/manifest\.json|/favicon\.ico|/robots\.txt|/login_check/?|/logout|/health/(live|ready)"
    r"|/(assets|static|svelte)/[\w./~@+-]+"
    rf"|{_API}/(info|openapi\.json|app_id|user|token|login_check|startup-events|upload_progress|queue/data|theme\.css)/?"
    rf"|{_API}/(heartbeat/\w+|call/(classify|structure)/\w+|file=.+)"
)
_UPLOAD, _LOGIN = re.compile(rf"{_API}/upload/?"), re.compile(r"/login/?")
_WORK = re.compile(rf"{_API}/(queue/join|run/predict|call/(classify|structure))/?")
_POST = re.compile(rf"{_UPLOAD.pattern}|{_LOGIN.pattern}|{_WORK.pattern}|{_API}/(cancel|reset)/?")
#: Open for as long as a page is: they do not keep the server from stopping.
_IDLE = re.compile(rf"{_API}/heartbeat/|/health/")
_POLICY = (
    b"default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    b"style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    b"media-src 'self' data: blob: mediastream:; connect-src 'self' data: blob:; worker-src 'self' blob:; "
    b"frame-ancestors 'self'; form-action 'self'; base-uri 'self'"
)
_HEADERS = [(b"x-content-type-options", b"nosniff"), (b"content-security-policy", _POLICY)]


class Guard:
    """ASGI middleware around the whole server.

    Args:
        app: what is behind the door.
        uploads: the only folder from which files are served, and from which requests may name files.
        hosts: names under which the server may be asked, besides localhost, the machine's own name and
            addresses in digits (which no stranger's DNS can point here); pages of theirs may ask too.
    """

    def __init__(self, app: ASGIApp, uploads: Path, hosts: Collection[str] = ()) -> None:
        self.app, self.uploads = app, uploads.resolve()
        self.named = {host.lower().rstrip(".") for host in hosts}
        self.hosts = {"localhost", socket.gethostname().lower(), *self.named}
        self.draining = False
        self.open, self.last_work = 0, time.monotonic()  # requests that are being answered
        self._idle: set[asyncio.Future[None]] = set()
        self._wrong: OrderedDict[str, float] = OrderedDict()  # address → until when it has to wait

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] != "http":  # no page here opens a WebSocket
            await send({"type": "websocket.close", "code": 1008})
        elif rejection := self._rejection(scope):
            await rejection(scope, receive, send)
        elif _IDLE.match(scope["path"]):
            self._idle.add(task := asyncio.ensure_future(self.app(scope, receive, send)))
            with suppress(asyncio.CancelledError):
                await task
            self._idle.discard(task)
        else:
            self.open += 1
            try:
                await self._pass_on(scope, receive, send)
            finally:
                self.open, self.last_work = self.open - 1, time.monotonic()

    def let_go(self) -> None:
        """End what is open only because a page is."""
        for task in self._idle:
            task.cancel()

    def _rejection(self, scope: Scope) -> JSONResponse | None:
        """The answer to a request that does not pass."""
        method, path, headers = scope["method"], scope["path"], Headers(scope=scope)
        host, name = _host("//" + headers.get("host", ""))
        origin, origin_name = _host(headers.get("origin", f"//{host}"))
        length = headers.get("content-length", "" if method == "POST" else "0")
        limit = MAX_UPLOAD if _UPLOAD.fullmatch(path) else MAX_BODY
        allowed = {"GET": _GET, "HEAD": _GET, "POST": _POST}.get(method)
        if not self._is_ours(name):
            return _no(400, f"{host or 'no host'}: not served here; its owner can add it with --allowed-host")
        if origin != host and origin_name not in self.named:
            return _no(403, "Only this server's own pages may ask it; its owner can add --allowed-host.")
        if allowed is None:
            return _no(405, "Method not allowed.")
        if not path.isprintable() or ".." in path or not allowed.fullmatch(path):
            return _no(404, "Not found.")
        if path.startswith(f"{_API}/file=") and not self._is_upload(path.partition("=")[2]):
            return _no(403, "Only files that were uploaded here are served.")
        if self.draining and (_WORK.fullmatch(path) or _UPLOAD.fullmatch(path)):
            return _no(
                503, "The server is about to stop. Try again in a minute. 服务器即将停止，请稍后再试。"
            )
        if "transfer-encoding" in headers or not (length.isascii() and length.isdigit()):
            return _no(411, "Say how long the request is (Content-Length).")
        if int(length) > limit:
            return _no(
                413, f"Too large: at most {limit // 2**20} MB at once. 太大了：一次最多 {limit // 2**20} MB。"
            )
        if _LOGIN.fullmatch(path) and time.monotonic() < self._wrong.get(_address(scope), 0):
            return _no(429, "A wrong password. Wait a few seconds. 密码错误，请等几秒钟。")
        return None

    def _is_ours(self, host: str) -> bool:
        with suppress(ValueError):
            return bool(ipaddress.ip_address(host))
        return host in self.hosts

    def _is_upload(self, name: object) -> bool:
        with suppress(OSError, ValueError):
            return isinstance(name, str) and Path(name).resolve().is_relative_to(self.uploads)
        return False

    def _is_foreign(self, value: Any) -> bool:
        """Whether JSON names a file that was not uploaded here: Gradio would copy it, or fetch it."""
        if isinstance(value, dict):
            foreign = "path" in value and not self._is_upload(value["path"])
            return foreign or any(map(self._is_foreign, value.values()))
        return isinstance(value, list) and any(map(self._is_foreign, value))

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def watched(event: Message) -> None:
            if event["type"] == "http.response.start":
                event["headers"] = [*event.get("headers", []), *_HEADERS]
                if event["status"] == 400 and _LOGIN.fullmatch(scope["path"]):
                    self._wrong[_address(scope)] = time.monotonic() + LOGIN_DELAY
                    while len(self._wrong) > MAX_ADDRESSES:
                        self._wrong.popitem(last=False)
            await send(event)

        if not _WORK.fullmatch(scope["path"]):
            await self.app(scope, receive, watched)
            return
        event = body = await receive()
        while event.get("more_body"):
            event = await receive()
            body = {**body, "body": body["body"] + event.get("body", b""), "more_body": False}
        try:
            foreign = self._is_foreign(json.loads(body.get("body") or b"null"))
        except (ValueError, RecursionError):
            foreign = True
        if foreign:
            no = _no(400, "Not a file that was uploaded here; give the address of one as url=…")
            await no(scope, receive, send)
            return
        events = [body]

        async def replayed() -> Message:
            return events.pop() if events else await receive()

        await self.app(scope, replayed, watched)


def _host(url: str) -> tuple[str, str]:
    """A URL's host with its port, and without; empty where it has none."""
    with suppress(ValueError):
        parts = urlsplit(url.lower())
        if "@" not in parts.netloc and parts.port != 0:  # raises ValueError where it is no number
            return parts.netloc, (parts.hostname or "").rstrip(".")
    return "", ""


def _address(scope: Scope) -> str:
    return str((scope.get("client") or ("",))[0])


def _no(status: int, why: str) -> JSONResponse:
    return JSONResponse(
        {"detail": printable(why)}, status, {"connection": "close"} if status == 413 else None
    )
