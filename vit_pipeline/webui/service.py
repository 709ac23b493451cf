"""What all visitors of the page share: the models, the worker, the sessions, and a limit for what is slow."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import gradio as gr

from .model_pool import Loaded, ModelPool, Progress
from .serving import Busy, Worker
from .sessions import Session, Sessions

COOKIE = "vit_session"
#: Loads and structures that may wait; they are few, and slow.
MAX_SLOW = 8
_Result = TypeVar("_Result")


class Service:
    """One for both languages' pages."""

    def __init__(self, pool: ModelPool, worker: Worker) -> None:
        self.pool, self.worker = pool, worker
        self.sessions = Sessions()
        self._loads, self._drawings = ThreadPoolExecutor(1, "vit-load"), ThreadPoolExecutor(1, "vit-draw")
        self._waiting = dict.fromkeys((self._loads, self._drawings), 0)

    def session(self, request: gr.Request) -> Session:
        """The visitor's, by cookie; of the open page alone where there are no cookies."""
        key = request.cookies.get(COOKIE) if request else None
        return self.sessions.get(str(key or (request and request.session_hash) or "")[:64])

    async def model(self, name: str) -> Loaded:
        """The model of that name; loaded again if it was not used for long."""
        return self.pool.find(name) or await self.load(name)

    async def load(self, name: str, progress: Progress | None = None) -> Loaded:
        """Load a model in a thread, after those that wait already. Raises what ``ModelPool.load`` raises."""
        return await self._slowly(self._loads, lambda: self.pool.load(name, progress))

    async def draw(self, function: Callable[[], _Result]) -> _Result:
        """Run what draws a structure in a thread, after those that wait already. Raises Busy."""
        return await self._slowly(self._drawings, function)

    async def _slowly(self, threads: ThreadPoolExecutor, function: Callable[[], _Result]) -> _Result:
        if self._waiting[threads] >= MAX_SLOW:
            raise Busy("busy: too much waits already; try again in a moment")
        self._waiting[threads] += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(threads, function)
        finally:
            self._waiting[threads] -= 1

    def close(self) -> None:
        """End the threads."""
        self.worker.close()
        for threads in self._waiting:
            threads.shutdown(wait=False, cancel_futures=True)
