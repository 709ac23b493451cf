"""The door in front of Gradio: who may ask, for what (``server.toml``), how much of it, and when it says no.

Leaves out what is done with it (``handlers``).
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import re
import socket
import time
import tomllib
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import printable
from ..images import MAX_BYTES
from .serving import report

#: Bytes of one request: an upload of several images; anything else, the largest an image as the model saw it.
MAX_UPLOAD, MAX_BODY = 2 * MAX_BYTES, 4 * 1024 * 1024
#: Bytes of one visitor's uploads within so many seconds.
MAX_BYTES_EACH, WINDOW = 1024**3, 1800.0
#: Seconds for the next part of a request, and for all of it.
PAUSE, WHOLE = 20.0, 300.0
#: Seconds before another password is looked at from an address that gave a wrong one; addresses remembered.
LOGIN_DELAY, MAX_ADDRESSES = 5.0, 1000

_RULES = tomllib.loads((Path(__file__).parent / "server.toml").read_text("utf-8"))
_ROUTES = {
    method: {kind: re.compile("|".join(paths)) for kind, paths in kinds.items()}
    for method, kinds in _RULES["routes"].items()
}
_ROUTES["HEAD"] = _ROUTES["GET"]
_HEADERS = [(name.encode(), value.encode()) for name, value in _RULES["headers"].items()]


class Guard:
    """ASGI middleware around the whole server.

    Args:
        app: what is behind the door.
        uploads: the only folder from which files are served, and from which requests may name files.
        hosts: names under which the server may be asked, besides localhost, the machine's own name and
            addresses in digits (which no stranger's DNS can point here); pages of theirs may ask too.
        defaults: of each function for programs, by its name: the arguments that a call leaves out.
    """

    def __init__(
        self,
        app: ASGIApp,
        uploads: Path,
        hosts: Collection[str] = (),
        defaults: Mapping[str, Sequence[Any]] = MappingProxyType({}),
    ) -> None:
        self.app, self.uploads, self.defaults = app, uploads.resolve(), defaults
        self.named = {host.lower().rstrip(".") for host in hosts}
        self.hosts = {"localhost", socket.gethostname().lower(), *self.named}
        self.draining = False
        self._open, self._last_work = 0, time.monotonic()  # requests that are being answered
        self._wrong: dict[str, float] = {}  # address → until when it has to wait
        self._sent: dict[str, tuple[float, int]] = {}  # address → since when it uploads, so many bytes

    @property
    def at_work(self) -> bool:
        """Whether somebody waits for an answer, or may be about to fetch one."""
        return self._open > 0 or time.monotonic() < self._last_work + 0.5

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":  # no page here opens a WebSocket
            return await send({"type": "websocket.close", "code": 1008})
        routes = _ROUTES.get(scope["method"], {})
        kind = next((kind for kind, paths in routes.items() if paths.fullmatch(scope["path"])), "")
        address = str((scope["client"] or ("",))[0])
        if rejection := self._rejection(scope, kind, address):
            return await rejection(scope, receive, send)
        if kind == "idle":
            return await self.app(scope, receive, send)

        started = False

        async def watched(event: Message) -> None:
            nonlocal started
            if event["type"] == "http.response.start":
                started = True
                event["headers"] = [*event.get("headers", []), *_HEADERS]
                if event["status"] == 400 and kind == "login":
                    self._wrong[address] = time.monotonic() + LOGIN_DELAY
                    if len(self._wrong) > MAX_ADDRESSES:
                        del self._wrong[next(iter(self._wrong))]
            await send(event)

        self._open += 1
        try:
            if kind == "work":
                await self._check_body(scope, receive, watched)
            else:
                await self.app(scope, _steady(receive) if kind == "upload" else receive, watched)
        except Exception as error:
            if not isinstance(error, ClientDisconnect):
                report(error)
            if not started:
                no = _no(400, "The request did not arrive whole, or means nothing here.")
                await no(scope, receive, send)
        finally:
            self._open, self._last_work = self._open - 1, time.monotonic()

    def _rejection(self, scope: Scope, kind: str, address: str) -> JSONResponse | None:
        """The answer to a request that does not pass, whatever its body is."""
        method, path, headers = scope["method"], scope["path"], Headers(scope=scope)
        host, name = _host("//" + headers.get("host", ""))
        origin, origin_name = _host(headers.get("origin", f"//{host}"))
        length = headers.get("content-length", "" if method == "POST" else "0")
        limit = MAX_UPLOAD if kind == "upload" else MAX_BODY
        if not self._is_ours(name):
            return _no(400, f"{host or 'no host'}: not served here; its owner can add it with --allowed-host")
        if origin != host and origin_name not in self.named:
            return _no(403, "Only this server's own pages may ask it; its owner can add --allowed-host.")
        if method not in _ROUTES:
            return _no(405, "Method not allowed.")
        if not kind or not path.isprintable() or ".." in path:
            return _no(404, "Not found.")
        if kind == "file" and not self._is_upload(path.partition("=")[2]):
            return _no(403, "Only files that were uploaded here are served.")
        if self.draining and kind in ("work", "upload"):
            return _no(503, "The server is about to stop. Try again later. 服务器即将停止，请稍后再试。")
        if "transfer-encoding" in headers or not (length.isascii() and length.isdigit()):
            return _no(411, "Say how long the request is (Content-Length).")
        if int(length) > limit:
            most = limit // 2**20
            return _no(
                413, f"Too large: at most {most} MB at once. 太大了：一次最多 {most} MB。", connection="close"
            )
        if kind == "upload" and not self._has_room(address, int(length)):
            why = "Too many uploads; wait half an hour. 上传太多了，请过半小时再试。"
            return _no(429, why, connection="close")
        if kind == "login" and time.monotonic() < self._wrong.get(address, 0):
            return _no(429, "A wrong password. Wait a few seconds. 密码错误，请等几秒钟。")
        return None

    def _has_room(self, address: str, length: int) -> bool:
        """Whether a visitor may upload as much, which then counts."""
        now = time.monotonic()
        since, sent = self._sent.pop(address, (now, 0))
        if now > since + WINDOW:
            since, sent = now, 0
        has_room = sent + length <= MAX_BYTES_EACH
        self._sent[address] = since, sent + length * has_room
        if len(self._sent) > MAX_ADDRESSES:
            del self._sent[next(iter(self._sent))]
        return has_room

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

    async def _check_body(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on if it names only files that were uploaded here; what it leaves out is added."""
        body, app = b"", self.app
        try:
            body = await Request(scope, _steady(receive)).body()
            found = json.loads(body)
            foreign = not isinstance(found, dict) or "data" not in found or self._is_foreign(found)
            values = self.defaults.get(scope["path"].strip("/").rpartition("/")[2], ())
            if not foreign and isinstance(given := found["data"], list) and len(given) < len(values):
                body = json.dumps(found | {"data": [*given, *values[len(given) :]]}).encode()
        except (ValueError, RecursionError, ClientDisconnect):
            foreign = True
        if foreign:
            app = _no(
                400,
                'This takes JSON, {"data": […]}, and only files that were uploaded here; '
                "give an address as url=…",
            )
        events: list[Message] = [{"type": "http.request", "body": body}]

        async def replayed() -> Message:
            return events.pop() if events else await receive()

        await app(scope, replayed, send)


def _steady(receive: Receive) -> Receive:
    """The parts of a request's body; one that pauses for long, or never ends, is given up."""
    end = time.monotonic() + WHOLE

    async def steady() -> Message:
        with suppress(TimeoutError):
            async with asyncio.timeout(min(PAUSE, end - time.monotonic())):
                return await receive()
        return {"type": "http.disconnect"}

    return steady


def _host(url: str) -> tuple[str, str]:
    """A URL's host with its port, and without; empty where there is none."""
    with suppress(ValueError):
        parts = urlsplit(url.lower())
        if "@" not in parts.netloc and parts.port != 0:  # raises ValueError where it is no number
            return parts.netloc, (parts.hostname or "").rstrip(".")
    return "", ""


def _no(status: int, why: str, **headers: str) -> JSONResponse:
    return JSONResponse({"detail": printable(why)}, status, headers)
