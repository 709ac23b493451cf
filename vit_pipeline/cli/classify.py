"""``vit-pipeline classify``."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import ArgumentError
from ..names import DEFAULT_MODEL
from .options import AllowPrivate, Device, Dtype, Model, Refresh, Revision
from .terminal import note, open_pipeline

if TYPE_CHECKING:
    from ..batch import Summary

Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE",
        help="Folders, patterns, files, URLs; a .txt file of paths and URLs, one a line; '-' those on stdin.",
    ),
]
Output = Annotated[
    Path, typer.Option("--output", "-o", help="Ends in .jsonl, .csv or .parquet; an earlier run goes on.")
]
BatchSize = Annotated[int, typer.Option(min=1, help="Images in one forward pass.")]
Threads = Annotated[
    int | None, typer.Option(min=1, help="How many decode.", show_default="the number of cores")
]
Draft = Annotated[
    bool,
    typer.Option(
        "--jpeg-draft", help="Decode large JPEGs at a reduced size: quicker, pixels differ slightly."
    ),
]
Compile = Annotated[bool, typer.Option("--compile", help="Compile the model first: pays in long runs.")]
Retry = Annotated[bool, typer.Option("--retry-errors", help="Read again what failed before.")]


def classify(
    sources: Sources,
    output: Output,
    model: Model = DEFAULT_MODEL,
    revision: Revision = None,
    top_k: Annotated[int, typer.Option(min=1, help="How many classes each record lists.")] = 5,
    batch_size: BatchSize = 8,
    threads: Threads = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    jpeg_draft: Draft = False,
    compile: Compile = False,
    retry_errors: Retry = False,
    refresh: Refresh = False,
    allow_private_urls: AllowPrivate = False,
) -> None:
    """Classify folders of any size into a file.

    One record an image; interrupted, the same command goes on.
    """
    from ..batch.tables import working_file

    working_file(output)  # what is wrong with it is said before a model is loaded
    if "-" in sources and sys.stdin.isatty():
        raise ArgumentError("'-' reads a list of images from stdin, and nothing is piped in")
    pipe = open_pipeline(
        model, revision, device=device, dtype=dtype, refresh=refresh, allow_private=allow_private_urls
    )
    from ..batch import classify_folder

    with _finish_on_interrupt() as stop, _Bar(sources) as bar:
        summary = classify_folder(
            sources,
            output,
            pipe,
            batch_size=batch_size,
            top_k=top_k,
            threads=threads,
            jpeg_draft=jpeg_draft,
            compile=compile,
            retry_errors=retry_errors,
            progress=bar,
            stop=stop,
            stdin=sys.stdin.buffer if "-" in sources else (),
        )
    note(str(summary))
    if summary.interrupted:
        note(f"interrupted; {output} is whole so far: run the same command again to go on")
        raise typer.Exit(130)
    if summary.errors:
        note(f"{summary.errors:,} could not be read; {output} says why; --retry-errors reads them again")
        raise typer.Exit(1)


@contextmanager
def _finish_on_interrupt() -> Iterator[Event]:
    """The first Ctrl-C sets the event; a second one stops at once."""
    stop = Event()

    def on_interrupt(*_: object) -> None:
        stop.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        note("finishing the batch in hand; Ctrl-C again to stop at once")

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


class _Bar:
    """Images so far, images/s, errors, time left: on a terminal; nothing anywhere else."""

    def __init__(self, sources: list[str]) -> None:
        self.sources = sources
        self.bar: Any = None

    def __enter__(self) -> _Bar:
        if sys.stderr.isatty():
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
        """How many inputs there are; not known beforehand where they come from stdin."""
        from ..batch.inputs import find_inputs

        return None if "-" in self.sources else sum(1 for _ in find_inputs(self.sources))

    def __call__(self, summary: Summary) -> None:
        if self.bar is not None:
            said = f"{summary.rate:.1f} images/s, {summary.errors:,} errors"
            self.bar.update(self.task, completed=summary.images, said=said)

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()
