"""Many images → batches → results: the only such loop in this package.

Threads read and preprocess ahead of the model. Results come in the order of the images, and an image that
cannot be read is an error in its place. Leaves out what is computed (``pipeline``, ``features``), what a user
points at (``sources``) and files of results (``batch``).
"""

from __future__ import annotations

import operator
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from itertools import islice, takewhile
from typing import Any, Generic, TypeVar

import torch

from .errors import ArgumentError, DeviceError, ImageError, VitPipelineError

R = TypeVar("R")
Prepare = Callable[[str, Any], torch.Tensor]
Compute = Callable[[torch.Tensor, list[str]], Sequence[R]]

THREAD = "prepare"  #: the name of the threads that read and preprocess
TIME_LIMIT = 60.0  #: seconds for reading and preprocessing one image
_AHEAD = 3  #: batches read ahead of the model
_PATIENCE = 5.0  #: seconds for a thread to finish the image in its hands


@dataclass(frozen=True)
class Known(Generic[R]):
    """In the place of an image: a result that is already there, passed on in order."""

    result: R


@dataclass
class Clock:
    """Seconds spent: reading and preprocessing (summed over threads), computing, waiting for images."""

    decode: float = 0.0
    model: float = 0.0
    wait: float = 0.0


@dataclass(eq=False)
class _Task:
    """One image on its way."""

    name: str
    source: Any
    outcome: Any = None  # pixel values (3, H, W), or what is passed on in their place: an error, a Known
    failure: BaseException | None = None  # nothing foreseen: raised in the caller's thread
    started: float = 0.0
    seconds: float = 0.0
    done: threading.Event = field(default_factory=threading.Event)


def run(
    items: Iterable[tuple[str, Any]],
    prepare: Prepare,
    compute: Compute[R],
    *,
    batch_size: int = 8,
    threads: int | None = None,
    time_limit: float = TIME_LIMIT,
    clock: Clock | None = None,
) -> Generator[list[tuple[str, R | VitPipelineError]], None, None]:
    """Names and results, ``batch_size`` at a time, in order, in bounded memory.

    Args:
        items: a name and an image for ``prepare``, or a name and an error or :class:`Known` to pass on. Read
            in this thread, at most a few batches ahead.
        prepare: called with both in a thread; returns pixel values (3, H, W), or raises ImageError.
        compute: pixel values (B, 3, H, W) and B names → B results, in this thread.
        threads: how many prepare; None: one a core.
        time_limit: seconds after which an image that is still being prepared becomes an ImageError. Its
            thread is abandoned and another takes its place.
        clock: where to add up the seconds.

    Raises ArgumentError at once; DeviceError where a batch does not fit into memory; what ``items`` itself
    raises, after all results before it.
    """
    size, clock = positive("batch_size", batch_size), clock or Clock()
    workers = cores() if threads is None else positive("threads", threads)

    def tasks() -> Iterator[_Task]:
        try:
            for name, source in items:
                yield _Task(name, source)
        except Exception as error:
            yield _Task("", None, failure=error)

    def batches() -> Generator[list[tuple[str, R | VitPipelineError]], None, None]:
        prepared = _prepared(tasks(), prepare, workers, _AHEAD * size, time_limit)
        with closing(prepared):  # type: ignore[type-var]  # a generator
            while True:
                began = time.perf_counter()
                batch = list(islice(prepared, size))
                clock.wait += time.perf_counter() - began
                clock.decode += sum(task.seconds for task in batch)
                began = time.perf_counter()
                failure = next((task.failure for task in batch if task.failure), None)
                results = _results([*takewhile(lambda task: task.failure is None, batch)], compute)
                clock.model += time.perf_counter() - began
                if results:
                    yield results
                if failure:
                    raise failure
                if not batch:
                    return

    return batches()


def _prepared(
    tasks: Iterable[_Task], prepare: Prepare, threads: int, depth: int, time_limit: float
) -> Iterator[_Task]:
    """Every task, done, in order; at most ``depth`` are begun and not yet returned."""
    todo: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
    waiting: deque[_Task] = deque()
    workers: list[threading.Thread] = []

    def start() -> None:
        workers.append(threading.Thread(target=work, name=THREAD, daemon=True))
        workers[-1].start()

    def work() -> None:
        while (task := todo.get()) is not None:
            task.started = time.monotonic()
            outcome: Any = None
            failure: BaseException | None = None
            try:
                outcome = prepare(task.name, task.source)
            except ImageError as error:
                outcome = _without_frames(error)
            except BaseException as error:
                failure = error
            if task.outcome is not None:
                return  # too late: another thread has taken this one's place
            task.outcome, task.failure, task.seconds = outcome, failure, time.monotonic() - task.started
            task.done.set()

    def first() -> _Task:
        task = waiting.popleft()
        while not task.done.wait(min(1.0, time_limit)):
            if task.started and time.monotonic() - task.started > time_limit:
                said = f"{task.name}: not read within {time_limit:g} s; save it again, or leave it out"
                task.outcome = ImageError(said)
                start()
                break
        return task

    try:
        for task in tasks:
            if len(workers) < threads:
                start()
            waiting.append(task)
            if task.failure or isinstance(task.source, Known | VitPipelineError):
                task.outcome = task.source
                task.done.set()
            else:
                todo.put(task)
            if len(waiting) >= depth:
                yield first()
        while waiting:
            yield first()
    finally:
        with suppress(queue.Empty):
            while True:  # what has not begun is dropped
                todo.get_nowait()
        for _ in workers:
            todo.put(None)
        for worker in workers:  # an interpreter that exits under a running thread may abort
            worker.join(_PATIENCE if len(workers) <= threads else 0.1)


def _results(batch: list[_Task], compute: Compute[R]) -> list[tuple[str, R | VitPipelineError]]:
    images = [task for task in batch if isinstance(task.outcome, torch.Tensor)]
    if images:
        pixel_values = torch.stack([task.outcome for task in images])  # (B, 3, H, W)
        try:
            computed = compute(pixel_values, [task.name for task in images])
        except torch.OutOfMemoryError as error:
            raise DeviceError(
                f"a batch of {len(images)} does not fit into the device's memory; use a smaller batch size"
            ) from error
        for task, result in zip(images, computed, strict=True):
            task.outcome = Known(result)
    outcomes = ((task.name, task.outcome) for task in batch)
    return [(name, found.result if isinstance(found, Known) else found) for name, found in outcomes]


def positive(name: str, value: int) -> int:
    """``value`` as a plain int of at least 1, from any integer type. Raises ArgumentError."""
    with suppress(TypeError):
        if not isinstance(value, bool) and operator.index(value) >= 1:
            return operator.index(value)
    raise ArgumentError(f"{name} is {value!r}; a whole number of at least 1 is needed")


def cores() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _without_frames(error: ImageError) -> ImageError:
    """The error without its tracebacks, whose frames would keep the image's bytes in memory."""
    chained: BaseException | None = error
    while chained is not None:
        chained.__traceback__ = None
        chained = chained.__cause__ or chained.__context__
    return error
