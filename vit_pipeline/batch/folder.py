"""Folders and lists of any size → one record an image in a file; nothing is lost, and a run can resume.

Records are known by the file's name, size and time of change: a run reads only what is new. Leaves out: the
loop over the images (``engine``), the file (``records``), tables (``tables``).
"""

from __future__ import annotations

import json
import mmap
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from threading import Event
from typing import Any

from .. import __version__, engine
from ..checkpoints.processors import draft_size
from ..errors import ImageError, VitPipelineError
from ..fetch.urls import is_data_url, is_url
from ..pipeline import Prediction, ViTPipeline
from ..sources import find_images
from .records import Aside, Record, RecordFile, identity
from .tables import working_file, write_table


@dataclass(frozen=True)
class Summary:
    """How far a run has come. ``print(summary)`` is the line at its end."""

    output: Path
    images: int = 0  #: records in the file, errors among them
    errors: int = 0  #: of those, images that could not be read
    classified: int = 0  #: of those, images that this run has read; the others are from before
    seconds: float = 0.0  #: since the run began
    decode_ms: float = 0.0  #: reading and preprocessing one image, in its thread
    model_ms: float = 0.0  #: the forward pass and the probabilities, for one image
    wait_ms: float = 0.0  #: the model waiting for one image
    interrupted: bool = False  #: stopped before the last input

    @property
    def rate(self) -> float:
        """Images a second."""
        return self.classified / self.seconds if self.seconds else 0.0

    def __str__(self) -> str:
        text = f"{_count(self.images, 'image')}, {_count(self.errors, 'error')}"
        if self.classified < self.images:
            text += f", {self.images - self.classified:,} of them from before"
        if not self.classified:
            return text
        each = f"decode {self.decode_ms:.1f} ms, model {self.model_ms:.1f} ms, wait {self.wait_ms:.1f} ms"
        return f"{text}, {self.rate:.1f} images/s ({each} each)"


Progress = Callable[[Summary], None]


def classify(
    sources: str | Path | Iterable[Any],
    output: str | Path,
    pipe: ViTPipeline | None = None,
    *,
    batch_size: int = 8,
    top_k: int = 5,
    threads: int | None = None,
    jpeg_draft: bool = False,
    retry_errors: bool = False,
    time_limit: float = engine.TIME_LIMIT,
    progress: Progress | None = None,
    stop: Event | None = None,
) -> Summary:
    """Classify every image of ``sources`` into a file; with a file from before, only what is new or changed.

    Args:
        sources: folders, globs, files, URLs, lists: see :func:`vit_pipeline.sources.find_images`.
        output: ``.jsonl``; or ``.csv`` or ``.parquet``, which are made at the end from a ``.jsonl`` beside
            them, kept for a later run to resume from. The first line names the model and the settings.
            Scores have six decimals.
        pipe: None: the default model.
        batch_size: images in one forward pass. Another one gives the same results but for rounding.
        top_k: how many classes each record lists.
        threads: how many decode; None: as many as there are cores.
        jpeg_draft: decode large JPEGs at a reduced size: quicker, with slightly different pixels.
        retry_errors: read those images again that failed before.
        time_limit: seconds for one image; then it is an error record. One that crashes the process is an
            error record of the next run.
        progress: called after every batch.
        stop: once set, the batch in hand is finished and written, and no other begun.

    Raises:
        OutputError: the file cannot be written, another run holds it, or its records are of another model or
            other settings.
        ArgumentError: an argument has a value that cannot be used.
        DeviceError: a batch does not fit into the device's memory.
    """
    work = working_file(output)
    pipe = pipe or ViTPipeline.from_pretrained()
    top_k, batch_size = engine.positive("top_k", top_k), engine.positive("batch_size", batch_size)
    prepare = pipe.preparer(jpeg_draft=jpeg_draft)
    images = find_images([sources] if isinstance(sources, str | Path) else sources)
    run = _Run(Path(output), retry_errors)

    def compute(pixel_values: Any, names: list[str]) -> list[Record]:
        return [_to_record(found) for found in pipe.postprocess(pipe.forward(pixel_values), top_k)]

    def noted(name: str, source: Any) -> Any:
        if source in reading.crashed:
            raise ImageError(f"{name}: {reading.crashed[source]}; save it again, or leave it out")
        with reading.noted(source):
            return prepare(name, source)

    with RecordFile(work, run_header(pipe, batch_size, top_k, jpeg_draft)) as file:
        options = {**pipe.reading, "draft": draft_size(pipe.processor) if jpeg_draft else None}
        reading = _Reading(Path(f"{work}.reading"), threads or engine.cores(), time_limit, options)
        batches = engine.run(
            run.to_do(file, images),
            noted,
            compute,
            batch_size=batch_size,
            threads=threads,
            time_limit=time_limit,
            clock=run.clock,
        )
        with reading, closing(batches):  # type: ignore[type-var]  # a generator
            for batch in batches:
                run.write(file, batch)
                if progress:
                    progress(run.summary())
                if stop and stop.is_set():
                    run.interrupted = True
                    break
        if not run.interrupted:
            run.finish(file)
            write_table(work, output)
    return run.summary()


