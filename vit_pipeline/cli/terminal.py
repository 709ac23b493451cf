"""What the commands share at the terminal: printing, progress, opening a pipeline."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unicodedata import east_asian_width

from ..errors import ArgumentError, printable

if TYPE_CHECKING:
    from ..pipeline import Prediction, ViTPipeline


def note(text: str) -> None:
    """A line for the person at the terminal, on stderr."""
    print(printable(text), file=sys.stderr, flush=True)


def image_sources(images: list[str] | None, from_file: str | None) -> list[Any]:
    """The arguments that name images, for :func:`vit_pipeline.sources.find_images`."""
    if not images and from_file is None:
        raise ArgumentError("no image is named; give files, folders, globs or URLs, '-', or --from-file")
    if (images or []).count("-") + (from_file == "-") > 1:
        raise ArgumentError("stdin can be read once only; give '-' once")
    sources: list[Any] = [read_stdin() if image == "-" else image for image in images or []]
    if from_file == "-":
        _check_piped("a list of images")
        sources.append(sys.stdin.buffer)
    elif from_file is not None:
        if not (Path(from_file).is_file() and os.access(from_file, os.R_OK)):
            raise ArgumentError(f"{from_file}: this list cannot be read; check the path and its permissions")
        sources.append(_lines(from_file))
    return sources


def _lines(path: str) -> Iterator[bytes]:
    with Path(path).open("rb") as file:
        yield from file


def read_stdin() -> bytes:
    """The bytes of the image that is piped in, at most one more than an image may have."""
    from ..images import MAX_BYTES

    _check_piped("an image")
    return sys.stdin.buffer.read(MAX_BYTES + 1)


def _check_piped(what: str) -> None:
    if sys.stdin.isatty():
        raise ArgumentError(f"'-' reads {what} from stdin, and nothing is piped in")


def open_pipeline(
    name: str, revision: str | None, *, quiet: bool = False, max_pixels: int | None = None, **options: Any
) -> ViTPipeline:
    """Load with progress on a terminal; then one header line on stderr, and what the user should know."""
    with ProgressBars(quiet) as progress:
        from ..pipeline import ViTPipeline

        if max_pixels is not None:
            options["max_pixels"] = max_pixels
        pipe = ViTPipeline.from_pretrained(name, revision, progress=progress, **options)
    if not quiet:
        few = f": {', '.join(pipe.labels)}" if len(pipe.labels) <= 20 else ""
        dtype = str(pipe.dtype).removeprefix("torch.")
        revision = f", revision {pipe.provenance.revision}" if pipe.provenance.revision else ""
        note(f"{pipe.provenance}{revision}, on {pipe.device}, {dtype}; {len(pipe.labels):,} classes{few}")
        for text in pipe.notes:
            note(text)
    return pipe


class ProgressBars:
    """Bars on a terminal, fed with (file name, bytes so far, bytes in all); None where nobody watches."""

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet

    def __enter__(self) -> Any:
        self.bars: Any = None
        if self.quiet or not sys.stderr.isatty():
            return None
        from rich import progress
        from rich.console import Console

        self.bars = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.DownloadColumn(),
            progress.TransferSpeedColumn(),
            progress.TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self.tasks: dict[str, Any] = {}
        return self.update

    def update(self, name: str, done: int, total: int) -> None:
        if name not in self.tasks:
            self.bars.start()
            self.tasks[name] = self.bars.add_task(name)
        self.bars.update(self.tasks[name], completed=done, total=total)

    def __exit__(self, *_: object) -> None:
        if self.bars is not None:
            self.bars.stop()


def print_prediction(prediction: Prediction, *, first: bool, classes: int, width: int = 28) -> None:
    """The tutorial's line, then the likeliest classes with bars."""
    if not first:
        print()
    print(f"{printable(prediction)}    ({printable(prediction.source)}; of {classes:,} classes)")
    labels = [printable(entry.label, 44) for entry in prediction.top]
    widths = [sum(1 + (east_asian_width(c) in "WF") for c in label) for label in labels]
    for label, used, entry in zip(labels, widths, prediction.top, strict=True):
        eighths = round(min(max(entry.score, 0), 1) * width * 8)
        bar = "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()
        print(f"  {label}{' ' * (max(widths) - used)}  {entry.score:7.2%}  {bar}")


def print_json(record: dict[str, Any]) -> None:
    """One line of JSON; what the terminal cannot show (file names that are not UTF-8, say) is escaped."""
    line = json.dumps(record, ensure_ascii=False)
    try:
        line.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        line = json.dumps(record)
    print(line, flush=True)
