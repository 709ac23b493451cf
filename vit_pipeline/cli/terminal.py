"""What the commands share at the terminal: printing, progress, opening a pipeline."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from ..errors import ArgumentError, printable

if TYPE_CHECKING:
    from ..pipeline import Prediction, ViTPipeline


def note(text: str) -> None:
    """A line for the person at the terminal, on stderr."""
    print(printable(text), file=sys.stderr, flush=True)


def open_pipeline(name: str, revision: str | None, **options: Any) -> ViTPipeline:
    """Load with progress on a terminal; then one header line on stderr, and what the user should know."""
    with ProgressBars() as progress:
        from ..pipeline import ViTPipeline

        pipe = ViTPipeline.from_pretrained(name, revision, progress=progress, **options)
    version = f", revision {pipe.provenance.revision}" if pipe.provenance.revision else ""
    dtype = str(pipe.dtype).removeprefix("torch.")
    names = (
        f"{len(pipe.labels):,} classes" if len(pipe.labels) > 20 else f"knows only: {', '.join(pipe.labels)}"
    )
    note(f"{pipe.provenance}{version}, on {pipe.device}, {dtype}; {names}")
    for text in pipe.notes:
        note(text)
    return pipe


class ProgressBars:
    """Bars on a terminal, fed with (file name, bytes so far, bytes in all); None where nobody watches."""

    def __enter__(self) -> Any:
        self.bars: Any = None
        if not sys.stderr.isatty():
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


def print_prediction(prediction: Prediction, *, first: bool, width: int = 28) -> None:
    """The tutorial's line, then the likeliest classes with bars."""
    if not first:
        print()
    print(f"{prediction}    ({printable(prediction.source)})")
    labels = [entry.label if len(entry.label) <= 44 else entry.label[:43] + "…" for entry in prediction.top]
    for label, entry in zip(labels, prediction.top, strict=True):
        eighths = round(entry.score * width * 8)
        bar = "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()
        print(f"  {label:<{max(map(len, labels))}}  {entry.score:7.2%}  {bar}")


def print_json(record: dict[str, Any]) -> None:
    """One line of JSON; what the terminal cannot show (file names that are not UTF-8, say) is escaped."""
    line = json.dumps(record, ensure_ascii=False)
    try:
        line.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        line = json.dumps(record)
    print(line, flush=True)


def read_stdin() -> bytes:
    """The bytes piped in, at most one more than an image may have."""
    from ..images import MAX_BYTES

    if sys.stdin.isatty():
        raise ArgumentError("'-' reads an image from stdin, and nothing is piped in")
    return sys.stdin.buffer.read(MAX_BYTES + 1)
