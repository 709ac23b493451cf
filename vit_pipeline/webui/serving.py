"""Many requests, one model call at a time: read and preprocess beside it, small batches, a bounded queue.

A request is refused at once when too many wait; every other one gets an answer or an error. Leaves out: who
asks (``page``), which models there are (``model_pool``).
"""

from __future__ import annotations

import io
import os
import queue
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ImageError, VitPipelineError
from ..fetch.urls import is_url

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from ..pipeline import Prediction, ViTPipeline

MAX_WAITING = 32
#: URLs wait for somebody else's server; they must not take the places of images that are at hand.
MAX_WAITING_URLS = 8
MAX_BATCH = 8


class Busy(VitPipelineError):
    """Too many requests wait already; try again in a moment."""


@dataclass(frozen=True)
class Answer:
    """A prediction and what led to it."""

    prediction: Prediction
    image: Image.Image | None  #: upright, RGB, as read; None unless asked for
    pixel_values: torch.Tensor | None  #: (1, 3, H, W) as the model saw it; None unless asked for
    seconds: dict[str, float]  #: read, preprocess, forward, postprocess; the last two for the whole batch
    batch: int  #: images in the same forward pass


@dataclass
class _Job:
    pipe: ViTPipeline
    source: str | Path
    name: str
    top_k: int
    keep: bool
    future: Future[Answer]
    image: Any = None
    pixel_values: Any = None
    seconds: dict[str, float] = field(default_factory=dict)


class Worker:
    """One thread that runs models, and a few that read images for it.

    Args:
        max_waiting: images that may wait; one more raises Busy.
        max_batch: images in one forward pass. Only what waits already is put together: nobody waits for a
            batch to fill.
    """

    def __init__(self, max_waiting: int = MAX_WAITING, max_batch: int = MAX_BATCH) -> None:
        self.limits = {False: max_waiting, True: min(max_waiting, MAX_WAITING_URLS)}
        self.max_batch = max_batch
        self._unfinished = {False: 0, True: 0}
        self._lock = threading.Lock()
        self._readers = ThreadPoolExecutor(2, "vit-read")
        self._fetchers = ThreadPoolExecutor(MAX_WAITING_URLS, "vit-fetch")
        self._ready: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="vit-model", daemon=True)
        self._thread.start()

    def submit(
        self, pipe: ViTPipeline, source: str | Path, *, name: str = "", top_k: int = 5, keep: bool = False
    ) -> Future[Answer]:
        """Queue one image. Raises Busy at once when too many wait.

        Args:
            source: a URL, or the path of an uploaded file.
            name: the image's name in the prediction and in messages.
            keep: keep the image and its pixel values in the answer.
        """
        remote = is_url(source)
        with self._lock:
            if self._unfinished[remote] >= self.limits[remote]:
                raise Busy(f"busy: {self.limits[remote]} images are waiting already; try again in a moment")
            self._unfinished[remote] += 1
        job = _Job(pipe, source, name, top_k, keep, Future())
        job.future.add_done_callback(lambda _: self._finished(remote))
        (self._fetchers if remote else self._readers).submit(self._prepare, job)
        return job.future

    @property
    def unfinished(self) -> int:
        """Images that wait or are in work."""
        with self._lock:
            return sum(self._unfinished.values())

    def close(self) -> None:
        """End the threads; what waits is given up."""
        self._readers.shutdown(wait=False, cancel_futures=True)
        self._fetchers.shutdown(wait=False, cancel_futures=True)
        self._ready.put(None)

    def _finished(self, remote: bool) -> None:
        with self._lock:
            self._unfinished[remote] -= 1

    def _prepare(self, job: _Job) -> None:
        try:
            start = time.perf_counter()
            image = _read(job)
            read = time.perf_counter()
            job.pixel_values = job.pipe.preprocess(image)  # (1, 3, H, W)
            job.seconds = {"read": read - start, "preprocess": time.perf_counter() - read}
            job.image = image if job.keep else None
        except BaseException as error:
            job.future.set_exception(error)
        else:
            self._ready.put(job)

    def _run(self) -> None:
        left: _Job | None = None
        while True:
            job = left or self._ready.get()
            if job is None:
                return
            batch, left = [job], None
            while len(batch) < self.max_batch and left is None:
                try:
                    other = self._ready.get_nowait()
                except queue.Empty:
                    break
                if other is None:
                    return
                if other.pipe is job.pipe:
                    batch.append(other)
                else:
                    left = other  # another model's image: it starts the next batch
            self._answer(batch)

    def _answer(self, batch: list[_Job]) -> None:
        import torch

        pipe = batch[0].pipe
        try:
            start = time.perf_counter()
            logits = pipe.forward(torch.cat([job.pixel_values for job in batch]))  # (B, C)
            logits = logits.cpu()
            forward = time.perf_counter()
            top_k = max(job.top_k for job in batch)
            predictions = pipe.postprocess(logits, top_k, [job.name for job in batch])
            end = time.perf_counter()
        except BaseException as error:
            for job in batch:
                job.future.set_exception(error)
            return
        for job, prediction in zip(batch, predictions, strict=True):
            seconds = job.seconds | {"forward": forward - start, "postprocess": end - forward}
            job.future.set_result(
                Answer(
                    replace(prediction, top=prediction.top[: job.top_k]),
                    job.image,
                    job.pixel_values if job.keep else None,
                    seconds,
                    len(batch),
                )
            )


def _read(job: _Job) -> Image.Image:
    """An upload is read as a stranger's image: what is for local files only is not allowed."""
    if isinstance(job.source, str):
        return job.pipe.read(job.source)
    try:
        with io.FileIO(job.source) as file:
            file.name = job.name  # as messages call it
            return job.pipe.read(file)
    except FileNotFoundError as error:
        raise ImageError(f"{job.name}: the upload is gone; give it again") from error


def spare_one_core() -> int:
    """Let torch use all cores but one, so that the server itself always has one; returns how many.

    Must be called before torch is imported. A user's own OMP_NUM_THREADS is left alone.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return int(os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores - 1))).split(",")[0])


__all__ = ["Answer", "Busy", "Worker", "spare_one_core"]
