"""Work done by threads ahead of its reader, in order, and never further ahead than is said.

Pillow decodes and resizes without Python's lock, so that threads prepare the next images while the model is
at work. Leaves out what the work is (``streaming``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def ahead(work: Callable[[T], R], items: Iterable[T], *, threads: int, depth: int) -> Iterator[R]:
    """``work(item)`` of every item, in order.

    Args:
        work: called by ``threads`` threads at once.
        items: read by the caller's own thread, ``depth`` items ahead of what is yielded.

    What ``work`` raises is raised in its place.
    """
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) >= depth:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
