"""What visitors share: the models in memory, and one model call at a time, with a bounded queue before it.

A request for which there is no place is rejected at once. Leaves out: who asks (``handlers``).
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import IO, Any

from ..errors import ModelNameError, VitPipelineError
from ..loading import Progress
from ..names import KNOWN_MODELS
from ..pipeline import Prediction, ViTPipeline

MAX_WAITING, MAX_BATCH = 32, 8
MODELS_KEPT, MAX_LOADS = 3, 8


_REPORTED: set[tuple[type, str]] = set()


def report(error: Exception) -> None:
    """What nobody foresaw, for the server's owner, once: visitors cannot fill the log with it."""
    what = type(error), str(traceback.extract_tb(error.__traceback__)[-1:])
    if what not in _REPORTED:
        _REPORTED.add(what)
        print("".join(traceback.format_exception(error)), file=sys.stderr, flush=True)


class Busy(VitPipelineError):
    """Too many requests wait already; try again in a moment."""


class Places:
    """So many may wait or be in work: ``with places: …`` takes one, or raises Busy at once."""

    def __init__(self, limit: int) -> None:
        self.limit, self.taken = limit, 0

    def __enter__(self) -> None:
        if self.taken >= self.limit:
            raise Busy(f"busy: {self.taken} requests are waiting already; try again in a moment")
        self.taken += 1

    def __exit__(self, *_: object) -> None:
        self.taken -= 1


@dataclass(frozen=True)
class Answer:
    """A prediction, the seconds that it waited and took, and how many images were computed together."""

    prediction: Prediction
    waited: float
    took: float
    together: int


@dataclass
class _Job:
    pipe: ViTPipeline
    source: IO[bytes]
    top_k: int
    done: asyncio.Future[tuple[Any, float, float, int]] = field(default_factory=asyncio.Future)


class Worker:
    """Calls pipelines in a thread, one after the other, for one event loop.

    At most ``max_waiting`` images wait or are in work. Up to ``max_batch`` that wait for the same model are
    computed in one call; nobody waits for a batch to fill.
    """

    def __init__(self, max_waiting: int = MAX_WAITING, max_batch: int = MAX_BATCH) -> None:
        self.places, self.max_batch = Places(max_waiting), max_batch
        self._jobs: deque[_Job] = deque()
        self._task: asyncio.Task[None] | None = None

    async def ask(self, pipe: ViTPipeline, source: IO[bytes], top_k: int = 5) -> Answer:
        """One image's answer, from an open file, whose name the prediction carries.

        Raises Busy at once, and what calling the pipeline raises.
        """
        with self.places:
            job, asked = _Job(pipe, source, top_k), time.perf_counter()
            self._jobs.append(job)
            if self._task is None or self._task.done():
                self._task = asyncio.create_task(self._work())
            result, began, took, together = await job.done
        if isinstance(result, Exception):
            raise result
        prediction = replace(result, source=source.name, top=result.top[:top_k])
        return Answer(prediction, began - asked, took, together)

    async def _work(self) -> None:
        while self._jobs:
            pipe, batch, began = self._jobs[0].pipe, [self._jobs.popleft()], time.perf_counter()
            while self._jobs and len(batch) < self.max_batch and self._jobs[0].pipe is pipe:
                batch.append(self._jobs.popleft())
            sources, top_k = [job.source for job in batch], max(job.top_k for job in batch)
            results: list[Any]
            try:
                results = await asyncio.to_thread(_predict, pipe, sources, top_k)
            except Exception as error:
                results = [error] * len(batch)
            took = time.perf_counter() - began
            for job, result in zip(batch, results, strict=True):
                if not job.done.done():  # whoever asked may have gone
                    job.done.set_result((result, began, took, len(batch)))


def _predict(pipe: ViTPipeline, sources: list[IO[bytes]], top_k: int) -> list[Any]:
    return [*pipe.stream(sources, len(sources), top_k=top_k, threads=1)]


class ModelPool:
    """Loads the models that a server's owner allows, one at a time, and keeps the last few.

    Every page names its model with each request: loading one takes no other visitor's away, nor breaks a
    request in flight, and one that was unloaded meanwhile is loaded again. ``start`` is always kept and
    allowed; ``allowed`` names others besides the short names, or is ``any``. ``options`` and errors are those
    of ``ViTPipeline.from_pretrained``.
    """

    def __init__(
        self, start: str, allowed: Collection[str] = (), progress: Progress | None = None, **options: Any
    ) -> None:
        self.open = "any" in allowed
        self.choices = tuple(dict.fromkeys([*KNOWN_MODELS, start, *(n for n in allowed if n != "any")]))
        self.places = Places(MAX_LOADS)
        self._options = options
        self._turn = threading.Lock()  # held while a model is being loaded
        self._kept: dict[str, ViTPipeline] = {}  # the one that was not used for longest first
        self.start = ViTPipeline.from_pretrained(start, progress=progress, **options)

    def find(self, name: str) -> ViTPipeline | None:
        """The model, if it is in memory; the one that the server started with for an empty name."""
        if name in ("", self.start.name):
            return self.start
        if found := self._kept.pop(name, None):
            self._kept[name] = found
        return found

    async def get(self, name: str, progress: Progress | None = None) -> ViTPipeline:
        """The model, loaded if it is not in memory, after those that wait already.

        Raises Busy, ModelNameError where the owner does not allow it, and what loading it raises.
        """
        if found := self.find(name):
            return found
        if not self.open and name not in self.choices:
            allowed = ", ".join(self.choices)
            raise ModelNameError(f"{name}: not allowed on this server, whose owner allows {allowed}")
        with self.places:
            return await asyncio.to_thread(self._load, name, progress)

    def _load(self, name: str, progress: Progress | None) -> ViTPipeline:
        with self._turn:
            if found := self.find(name):  # whoever came before wanted the same
                return found
            loaded = ViTPipeline.from_pretrained(name, progress=progress, **self._options)
            self._kept[name] = loaded
            for unused in [*self._kept][: 1 - MODELS_KEPT]:  # one more is the first, which stays
                del self._kept[unused]
            return loaded
