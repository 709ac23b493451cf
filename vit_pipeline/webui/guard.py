"""The door in front of Gradio: what may be asked for, how large it may be, when it is refused.

Gradio has many more routes than this page needs, some of which fetch URLs or read files for anyone who asks.
Only those that the page and ``gradio_client`` use pass. Leaves out what is done with it (``handlers``).
"""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from ..images import MAX_BYTES
from .text import HTML_LANG, Language, preferred_language, texts

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

SESSION, LANGUAGE = "vit_session", "vit_lang"
#: Bytes of one request: an upload of several images, and anything else.
MAX_UPLOAD = 2 * MAX_BYTES
MAX_BODY = 1024 * 1024
ZH = "/zh"

_API = r"/gradio_api"
_GET = re.compile(
    r"/|/config/?|/theme\.css|/manifest\.json|/favicon\.ico|/robots\.txt|/login_check/?|/logout|/health/(live|ready)"
    r"|/(assets|static|svelte)/[\w./~@+-]+"
    rf"|{_API}/(info|openapi\.json|app_id|user|token|login_check|startup-events|upload_progress|queue/data|theme\.css)/?"
    rf"|{_API}/(heartbeat/\w+|call/(classify|structure)/\w+|file=.+)"
)
_POST = re.compile(
    rf"/login/?|{_API}/(upload|queue/join|run/predict|cancel|reset|call/(classify|structure))/?"
)
_WORK = re.compile(rf"{_API}/(upload|queue/join|call/\w+)/?")
#: Open for as long as a page is; they do not keep the server from stopping.
_IDLE = re.compile(rf"{_API}/heartbeat/|/health/")
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "media-src 'self' data: blob: mediastream:; "
    "connect-src 'self' data: blob:; worker-src 'self' blob:; frame-ancestors 'self'; form-action 'self'; "
    "base-uri 'self'"
)


