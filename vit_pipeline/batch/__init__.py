"""Folders and lists of any size → one record an image, in JSONL, CSV or Parquet; a run can resume.

Records are known by the file's name, size and time of change: a run reads only what is new. Leaves out: the
loop over the images (``engine``), the file (``records``), tables (``tables``), and, for data that others
hold, ``columns``.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from .. import __version__, engine
from ..checkpoints.processors import draft_size
from ..errors import ImageError, VitPipelineError
from ..fetch.urls import is_data_url, is_url
from ..files import file_state
from ..pipeline import ViTPipeline
from ..sources import find_images
from .columns import Classifier
from .records import Record, open_records, writing
from .tables import working_file, write_table

__all__ = ["Classifier", "Summary", "classify"]


@dataclass(frozen=True)
class Summary:
    """How far a run has come. ``print(summary)`` is the line at its end."""

    output: Path
    images: int = 0  #: records in the file, errors among them
    errors: int = 0  #: of those, images that could not be read
    classified: int = 0  #: of those, images that this run has read; the others are from before
    seconds: float = 0.0  #: since the run began
    clock: engine.Clock = field(default_factory=engine.Clock)  #: what they were spent on
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
        spent = [f"{what} {1000 * used / self.classified:.1f} ms" for what, used in vars(self.clock).items()]
        return f"{text}, {self.rate:.1f} images/s ({', '.join(spent)} each)"


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
    progress: Callable[[Summary], None] | None = None,
    stop: threading.Event | None = None,
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
    draft = draft_size(pipe.processor) if jpeg_draft else None
    summary, clock, started = Summary(Path(output)), engine.Clock(), time.monotonic()
    begun: deque[Record] = deque()  # the inputs without a result yet

    def inputs() -> Iterator[tuple[str, Any]]:
        for name, source in find_images(sources):
            begun.append(what := _identify(name, source))
            known = file.find(what, retry_errors)
            yield name, engine.Known(known) if known else notes.check(name, source) or source

    def noted(name: str, source: Any) -> torch.Tensor:
        with notes.reading(name):
            return prepare(name, source)

    batches: Any = engine.run(  # begins with the first ``next``
        inputs(),
        noted,
        pipe.predictor(top_k),
        batch_size=batch_size,
        threads=threads,
        time_limit=time_limit,
        clock=clock,
    )
    with (
        open_records(work, _header(pipe, draft, batch_size, top_k)) as file,
        closing(_Notes(Path(f"{work}.reading"), time_limit, {**pipe.reading, "draft": draft})) as notes,
        closing(batches),
    ):
        for batch in batches:
            records = [_to_record(begun.popleft(), result) for _, result in batch]
            file.write(records)
            summary = replace(
                summary,
                images=summary.images + len(batch),
                errors=summary.errors + sum("error" in record for record in records),
                classified=summary.classified + sum(not isinstance(result, dict) for _, result in batch),
                seconds=time.monotonic() - started,
                clock=replace(clock),
            )
            if progress:
                progress(summary)
            if stop and stop.is_set():
                return replace(summary, interrupted=True)
        file.finish()
        write_table(work, output)
    return summary


def _header(pipe: ViTPipeline, draft: tuple[int, int] | None, batch_size: int, top_k: int) -> Record:
    """What the records of a run depend on, for the first line of its file."""
    origin = pipe.provenance
    return {
        "version": __version__,
        "model": pipe.name,
        "from": origin.repo or origin.source,
        "revision": origin.revision,
        "sha256": origin.sha256,
        "preprocessing": pipe.processor.to_dict(),
        "jpeg_draft": draft,
        "dtype": str(pipe.backend),
        "agreement": pipe.agreement and pipe.agreement.to_dict(),
        "device": pipe.device.type,
        "batch_size": batch_size,
        "top_k": top_k,
        "versions": {name: version(name) for name in ("torch", "transformers", "pillow", "numpy")},
    }


def _identify(name: str, source: Any) -> Record:
    """Name, size and time of change: what tells a file from the one that was there before."""
    what: Record = {"source": name}
    if is_url(source) or isinstance(source, VitPipelineError):
        return what
    if not isinstance(source, str) or is_data_url(source):
        return what | {"mtime_ns": time.time_ns()}  # pixels or bytes: never the ones from before
    return what | file_state(source)


def _to_record(what: Record, result: Any) -> Record:
    """Six decimals: the rest depends on the sizes of the batches."""
    if isinstance(result, dict):  # from before
        return result
    if isinstance(result, VitPipelineError):
        found: Record = {"error": result.to_dict()}
    else:
        top = [asdict(entry) | {"score": round(entry.score, 6)} for entry in result.top]
        found = {**top[0], "top": top}
    return {"source": what["source"], **found, **what}


class _Notes:
    """Which images are being read, in a small file that outlives a crash of the process."""

    def __init__(self, path: Path, time_limit: float, options: dict[str, Any]) -> None:
        self._path, self._time_limit, self._options = path, time_limit, options
        self._names: list[str] = []
        self._lock = threading.Lock()
        with writing(path):
            before = path.read_text("utf-8", "replace") if path.exists() else ""
            self._suspects = set(before.split("\0"))  # one of them may have crashed the last run
            self._file = path.open("wb", buffering=0)

    def close(self) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)

    @contextmanager
    def reading(self, name: str) -> Iterator[None]:
        """Meanwhile the name is in the file."""
        with self._lock, suppress(OSError, ValueError):  # a full disk, or the run has ended
            self._names.append(name)
            self._file.seek(0)
            self._file.write("\0".join([*self._suspects, *self._names]).encode())
            self._file.truncate()
        try:
            yield
        finally:
            self._names.remove(name)

    def check(self, name: str, source: Any) -> ImageError | None:
        """The error of an image that crashes a process of its own; only suspects are tried."""
        if name not in self._suspects or not isinstance(source, str):
            return None
        script = f"from vit_pipeline.images import read_image; read_image({source!r}, **{self._options!r})"
        code = 0
        with suppress(subprocess.TimeoutExpired):  # the engine will find the same
            command = [sys.executable, "-c", script]
            code = subprocess.run(command, capture_output=True, timeout=30 + self._time_limit).returncode
        self._suspects.remove(name)
        if code in (0, 1):
            return None
        return ImageError(
            f"{name}: reading it crashes the decoder (exit code {code}); save it again, or leave it out"
        )


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"
