"""One process that serves the page: health, draining, clean-up.

Leaves out what is said at start, and the options (``launch``).
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import gradio as gr
import uvicorn
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from gradio import processing_utils
from starlette.routing import Mount

from ..images import MAX_BYTES
from .guard import ZH, Guard
from .page import build, theme
from .service import Service
from .text import GRADIO_WORDS

#: Seconds that requests in flight have when the server is told to stop, and that it takes at most to stop.
DRAIN, STOP = 7.0, 9.0
#: Uploads are deleted when they are this old (seconds), or sooner when all together are larger (bytes).
UPLOAD_AGE, UPLOAD_BYTES = 1800.0, 2 * 1024**3
SWEEP = 60.0


def create_app(service: Service, uploads: Path, *, auth: tuple[str, str] | None = None) -> Guard:
    """The ASGI application: both pages, the API, ``/health/live`` and ``/health/ready``.

    Args:
        uploads: the folder for uploaded files, which Gradio must have been told of (GRADIO_TEMP_DIR).
        auth: user name and password that the page asks for.
    """
    processing_utils.async_ssrf_protected_get = _fetches_nothing
    server = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    guard = Guard(server, uploads)

    @server.get("/health/live")
    async def live() -> JSONResponse:
        return JSONResponse({"status": "live"})

    @server.get("/health/ready")
    async def ready() -> JSONResponse:
        if guard.draining:
            return JSONResponse({"status": "stopping"}, status_code=503)
        return JSONResponse({"status": "ready", "model": service.pool.start.name})

    pages = {
        ZH: build(service, "zh", other_page="../?lang=en", api=False),
        "/": build(service, "en", other_page="./zh/", api=True),
    }
    css, script = (Path(__file__).with_name(name).read_text("utf-8") for name in ("page.css", "page.js"))
    words = {"/": GRADIO_WORDS["en"], ZH: GRADIO_WORDS["zh"]}
    for path, page in pages.items():
        gr.mount_gradio_app(
            server,
            page,
            path,
            auth=auth,
            allowed_paths=[],
            show_error=True,
            max_file_size=MAX_BYTES,
            ssr_mode=False,
            enable_monitoring=False,
            run_history=False,
            mcp_server=False,
            pwa=False,
            footer_links=[],
            theme=theme(),
            css=css,
            js=f"() => ({script})({json.dumps(words[path])})",
        )
        page.has_launched = page.is_running = True  # without it, Gradio hands out any file of the server's
    guard.gradio_apps = [route.app for route in server.routes if isinstance(route, Mount)]
    chinese, english = guard.gradio_apps
    chinese.cookie_id, chinese.tokens = english.cookie_id, english.tokens  # one login for both
    return guard


async def _fetches_nothing(url: str) -> None:
    """In the place of Gradio's downloader, which has no limits: our own code fetches URLs."""
    raise gr.Error("give a URL as url=…, not as a file", print_exception=False)


class Server(uvicorn.Server):
    """uvicorn, but a signal first lets requests in flight be answered, and the exit code is 0."""

    def __init__(self, guard: Guard, uploads: Path, on_ready: Callable[[], None]) -> None:
        config = uvicorn.Config(
            guard,
            log_level="warning",
            access_log=False,
            ws="none",
            timeout_graceful_shutdown=1,
            lifespan="on",
        )
        super().__init__(config)
        self.guard, self.uploads, self.on_ready = guard, uploads, on_ready
        self._tasks: list[asyncio.Task[None]] = []

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            try:
                loop.add_signal_handler(number, self.stop)
            except NotImplementedError:  # Windows
                signal.signal(number, lambda *_: loop.call_soon_threadsafe(self.stop))
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._tasks.append(asyncio.create_task(_sweep(self.uploads)))
        # What is there now stays: without it, the collector looks at the requests' own garbage, and soon.
        gc.collect()
        gc.freeze()
        self.on_ready()

    def stop(self) -> None:
        """Take no more work, let what is there finish, then end; the second time, end at once."""
        if self.guard.draining:
            self.should_exit = True
            return
        self.guard.draining = True
        timer = threading.Timer(STOP, self._end_now)
        timer.daemon = True
        timer.start()
        self._tasks.append(asyncio.create_task(self._drain()))

    async def _drain(self) -> None:
        end = time.monotonic() + DRAIN
        while time.monotonic() < end:
            idle = not self.guard.open and time.monotonic() - self.guard.last_work > 0.5
            if idle or self.should_exit:
                break
            await asyncio.sleep(0.1)
        for app in self.guard.gradio_apps:
            app.stop_event.set()  # pages that are open are let go
        self.should_exit = True

    def _end_now(self) -> None:
        shutil.rmtree(self.uploads, ignore_errors=True)
        os._exit(0)


async def _sweep(uploads: Path) -> None:
    """Delete old uploads for as long as the server runs."""
    while True:
        await asyncio.sleep(SWEEP)
        await asyncio.to_thread(sweep, uploads)


def sweep(uploads: Path, age: float = UPLOAD_AGE, size: int = UPLOAD_BYTES) -> None:
    """Delete what is older than ``age`` seconds, and the oldest while all is larger than ``size`` bytes."""
    found = []
    for path in uploads.rglob("*"):
        with contextlib.suppress(OSError):
            status = path.stat()
            if path.is_file():
                found.append((status.st_mtime, status.st_size, path))
    total = sum(bytes_ for _, bytes_, _ in found)
    for modified, bytes_, path in sorted(found):
        if time.time() - modified < age and total <= size:
            break
        total -= bytes_
        with contextlib.suppress(OSError):
            path.unlink()
            path.parent.rmdir()
