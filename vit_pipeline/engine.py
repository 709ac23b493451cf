"""Many images → batches → results: the only loop of its kind in this package.

Threads read and preprocess ahead while the caller's thread computes; results come in the order of the images,
and an image that cannot be read is an error in its place. Leaves out what is computed (``pipeline``,
``features``), what a user points at (``sources``) and files of results (``batch``).
"""

from __future__ import annotations

import operator
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import torch

from .errors import ArgumentError, DeviceError, ImageError, VitPipelineError

R = TypeVar("R")
Prepare = Callable[[str, Any], torch.Tensor]
Compute = Callable[[torch.Tensor, list[str]], Sequence[R]]

THREAD = "prepare"  #: the name of the threads that read and preprocess
TIME_LIMIT = 60.0  #: seconds for reading and preprocessing one image
_AHEAD = 3  #: batches that are read and not yet computed
_PATIENCE = 5.0  #: seconds for a thread to end with the image in its hands
_MOST_KNOWN = 1000  #: known results that are passed on at once


@dataclass(frozen=True)
class Known(Generic[R]):
    """In the place of an image: its result is there already and is passed on in order."""

    result: R


@dataclass
class Clock:
    """Seconds spent: reading and preprocessing (summed over threads), computing, waiting for images."""

    decode: float = 0.0
    model: float = 0.0
    wait: float = 0.0


@dataclass(eq=False)
class _Task:
    """One image on its way. ``outcome``: pixel values, or what is passed on in their place."""

    name: str
    source: Any
    outcome: Any = None
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
) -> Iterator[list[tuple[str, R | VitPipelineError]]]:
    """Names and results, about ``batch_size`` at a time, in order, in bounded memory.

    Args:
        items: a name and an image for ``prepare``, or a name and an error or :class:`Known` to pass on. Read
            in this thread, at most a few batches ahead.
        prepare: called with both in a thread; gives pixel values (3, H, W), or raises ImageError.
        compute: pixel values (B, 3, H, W) and B names → B results, in this thread.
        threads: how many prepare; None: as many as there are cores.
        time_limit: seconds after which an image that is still being prepared becomes an ImageError. Its
            thread is left behind and another takes its place.
        clock: where to add up the seconds.

    Raises ArgumentError at once; DeviceError where a batch does not fit into memory; what ``items`` itself
    raises, once all results before it are given.
    """
    size, used = positive("batch_size", batch_size), clock or Clock()
    workers = cores() if threads is None else positive("threads", threads)
    failures: list[Exception] = []

    def until_failure() -> Iterator[_Task]:
        try:
            for name, source in items:
                yield _Task(name, source)
        except Exception as error:
            failures.append(error)

    def batches() -> Iterator[list[tuple[str, R | VitPipelineError]]]:
        tasks = _ahead(until_failure(), prepare, workers, _AHEAD * size, time_limit)
        with closing(tasks):  # type: ignore[type-var]  # a generator
            while batch := _next_batch(tasks, size, used):
                yield _results(batch, compute, used)
        if failures:
            raise failures[0]

    return batches()


def _ahead(
    tasks: Iterable[_Task], prepare: Prepare, threads: int, depth: int, time_limit: float
) -> Iterator[_Task]:
    """Every task, done, in order; at most ``depth`` are begun and not yet given."""
    todo: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
    waiting: deque[_Task] = deque()
    late: set[_Task] = set()
    workers: list[threading.Thread] = []

    def start() -> None:
        workers.append(threading.Thread(target=work, name=THREAD, daemon=True))
        workers[-1].start()

    def work() -> None:
        while (task := todo.get()) is not None:
            task.started = time.monotonic()
            try:
                outcome: Any = prepare(task.name, task.source)
            except ImageError as error:
                outcome = _without_frames(error)
            except BaseException as error:  # raised in the caller's thread
                outcome = error
            if task in late:
                return  # another thread has taken this one's place
            task.seconds, task.outcome = time.monotonic() - task.started, outcome
            task.done.set()

    def first() -> _Task:
        task = waiting.popleft()
        while not task.done.wait(min(1.0, time_limit)):
            if task.started and time.monotonic() - task.started > time_limit:
                late.add(task)
                start()
                said = f"{task.name}: not read within {time_limit:g} s; save it again, or leave it out"
                return _Task(task.name, task.source, ImageError(said))
        return task

    try:
        for number, task in enumerate(tasks):
            if number < threads:
                start()
            waiting.append(task)
            if isinstance(task.source, Known | VitPipelineError):
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
        for worker in workers:  # an interpreter that ends under a thread's feet may abort
            worker.join(0.1 if late else _PATIENCE)


def _next_batch(tasks: Iterator[_Task], batch_size: int, clock: Clock) -> list[_Task]:
    started = time.perf_counter()
    batch: list[_Task] = []
    places = 0
    while places < batch_size and len(batch) < _MOST_KNOWN and (task := next(tasks, None)):
        batch.append(task)
        places += not isinstance(task.outcome, Known)
        clock.decode += task.seconds
    clock.wait += time.perf_counter() - started
    return batch


def _results(batch: list[_Task], compute: Compute[R], clock: Clock) -> list[tuple[str, R | VitPipelineError]]:
    started = time.perf_counter()
    good = [task for task in batch if isinstance(task.outcome, torch.Tensor)]
    results: dict[_Task, Any] = {}
    for task in batch:
        if isinstance(task.outcome, Known):
            results[task] = task.outcome.result
        elif isinstance(task.outcome, VitPipelineError):
            results[task] = task.outcome
        elif isinstance(task.outcome, BaseException):
            raise task.outcome
    if good:
        pixel_values = torch.stack([task.outcome for task in good])  # (B, 3, H, W)
        try:
            computed = compute(pixel_values, [task.name for task in good])
        except torch.OutOfMemoryError as error:
            raise DeviceError(
                f"a batch of {len(good)} does not fit into the device's memory; use a smaller batch size"
            ) from error
        results |= zip(good, computed, strict=True)
    clock.model += time.perf_counter() - started
    return [(task.name, results[task]) for task in batch]


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
