"""One process that serves the page: health, draining, clean-up.

Leaves out: what is said at start, and the options.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from inspect import signature
from pathlib import Path
from typing import Any

import gradio as gr
import uvicorn
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from gradio.themes import Default
from starlette.middleware.cors import CORSMiddleware

from ..images import MAX_BYTES
from .guard import Guard
from .handlers import Handlers
from .page import build
from .views import HERE, TEXTS

#: Seconds that requests in flight have when the server is told to stop, and connections to be closed.
DRAIN, CLOSE = 7.0, 1.0
#: Uploads are deleted when they are this old (seconds), or sooner when all together are larger (bytes).
UPLOAD_AGE, UPLOAD_BYTES, SWEEP = 1800.0, 2 * 1024**3, 30
#: Connections at a time; one that says nothing is closed at the second sweep.
CONNECTIONS = 1000
#: More than places to wait in (serving.Places): whoever has one is not kept from a thread by others.
THREADS = 64


def create_app(
    do: Handlers, uploads: Path, auth: tuple[str, str] | None = None, hosts: Collection[str] = ()
) -> Guard:
    """The ASGI application: the page, the API, ``/health/live`` and ``/health/ready``.

    ``uploads`` is the folder for uploaded files, which Gradio must have been told of (GRADIO_TEMP_DIR).
    """
    do.login = auth is not None
    server = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    server.add_middleware(CORSMiddleware)  # allows no other origin, and keeps Gradio from doing so
    apis: dict[str, Callable[..., Any]] = {"classify": do.api_classify, "structure": do.api_structure}
    defaults = {name: [p.default for p in signature(api).parameters.values()] for name, api in apis.items()}
    guard = Guard(server, uploads, hosts, defaults)

    @server.get("/health/live")
    async def live() -> dict[str, str]:
        return {"status": "live"}

    @server.get("/health/ready")
    async def ready() -> JSONResponse:
        if guard.draining:
            return JSONResponse({"status": "stopping"}, status_code=503)
        return JSONResponse({"status": "ready", "model": do.models.start.name})

    lacking = {key: texts for key, texts in TEXTS.items() if "." in key}  # by Gradio's own parts
    words = {tag: {key: lacking[key][n] for key in lacking} for n, tag in enumerate(("en", "zh-CN"))}
    theme = Default(primary_hue="teal", neutral_hue="slate", font="system-ui", font_mono="monospace")
    looks = {"theme": theme, "css_paths": HERE / "page.css", "js": (HERE / "page.js").read_text("utf-8")}
    looks |= {"i18n": gr.I18n(**words), "footer_links": []}
    gr.mount_gradio_app(server, build(do), "/", auth=auth, max_file_size=MAX_BYTES, ssr_mode=False, **looks)
    return guard


class Server(uvicorn.Server):
    """uvicorn, but a signal first lets requests in flight be answered, and the exit code is 0."""

    def __init__(self, guard: Guard, on_ready: Callable[[], None]) -> None:
        kind: dict[str, Any] = {"http": "h11", "ws": "none", "log_level": "error"}
        super().__init__(uvicorn.Config(guard, limit_concurrency=CONNECTIONS, **kind))
        self._silent: set[Any] = set()
        self.config.callback_notify, self.config.timeout_notify = self._sweep, SWEEP
        self.guard, self.on_ready = guard, on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS))
        self._own = frozenset(self.guard.uploads.rglob("*"))
        gc.freeze()  # what is here stays: looking through it again and again holds everybody up
        self.on_ready()

    async def _sweep(self) -> None:
        await asyncio.to_thread(sweep, self.guard.uploads, self._own)
        connections: set[Any] = self.server_state.connections
        silent = {one for one in connections if one.cycle is None}  # without a request yet
        for one in silent & self._silent:
            one.transport.abort()
        self._silent = silent

    def handle_exit(self, *_: object) -> None:
        """Take no more work, let what is there finish, then end; the second time, end at once."""
        if self.guard.draining:
            self._end()
        self.guard.draining = True
        threading.Thread(target=self._drain, daemon=True).start()  # ends whatever the event loop does

    def _drain(self) -> None:
        until = time.monotonic() + DRAIN
        while self.guard.at_work and time.monotonic() < until:
            time.sleep(0.1)
        self.should_exit = True  # uvicorn closes connections
        time.sleep(CLOSE)  # some stay open for as long as a page is
        self._end()

    def _end(self) -> None:
        shutil.rmtree(self.guard.uploads, ignore_errors=True)
        Path(f"{self.guard.uploads}.lock").unlink(missing_ok=True)
        os._exit(0)


def sweep(
    uploads: Path, own: Collection[Path] = (), age: float = UPLOAD_AGE, size: int = UPLOAD_BYTES
) -> None:
    """Delete what is older than ``age`` seconds, and the oldest while all is larger than ``size`` bytes.

    What is ``own`` stays: Gradio's copies of the example photos, which every visitor is shown.
    """
    found = []
    for path in uploads.rglob("*"):
        with contextlib.suppress(OSError):
            status = path.stat()
            if path.is_file() and path not in own:
                found.append((status.st_mtime, status.st_size, path))
    total = sum(bytes_ for _, bytes_, _ in found)
    for modified, bytes_, path in sorted(found):
        if time.time() - modified < age and total <= size:
            break
        total -= bytes_
        with contextlib.suppress(OSError):
            path.unlink()
            path.parent.rmdir()
