"""Folders and lists of any size → one record an image in a file; nothing is lost, and a run can go on.

``classify_folder`` reads the inputs and the records that are there side by side, so that memory does not grow
with either. Leaves out: predictions as such (``streaming``), the file (``records``), tables (``tables``).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from threading import Event
from typing import Any

from .. import __version__
from ..errors import OutputError, VitPipelineError
from ..pipeline import Prediction, ViTPipeline
from .inputs import find_inputs
from .records import RecordFile
from .streaming import Kept, Stream, draft_size
from .tables import working_file, write_table

Record = dict[str, Any]
Inputs = Iterator[tuple[str, Any]]


@dataclass(frozen=True)
class Summary:
    """How far a run has come. ``print(summary)`` is the line at its end."""

    output: Path
    images: int = 0  #: records in the file, errors among them
    errors: int = 0  #: of those, images that could not be read
    classified: int = 0  #: of those, inputs that this run has read; the others are from before
    seconds: float = 0.0  #: since the first image was begun
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


def classify_folder(
    sources: str | Path | Iterable[str | Path],
    output: str | Path,
    pipe: ViTPipeline | None = None,
    *,
    batch_size: int = 8,
    top_k: int = 5,
    threads: int | None = None,
    jpeg_draft: bool = False,
    compile: bool = False,
    retry_errors: bool = False,
    progress: Progress | None = None,
    stop: Event | None = None,
    stdin: Iterable[bytes] = (),
) -> Summary:
    """Classify every image of ``sources``; go on where an earlier run with the same output stopped.

    Args:
        sources: folders, patterns, files, URLs, text files of them, ``-``: see
            :func:`vit_pipeline.batch.inputs.find_inputs`, also for ``stdin``.
        output: ``.jsonl``; or ``.csv`` or ``.parquet``, which are made at the end from a ``.jsonl`` beside
            them, kept for a later run to go on from. The first line names the model and the settings.
        pipe: None: the default model, in bfloat16 where the hardware has it.
        batch_size: images in one forward pass. Another one gives the same results but for rounding.
        top_k: how many classes each record lists.
        threads: how many decode; None: as many as there are cores.
        jpeg_draft: decode large JPEGs at a reduced size: quicker, with slightly different pixels.
        compile: compile the model first; pays in long runs.
        retry_errors: read those inputs again that failed before.
        progress: called after every batch.
        stop: once set, the batch in hand is finished and written, and no other begun.

    Raises:
        OutputError: the file cannot be written, another run holds it, or its records are of another model,
            other settings or other inputs.
        ArgumentError: an argument has a value that cannot be used.
        DeviceError: a batch does not fit into the device's memory.
    """
    work = working_file(output)
    pipe = pipe or ViTPipeline.from_pretrained(dtype="auto")
    stream = Stream(pipe, batch_size, top_k, threads, jpeg_draft, compile)
    header = run_header(stream)
    inputs = find_inputs([sources] if isinstance(sources, str | Path) else sources, stdin)
    with RecordFile(work, header) as file:
        run = _Run(stream, Path(output), progress, stop or Event())
        if retry_errors:
            run.retry(file, inputs, header)
        else:
            for record, _ in _pairs(file, inputs):
                run.count([record])
        if not run.interrupted:
            run.go_on(file, inputs)
        if not run.interrupted:
            write_table(work, output)
    return run.summary()


def run_header(stream: Stream) -> Record:
    """What the records of a run depend on, as it stands in the first line of its file."""
    pipe = stream.pipe
    return {
        "version": __version__,
        "model": pipe.provenance.name,
        "from": pipe.provenance.repo or pipe.provenance.source,
        "revision": pipe.provenance.revision,
        "sha256": pipe.provenance.sha256,
        "recipe": pipe.processor.to_dict(),
        "jpeg_draft": draft_size(pipe) if stream.jpeg_draft else None,
        "dtype": str(pipe.dtype).removeprefix("torch."),
        "device": pipe.device.type,
        "compile": stream.compile,
        "batch_size": stream.batch_size,
        "top_k": stream.top_k,
        "versions": {name: version(name) for name in ("torch", "transformers", "pillow", "numpy")},
    }


class _Run:
    """One run of ``classify_folder``: how far it has come, and how it goes on."""

    def __init__(self, stream: Stream, output: Path, progress: Progress | None, stop: Event) -> None:
        self.stream, self.output, self.progress, self.stop = stream, output, progress, stop
        self.interrupted = False
        self.images = self.errors = self.classified = 0
        self.last: deque[Record] = deque(maxlen=stream.batch_size)  # the next batch may begin with them
        self.started = time.monotonic()

    def retry(self, file: RecordFile, inputs: Inputs, header: Record) -> None:
        """Classify again what failed, in a copy of the file that takes its place once it is whole.

        Stopped before that, the copy stays, for the next retry to go on from.
        """
        with _open_copy(file, header) as copy:
            pairs = _pairs(file, inputs)
            for record, (other, _) in zip(copy.records(), pairs, strict=False):
                if record["source"] != other["source"]:
                    raise OutputError(f"{copy.path}: is of other inputs; delete it and run again")
                self.count([record])
            self.classify(((r["source"], source if "error" in r else Kept(r)) for r, source in pairs), copy)
            if not self.interrupted:
                copy.take_place_of(file)

    def go_on(self, file: RecordFile, inputs: Inputs) -> None:
        """Classify the inputs that have no record yet, in the batches of a run that never stopped."""
        begun = self.images % self.stream.batch_size
        last = list(self.last)[-begun:] if begun else []
        places = ((record["source"], Kept(record, holds_place=True)) for record in last)
        self.classify(chain(places, inputs), file, skip=begun)

    def classify(self, items: Iterable[tuple[str, Any]], file: RecordFile, skip: int = 0) -> None:
        """Write a record of every item but the first ``skip``, whose records are there."""
        if not self.classified:
            self.started = time.monotonic()
        with closing(self.stream.batches(items)) as batches:  # type: ignore[type-var]  # a generator
            for batch in batches:
                results, skip = batch[skip:], 0
                records = [_to_record(name, result) for name, result in results]
                file.write(records)
                self.classified += sum(not isinstance(result, Kept) for _, result in results)
                self.count(records)
                if self.progress:
                    self.progress(self.summary())
                if self.stop.is_set():
                    self.interrupted = True
                    return

    def count(self, records: list[Record]) -> None:
        """Take note of records that are in the file now."""
        self.last += records
        self.images += len(records)
        self.errors += sum("error" in record for record in records)

    def summary(self) -> Summary:
        clock, each = self.stream.clock, 1000 / max(self.classified, 1)
        return Summary(
            self.output,
            self.images,
            self.errors,
            self.classified,
            time.monotonic() - self.started,
            clock.decode * each,
            clock.model * each,
            clock.wait * each,
            self.interrupted,
        )


def _pairs(file: RecordFile, inputs: Inputs) -> Iterator[tuple[Record, Any]]:
    """Every record of the file with its input, read side by side."""
    for number, record in enumerate(file.records(), start=1):
        name, source = next(inputs, (None, None))
        if name != record["source"]:
            now = f"it is {name} now" if name is not None else f"only {number - 1:,} inputs are given now"
            raise OutputError(
                f"{file.path}: input {number:,} was {record['source']}, and {now}: the inputs have changed; "
                "give the same ones (new ones behind them), or another output"
            )
        yield record, source


def _open_copy(file: RecordFile, header: Record) -> RecordFile:
    path = Path(f"{file.path}.retry")
    try:
        return RecordFile(path, header, lock=False)
    except OutputError:  # left over from a file that was there before this one
        path.unlink(missing_ok=True)
        return RecordFile(path, header, lock=False)


def _to_record(name: str, result: Prediction | VitPipelineError | Kept) -> Record:
    if isinstance(result, Kept):
        return dict(result.record)
    if isinstance(result, VitPipelineError):
        return {"source": name, "error": result.to_dict()}
    record = result.to_dict()
    del record["model"]  # the header has it
    return record


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"


__all__ = ["Summary", "classify_folder"]