def run_header(pipe: ViTPipeline, batch_size: int, top_k: int, jpeg_draft: bool) -> Record:
    """What the records of a run depend on, as it stands in the first line of its file."""
    origin = pipe.provenance
    return {
        "version": __version__,
        "model": pipe.name,
        "from": origin.repo or origin.source,
        "revision": origin.revision,
        "sha256": origin.sha256,
        "preprocessing": pipe.processor.to_dict(),
        "jpeg_draft": draft_size(pipe.processor) if jpeg_draft else None,
        "dtype": str(pipe.dtype).removeprefix("torch."),
        "device": pipe.device.type,
        "batch_size": batch_size,
        "top_k": top_k,
        "versions": {name: version(name) for name in ("torch", "transformers", "pillow", "numpy")},
    }


class _Run:
    """One run of ``classify``: what is left to do, and how far it has come."""

    def __init__(self, output: Path, retry_errors: bool) -> None:
        self.output, self.retry_errors = output, retry_errors
        self.interrupted = False
        self.images = self.errors = self.classified = 0
        self.clock = engine.Clock()
        self._started = time.monotonic()
        self._aside: Aside | None = None
        self._begun: deque[tuple[Record, bool]] = deque()  # inputs without a result yet; whether known

    def to_do(self, file: RecordFile, images: Iterator[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
        """The inputs that have no record in the file yet, each with what to read or its known record.

        The file is gone through in step with the inputs. Where they part, the rest of it is set aside, and a
        record is taken from there if it is of the same file.
        """
        before = file.records()
        in_step = True
        for name, source in images:
            what = _identify(name, source)
            if in_step:
                record, place = next(before, ({}, file.end))
                if self._usable(record) and identity(record) == identity(what):
                    self._count(record)
                    continue
                self._part(file, place)
                in_step = False
            known = self._aside.find(what) if self._aside else None
            self._begun.append((what, self._usable(known)))
            yield name, engine.Known(known) if self._usable(known) else source
        if in_step:
            self._part(file, next(before, ({}, file.end))[1])

    def _usable(self, record: Record | None) -> bool:
        return bool(record) and not (self.retry_errors and "error" in record)  # type: ignore[operator]

    def _part(self, file: RecordFile, place: int) -> None:
        if place < file.end:
            file.set_aside(place)
        if file.aside.exists():
            self._aside = Aside(file.aside)

    def write(self, file: RecordFile, batch: list[tuple[str, Record | VitPipelineError]]) -> None:
        """Append a record for each result."""
        records = []
        for _, result in batch:
            what, known = self._begun.popleft()
            if isinstance(result, VitPipelineError):
                result = {"error": result.to_dict()}
            records.append({"source": what["source"]} | result | what)
            self.classified += not known
        file.write(records)
        for record in records:
            self._count(record)

    def _count(self, record: Record) -> None:
        self.images += 1
        self.errors += "error" in record

    def finish(self, file: RecordFile) -> None:
        """What was set aside goes, unless all inputs are others than before: then nothing is lost."""
        if self.classified < self.images:
            file.aside.unlink(missing_ok=True)

    def summary(self) -> Summary:
        clock, each = self.clock, 1000 / max(self.classified, 1)
        return Summary(
            self.output,
            self.images,
            self.errors,
            self.classified,
            time.monotonic() - self._started,
            clock.decode * each,
            clock.model * each,
            clock.wait * each,
            self.interrupted,
        )


class _Reading:
    """Which images are being read, in a small file that outlives a crash of the process."""

    _SLOTS, _LENGTH = 32, 4096

    def __init__(self, path: Path, threads: int, time_limit: float, options: Mapping[str, Any]) -> None:
        self.path = path
        self.crashed = self._crashed(time_limit, options)  #: images that crash the process, and what happened
        self._free = deque(range(threads + self._SLOTS))

    def _crashed(self, time_limit: float, options: Mapping[str, Any]) -> dict[str, str]:
        """What the run before was reading when it died is read once more, each in a process of its own."""
        try:
            noted = self.path.read_bytes()
        except FileNotFoundError:
            return {}
        found = {}
        for start in range(0, len(noted), self._LENGTH):
            if source := os.fsdecode(noted[start : start + self._LENGTH].rstrip(b"\0")):
                command = [sys.executable, "-c", _READ_ONE, source, json.dumps(options)]
                try:
                    code = subprocess.run(command, capture_output=True, timeout=30 + time_limit).returncode
                except subprocess.TimeoutExpired:
                    found[source] = f"not read within {time_limit:g} s"
                else:
                    if code not in (0, 1):
                        found[source] = f"reading it crashes the decoder (exit code {code})"
        return found

    def __enter__(self) -> None:
        try:
            with self.path.open("wb+") as file:
                file.write(bytes(len(self._free) * self._LENGTH))  # takes its room now, not by and by
                file.flush()
                self._slots = mmap.mmap(file.fileno(), 0)
        except OSError:
            self._free.clear()  # a run without notes; it will say itself that there is no room

    def __exit__(self, *_: object) -> None:
        self.path.unlink(missing_ok=True)

    @contextmanager
    def noted(self, source: Any) -> Iterator[None]:
        """While this is read, its name is in the file."""
        try:
            slot = self._free.popleft() * self._LENGTH if isinstance(source, str) else None
        except IndexError:
            slot = None
        if slot is None:
            yield
            return
        name = os.fsencode(source)[: self._LENGTH]
        self._slots[slot : slot + len(name)] = name
        try:
            yield
        finally:
            self._slots[slot : slot + len(name)] = bytes(len(name))
            self._free.append(slot // self._LENGTH)


_READ_ONE = (
    "import json, sys; from vit_pipeline.images import read_image;"
    "read_image(sys.argv[1], **json.loads(sys.argv[2]))"
)


def _identify(name: str, source: Any) -> Record:
    """Name, size and time of change: what tells a file from the one that was there before."""
    if isinstance(source, bytes) or is_data_url(source):
        return {"source": name, "size": len(source), "mtime_ns": time.time_ns()}  # never the one before
    if isinstance(source, str) and not is_url(source):
        with suppress(OSError, ValueError):
            status = os.stat(source)  # noqa: PTH116
            return {"source": name, "size": status.st_size, "mtime_ns": status.st_mtime_ns}
    return {"source": name}


def _to_record(prediction: Prediction) -> Record:
    """Six decimals: the rest depends on the sizes of the batches."""
    top = [asdict(entry) | {"score": round(entry.score, 6)} for entry in prediction.top]
    return {"label": prediction.label, "score": top[0]["score"], "index": prediction.index, "top": top}


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"


__all__ = ["Summary", "classify"]
