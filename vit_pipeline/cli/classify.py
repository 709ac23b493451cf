"""``vit-pipeline classify``."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options as o
from .terminal import image_sources, note

if TYPE_CHECKING:
    from ..batch import Summary

Output = Annotated[Path, o.output(".jsonl", ".csv", ".parquet")]
Threads = Annotated[
    int | None, typer.Option(min=1, help="How many decode.", show_default="the number of cores")
]
Draft = Annotated[
    bool,
    typer.Option(
        "--jpeg-draft", help="Decode large JPEGs at a reduced size: quicker, pixels differ slightly."
    ),
]
Retry = Annotated[bool, typer.Option("--retry-errors", help="Read again what failed before.")]
TimeLimit = Annotated[float, typer.Option(min=0.1, help="Seconds for reading one image.")]


@o.with_pipeline
def classify(
    open: o.Open,
    quiet: bool,
    output: Output,
    images: o.Images = None,
    from_file: o.FromFile = None,
    top_k: o.TopK = 5,
    batch_size: o.BatchSize = 8,
    threads: Threads = None,
    jpeg_draft: Draft = False,
    retry_errors: Retry = False,
    time_limit: TimeLimit = 60,
) -> None:
    """Classify folders of any size into a file.

    One record an image. The same command resumes an interrupted run, and reads only what is new or changed.

    Example: vit-pipeline classify photos/ -o photos.jsonl
    """
    sources = image_sources(images, from_file)
    pipe = open()
    from ..batch import classify as run
    from ..batch.tables import working_file

    with _finish_on_interrupt() as stop, _Bar(sources, quiet) as bar:
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
            progress=bar,
            stop=stop,
        )
    if not quiet:
        note(str(summary))
    aside = Path(f"{working_file(output)}.aside")
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


class _Bar:
    """Images so far, images/s, errors, time left: on a terminal; nothing anywhere else."""

    def __init__(self, sources: list[Any], quiet: bool) -> None:
        self.sources, self.quiet = sources, quiet
        self.bar: Any = None

    def __enter__(self) -> _Bar:
        if sys.stderr.isatty() and not self.quiet:
            from rich import progress
            from rich.console import Console

            self.bar = progress.Progress(
                progress.BarColumn(),
                progress.MofNCompleteColumn(),
                progress.TextColumn("{task.fields[said]}"),
                progress.TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self.bar.start()
            self.task = self.bar.add_task("", total=self._total(), said="")
        return self

    def _total(self) -> int | None:
        """How many images there are; not known beforehand where they come from an open file."""
        from ..sources import find_images

        known = all(isinstance(source, str) for source in self.sources)
        return sum(1 for _ in find_images(self.sources)) if known else None

    def __call__(self, summary: Summary) -> None:
        if self.bar is not None:
            said = f"{summary.rate:.1f} images/s, {summary.errors:,} errors"
            self.bar.update(self.task, completed=summary.images, said=said)

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()