class Guard:
    """ASGI middleware around the whole server.

    Args:
        app: what is behind the door.
        uploads: the only folder from which files are served.
    """

    def __init__(self, app: App, uploads: Path) -> None:
        self.app, self.uploads = app, uploads.resolve()
        self.draining = False
        self.open = 0  #: requests that are being answered
        self.last_work = time.monotonic()
        self.gradio_apps: list[Any] = []  #: behind the door, for those who shut it

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            else:  # no page here opens a WebSocket
                await send({"type": "websocket.close", "code": 1008})
            return
        path = scope["path"]
        inner = path.removeprefix(ZH) if path.startswith(ZH + "/") else path
        lang: Language = "zh" if inner != path or path == ZH else "en"
        if refused := self._refusal(scope, inner, lang):
            await _reply(send, *refused)
        elif path == ZH:
            await _redirect(send, scope, f"{ZH}/")
        elif inner == "/" and scope["method"] in ("GET", "HEAD"):
            await self._page(scope, receive, send, lang)
        elif _IDLE.match(inner):
            await self.app(scope, receive, send)
        else:
            self.open += 1
            try:
                await self._limited(
                    scope, receive, send, MAX_UPLOAD if inner.endswith("/upload") else MAX_BODY
                )
            finally:
                self.open -= 1
                self.last_work = time.monotonic()

    def _refusal(self, scope: Scope, path: str, lang: Language) -> tuple[int, str] | None:
        """The status and the sentence for a request that does not pass."""
        method = scope["method"]
        allowed = {"GET": _GET, "HEAD": _GET, "POST": _POST}.get(method)
        if allowed is None:
            return 405, "Method not allowed."
        if not path.isprintable() or ".." in path or not (path == ZH or allowed.fullmatch(path)):
            return 404, "Not found."
        if path.startswith(f"{_API}/file=") and not self._is_upload(path.partition("=")[2]):
            return 403, "Only files that were uploaded here are served."
        if self.draining and method == "POST" and _WORK.fullmatch(path):
            return 503, texts(lang)("stopping")
        return None

    def _is_upload(self, name: str) -> bool:
        try:
            return name.startswith("/") and Path(name).resolve().is_relative_to(self.uploads)
        except (OSError, ValueError):
            return False

    async def _limited(self, scope: Scope, receive: Receive, send: Send, limit: int) -> None:
        """Pass on at most ``limit`` bytes of the request's body."""
        headers = dict(scope["headers"])
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > limit:
            await _reply(send, 413, f"Too large: at most {limit // 2**20} MB in one request.")
            return
        left, answered = limit, False

        async def counted() -> MutableMapping[str, Any]:
            nonlocal left
            event = await receive()
            left -= len(event.get("body", b""))
            return event if left >= 0 else {"type": "http.disconnect"}

        async def watched(event: MutableMapping[str, Any]) -> None:
            nonlocal answered
            answered = answered or event["type"] == "http.response.start"
            if event["type"] == "http.response.start":
                event["headers"] = [*event.get("headers", []), (b"x-content-type-options", b"nosniff")]
            await send(event)

        try:
            await self.app(scope, counted, watched)
        except Exception:
            if left >= 0:
                raise
        if left < 0 and not answered:
            await _reply(send, 413, f"Too large: at most {limit // 2**20} MB in one request.")

    async def _page(self, scope: Scope, receive: Receive, send: Send, lang: Language) -> None:
        """The page itself: in the visitor's language, with a cookie for the session."""
        headers = {key: value.decode("latin-1") for key, value in scope["headers"]}
        cookies = _cookies(headers.get(b"cookie", ""))
        query = parse_qs(scope["query_string"].decode("latin-1"))
        wanted = (query.get("lang") or [""])[0]
        new = []
        if lang == "zh" or wanted in ("en", "zh"):
            new.append(_cookie(LANGUAGE, "zh" if lang == "zh" else wanted))
        elif "text/html" in headers.get(b"accept", ""):
            wanted = cookies.get(LANGUAGE) or preferred_language(headers.get(b"accept-language", ""))
        if lang == "en" and wanted == "zh":
            await _redirect(send, scope, f"{ZH}/", new)
            return
        if SESSION not in cookies:
            new.append(_cookie(SESSION, secrets.token_urlsafe(18)))
        # The page is rewritten below, so it must come in plain text.
        scope["headers"] = [pair for pair in scope["headers"] if pair[0] != b"accept-encoding"]
        start: MutableMapping[str, Any] = {}
        body = b""

        async def collect(event: MutableMapping[str, Any]) -> None:
            nonlocal start, body
            if event["type"] == "http.response.start":
                start = event
                return
            body += event.get("body", b"")
            if event.get("more_body"):
                return
            page = _localized(body, lang) if start["status"] == 200 else body
            kept = [pair for pair in start["headers"] if pair[0].lower() != b"content-length"]
            length = b"%d" % len(page)
            extra = [
                (b"content-length", length),
                (b"content-security-policy", _POLICY.encode()),
                (b"referrer-policy", b"same-origin"),
                (b"x-content-type-options", b"nosniff"),
                (b"cache-control", b"no-store"),
                (b"vary", b"accept-language, cookie"),
                *new,
            ]
            await send({**start, "headers": kept + extra})
            await send({"type": "http.response.body", "body": page if scope["method"] == "GET" else b""})

        await self.app(scope, receive, collect)


def _localized(page: bytes, lang: Language) -> bytes:
    """Gradio's page with the right ``lang``, and its own few words in that language too.

    Gradio takes them from the browser's language, before any code of the page runs; the visitor may have
    chosen the other one.
    """
    code = HTML_LANG[lang]
    script = (
        f"<script>for (const [k, v] of [['language', '{code}'], ['languages', ['{code}']]]) "
        "Object.defineProperty(navigator, k, {get: () => v});</script>"
    )
    page = page.replace(b'lang="en"', f'lang="{code}"'.encode(), 1)
    return page.replace(b"<head>", b"<head>" + script.encode(), 1)


def _cookies(header: str) -> dict[str, str]:
    try:
        return {key: morsel.value for key, morsel in SimpleCookie(header).items()}
    except CookieError:
        return {}


def _cookie(name: str, value: str) -> tuple[bytes, bytes]:
    return b"set-cookie", f"{name}={value}; Path=/; SameSite=Lax; HttpOnly".encode()


async def _redirect(
    send: Send, scope: Scope, path: str, headers: list[tuple[bytes, bytes]] | None = None
) -> None:
    query = scope["query_string"]
    location = path.encode() + (b"?" + query if query else b"")
    all_headers = [(b"location", location), (b"vary", b"accept-language, cookie"), (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 307, "headers": all_headers + (headers or [])})
    await send({"type": "http.response.body", "body": b""})


async def _reply(send: Send, status: int, text: str) -> None:
    body = json.dumps({"detail": text}, ensure_ascii=False).encode()
    headers = [(b"content-type", b"application/json; charset=utf-8"), (b"content-length", b"%d" % len(body))]
    if status == 413:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
