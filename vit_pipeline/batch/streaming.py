"""Images in, predictions out, one after the other and in order: threads decode while the model is at work.

A bad image's error takes its place. An image's result depends on its batch only through the batch's shape,
so batches are cut at fixed places of the input: a run that goes on gives the same bits as one that never
stopped. Leaves out files and resuming (``batch``).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch

from ..errors import ArgumentError, DeviceError, ImageError, VitPipelineError
from ..images import read_image, source_name
from ..preprocessing import to_pixel_values
from .fast import Forward, fast_forward
from .prefetch import ahead

if TYPE_CHECKING:
    from ..pipeline import Prediction, ViTPipeline

_BATCHES_AHEAD = 2


@dataclass(frozen=True)
class Kept:
    """An input whose record is there already: passed on as it is.

    ``holds_place``: its batch was begun by an earlier run, so a blank image stands in for it.
    """

    record: Mapping[str, Any]
    holds_place: bool = False


@dataclass
class Clock:
    """Seconds spent: decoding (summed over threads), in the model, waiting for images."""

    decode: float = 0.0
    model: float = 0.0
    wait: float = 0.0


@dataclass(frozen=True)
class _Prepared:
    name: str
    pixels: torch.Tensor | None  # (3, H, W) in float32
    other: VitPipelineError | Kept | None = None
    seconds: float = 0.0


@dataclass
class Stream:
    """How images become predictions; :meth:`batches` does it.

    Args:
        batch_size: images in one forward pass.
        top_k: how many classes each prediction lists.
        threads: how many decode; None: as many as there are cores.
        jpeg_draft: decode large JPEGs at a reduced size: quicker, with slightly different pixels.
        compile: compile the model first.
    """

    pipe: ViTPipeline
    batch_size: int = 8
    top_k: int = 5
    threads: int | None = None
    jpeg_draft: bool = False
    compile: bool = False
    clock: Clock = field(default_factory=Clock)
    _forward: Forward | None = None

    def __post_init__(self) -> None:
        for name in ("batch_size", "top_k", "threads"):
            value = getattr(self, name)
            if value is None and name == "threads":
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ArgumentError(f"{name} is {value!r}; a whole number of at least 1 is needed")

    def batches(
        self, items: Iterable[tuple[str, Any]]
    ) -> Iterator[list[tuple[str, Prediction | VitPipelineError | Kept]]]:
        """Names and results, ``batch_size`` at a time.

        Args:
            items: name and image (anything ``ViTPipeline.read`` takes), or name and error, or name and
                :class:`Kept`. Read up to two batches ahead.

        Raises DeviceError where a batch does not fit into the device's memory; and what ``items`` raises,
        once all before it is yielded.
        """
        failures: list[Exception] = []

        def until_failure() -> Iterator[tuple[str, Any]]:
            try:
                yield from items
            except Exception as error:
                failures.append(error)

        work = partial(prepare, self.pipe, draft=draft_size(self.pipe) if self.jpeg_draft else None)
        prepared = ahead(
            lambda item: work(*item),
            until_failure(),
            threads=self.threads or cores(),
            depth=(1 + _BATCHES_AHEAD) * self.batch_size,
        )
        with closing(prepared):  # type: ignore[type-var]  # a generator
            while batch := self._next(prepared):
                yield self._classify(batch)
        if failures:
            raise failures[0]

    def _next(self, prepared: Iterator[_Prepared]) -> list[_Prepared]:
        started = time.perf_counter()
        batch = list(islice(prepared, self.batch_size))
        self.clock.wait += time.perf_counter() - started
        self.clock.decode += sum(entry.seconds for entry in batch)
        return batch

    def _classify(self, batch: list[_Prepared]) -> list[tuple[str, Prediction | VitPipelineError | Kept]]:
        started = time.perf_counter()
        pixels = next((entry.pixels for entry in batch if entry.pixels is not None), None)
        predictions: dict[int, Prediction] = {}
        if pixels is not None:
            blank = torch.zeros_like(pixels)
            places = [place for place, entry in enumerate(batch) if _has_place(entry)]
            picked = [batch[place].pixels for place in places]
            stacked = torch.stack([blank if entry is None else entry for entry in picked])  # (B, 3, H, W)
            names = [batch[place].name for place in places]
            answers = self.pipe.postprocess(self._logits(stacked), self.top_k, names)
            predictions = dict(zip(places, answers, strict=True))
        self.clock.model += time.perf_counter() - started
        return [(entry.name, entry.other or predictions[place]) for place, entry in enumerate(batch)]

    def _logits(self, pixel_values: torch.Tensor) -> torch.Tensor:
        try:
            if self._forward is None:
                self._forward = fast_forward(self.pipe, self.batch_size, compile=self.compile)
            return self._forward(pixel_values)
        except torch.OutOfMemoryError as error:
            raise DeviceError(
                f"a batch of {len(pixel_values)} does not fit into the memory of {self.pipe.device}; "
                "use a smaller batch size"
            ) from error


def stream(
    pipe: ViTPipeline,
    inputs: Iterable[Any],
    batch_size: int = 8,
    *,
    top_k: int = 5,
    threads: int | None = None,
    jpeg_draft: bool = False,
    compile: bool = False,
) -> Iterator[Prediction | VitPipelineError]:
    """A Prediction or an error for each of any number of images, in order, in bounded memory.

    Args:
        inputs: anything that ``ViTPipeline.read`` takes, from any iterable; read up to two batches ahead.

    The other arguments are those of :class:`Stream`. An image's own error is given in its place.

    Raises ArgumentError, DeviceError, and what ``inputs`` itself raises.
    """
    run = Stream(pipe, batch_size, top_k, threads, jpeg_draft, compile)  # not in the generator: raise now
    return _results(run, ((source_name(source), source) for source in inputs))


def _results(run: Stream, items: Iterable[tuple[str, Any]]) -> Iterator[Prediction | VitPipelineError]:
    batches = run.batches(items)
    with closing(batches):  # type: ignore[type-var]  # a generator
        for batch in batches:
            for _, result in batch:
                assert not isinstance(result, Kept)
                yield result


def prepare(pipe: ViTPipeline, name: str, source: Any, *, draft: tuple[int, int] | None = None) -> _Prepared:
    """Read one image and make it what the model takes, by the checkpoint's own processor."""
    if isinstance(source, Kept | VitPipelineError):
        return _Prepared(name, None, source)
    started = time.perf_counter()
    try:
        image = read_image(source, allow_private=pipe.allow_private, draft=draft)
        pixels = to_pixel_values(pipe.processor, image, name)
        return _Prepared(name, pixels, None, time.perf_counter() - started)
    except ImageError as error:
        failed = error
    chained: BaseException | None = failed
    while chained is not None:  # the frames of a traceback would keep the image's bytes in memory
        chained.__traceback__ = None
        chained = chained.__cause__ or chained.__context__
    return _Prepared(name, None, failed, time.perf_counter() - started)


def draft_size(pipe: ViTPipeline) -> tuple[int, int]:
    """(width, height) below which ``jpeg_draft`` must not decode: twice what the image is resized to."""
    size = pipe.processor.size
    edge = size.shortest_edge
    width, height = (edge, edge) if edge else (size.width, size.height)
    return 2 * width, 2 * height


def cores() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _has_place(entry: _Prepared) -> bool:
    """Whether it takes part in the forward pass, itself or as a blank image."""
    kept = isinstance(entry.other, Kept) and entry.other.holds_place and "error" not in entry.other.record
    return entry.pixels is not None or kept
