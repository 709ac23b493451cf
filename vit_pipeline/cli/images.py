"""``vit-pipeline predict | classify | features | similar``: the commands that run a model on images."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import ArgumentError, VitPipelineError, printable
from . import options as o
from .terminal import image_sources, note, print_json, print_prediction, progress_bars, read_stdin

if TYPE_CHECKING:
    from ..batch import Summary


class Errors:
    """Prints each image's error as it comes, and remembers that there was one."""

    count = 0

    def __call__(self, error: VitPipelineError) -> None:
        self.count += 1
        note(f"error: {error}")

    def exit(self) -> None:
        if self.count:
            raise typer.Exit(1)


@o.with_pipeline
def predict(
    open: o.OpenFor,
    quiet: bool,
    images: o.Images = None,
    from_file: o.FromFile = None,
    top_k: o.TopK = 5,
    as_json: o.Json = False,
) -> None:
    """Say what is in each image.

    Prints the predicted class, then the likeliest classes with their probabilities.

    Example: vit-pipeline predict --model demo cat.jpg photos/ https://example.com/dog.jpg
    """
    sources = image_sources(images, from_file)
    pipe = open(sources)
    from .. import engine
    from ..sources import find_images

    errors = Errors()
    batches = engine.run(find_images(sources), pipe.preparer(), pipe.predictor(top_k), batch_size=1)
    for number, ((name, result),) in enumerate(batches):
        if as_json and isinstance(result, VitPipelineError):
            errors.count += 1
            print_json({"source": name, "error": result.to_dict()})
        elif isinstance(result, VitPipelineError):
            errors(result)
        elif as_json:
            print_json(result.to_dict())
        else:
            print_prediction(result, first=number == 0, labels=pipe.labels)
    errors.exit()


@o.with_pipeline
def classify(
    open: o.OpenFor,
    quiet: bool,
    output: Annotated[Path, o.output(".jsonl", ".csv", ".parquet")],
    images: o.Images = None,
    from_file: o.FromFile = None,
    top_k: o.TopK = 5,
    batch_size: o.BatchSize = 8,
    threads: Annotated[
        int | None, typer.Option(min=1, help="How many decode.", show_default="the number of cores")
    ] = None,
    jpeg_draft: Annotated[
        bool, typer.Option("--jpeg-draft", help="Decode large JPEGs at a reduced size: quicker, less exact.")
    ] = False,
    retry_errors: Annotated[
        bool, typer.Option("--retry-errors", help="Read again what failed before.")
    ] = False,
    time_limit: Annotated[float, typer.Option(min=0.1, help="Seconds for reading one image.")] = 60,
) -> None:
    """Classify folders of any size into a file.

    One record an image. The same command resumes an interrupted run, and reads only what is new or changed.

    Example: vit-pipeline classify photos/ -o photos.jsonl
    """
    sources = image_sources(images, from_file)
    from ..batch import classify as run
    from ..batch.records import computed_before
    from ..batch.tables import working_file

    work = working_file(output)
    pipe = open(sources, before=computed_before(work))
    with _finish_on_interrupt() as stop, _classify_bar(sources, quiet) as progress:
        summary = run(
            sources,
            output,
            pipe,
            batch_size=batch_size,
            top_k=top_k,
            threads=threads,
            jpeg_draft=jpeg_draft,
            retry_errors=retry_errors,
            time_limit=time_limit,
            progress=progress,
            stop=stop,
        )
    if not quiet:
        note(str(summary))
    aside = Path(f"{work}.aside")
    if aside.exists() and not summary.interrupted:
        note(f"all inputs are others than before: the records of those are kept in {aside}")
    if summary.interrupted:
        note(f"interrupted; {output} is complete so far: run the same command again to resume")
        os._exit(130)  # an image may still be in a decoder's hands
    if summary.errors:
        note(f"{summary.errors:,} could not be read; {output} says why; --retry-errors reads them again")
        raise typer.Exit(1)


@contextmanager
def _finish_on_interrupt() -> Iterator[Event]:
    """The first Ctrl-C sets the event; a second one stops at once: what is on the disk is complete."""
    stop = Event()

    def on_interrupt(*_: object) -> None:
        if stop.is_set():
            os._exit(130)
        stop.set()
        note("finishing the batch in hand; Ctrl-C again to stop at once")

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _classify_bar(sources: list[Any], quiet: bool) -> Iterator[Any]:
    """Images so far, images/s, errors, time left; the total is not known where a list is read from a file."""
    columns = "BarColumn", "MofNCompleteColumn", "{task.fields[said]}", "TimeRemainingColumn"
    with progress_bars(quiet, *columns) as bar:
        if bar is None:
            yield None
            return
        from ..sources import find_images

        known = all(isinstance(source, str) for source in sources)
        total = sum(1 for _ in find_images(sources)) if known else None
        task = bar.add_task("", total=total, said="")

        def update(summary: Summary) -> None:
            said = f"{summary.rate:.1f} images/s, {summary.errors:,} errors"
            bar.update(task, completed=summary.images, said=said)

        yield update


@o.with_pipeline
def features(
    open: o.OpenFor,
    quiet: bool,
    output: Annotated[Path, o.output(".npz", ".parquet")],
    images: o.Images = None,
    from_file: o.FromFile = None,
    pool: o.Pool = "cls",
    batch_size: o.BatchSize = 8,
) -> None:
    """Write images' features to a file.

    The hidden states after the final LayerNorm, with the images' names.

    Example: vit-pipeline features photos/ -o photos.npz
    """
    sources = image_sources(images, from_file)
    pipe = open(sources)
    from ..features import save_features

    errors = Errors()
    count = save_features(sources, output, pipe, pool=pool, batch_size=batch_size, on_error=errors)
    if not count:
        note(f"{output}: not written, no image could be read")
        raise typer.Exit(1)
    if not quiet:
        note(f"{output}: features of {count:,} images, {errors.count:,} errors")
    errors.exit()


@o.with_pipeline
def similar(
    open: o.OpenFor,
    quiet: bool,
    query: Annotated[str, typer.Argument(help="The image to compare with; '-': on stdin.")],
    images: o.Images = None,
    from_file: o.FromFile = None,
    top_k: o.TopK = 10,
    pool: o.Pool = "cls",
    batch_size: o.BatchSize = 8,
    as_json: o.Json = False,
) -> None:
    """List the images most like one.

    By the cosine similarity of their features, nearest first.

    Example: vit-pipeline similar cat.jpg photos/ -k 5
    """
    if query == "-" and "-" in (*(images or []), from_file):
        raise ArgumentError("stdin can be read only once; give '-' once")
    sources = image_sources(images, from_file)
    wanted = read_stdin() if query == "-" else query
    pipe = open(sources)
    from ..features import similar as find_similar

    errors = Errors()
    for neighbour in find_similar(
        wanted, sources, pipe, top_k=top_k, pool=pool, batch_size=batch_size, on_error=errors
    ):
        if as_json:
            print_json(neighbour.to_dict())
        else:
            print(f"{neighbour.similarity:6.3f}  {printable(neighbour.source)}")
    errors.exit()
