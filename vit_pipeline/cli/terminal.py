"""What the commands share at the terminal: results, notes, progress, and opening a pipeline."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ArgumentError, check_installed, printable

if TYPE_CHECKING:
    from rich.progress import Progress

    from ..pipeline import Prediction, ViTPipeline


def note(text: str) -> None:
    """A line for the person at the terminal, on stderr."""
    print(printable(text), file=sys.stderr, flush=True)


def image_sources(images: list[str] | None, from_file: str | None) -> list[Any]:
    """The arguments that name images, for :func:`vit_pipeline.sources.find_images`."""
    if not images and from_file is None:
        raise ArgumentError("no image is named; give files, folders, globs or URLs, '-', or --from-file")
    if (images or []).count("-") + (from_file == "-") > 1:
        raise ArgumentError("stdin can be read only once; give '-' once")
    sources: list[Any] = [read_stdin() if image == "-" else image for image in images or []]
    if from_file == "-":
        _check_piped("a list of images")
        sources.append(sys.stdin.buffer)
    elif from_file is not None:
        if not (Path(from_file).is_file() and os.access(from_file, os.R_OK)):
            raise ArgumentError(f"{from_file}: this list cannot be read; check the path and its permissions")
        sources.append(_lines(from_file))
    return sources


def _first_of(sources: Iterable[Any]) -> list[Any]:
    """The same sources for a look ahead; a list that can be read only once is kept for the run itself."""
    from itertools import chain, islice

    from ..fast import IMAGES

    if not isinstance(sources, list):
        return [*sources]
    ahead = list(sources)
    for number, source in enumerate(sources):
        if isinstance(source, Iterator):
            first = [*islice(source, IMAGES)]
            sources[number], ahead[number] = chain(first, source), iter(first)
    return ahead


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
    model: str,
    revision: str | None = None,
    *,
    quiet: bool = False,
    allow_private_urls: bool = False,
    proxy: str | None = None,
    use_env_proxy: bool = False,
    max_pixels: int | None = None,
    images: Iterable[Any] | None = None,
    dtype: str = "float32",
    backend: str = "torch",
    fast: bool = False,
    min_agreement: float = 0.99,
    before: str = "",
    **options: Any,
) -> ViTPipeline:
    """Load with progress on a terminal; then one header line on stderr, and what the user should know.

    Where it shall be faster than float32 on torch, some of ``images`` tell whether its answers stay. A run
    that is resumed takes what was the fastest ``before``.
    """
    is_exact = images is None or (dtype == "float32" and backend == "torch" and not fast)
    if fast and (dtype, backend) != ("float32", "torch"):
        raise ArgumentError("--fast chooses backend and dtype itself: leave --backend and --dtype out")
    if backend == "openvino" and options.get("device") == "auto":
        options["device"] = "cpu"
    if fast and before:
        fast, backend, dtype = False, "openvino" if "OpenVINO" in before else "torch", before.split()[-1]
        is_exact = before == "float32"
    with download_bars(quiet) as progress:
        from ..pipeline import ViTPipeline

        if max_pixels is not None:
            options["max_pixels"] = max_pixels
        pipe = ViTPipeline.from_pretrained(
            model,
            revision,
            progress=progress,
            allow_private=allow_private_urls,
            proxy="env" if use_env_proxy else proxy,
            dtype=dtype if images is None else "float32",
            **options,
        )
    if images is not None and not is_exact:
        from ..fast import faster

        if fast and not quiet:
            try:
                check_installed("openvino", "what is usually the fastest on a CPU")
            except ArgumentError as error:
                note(str(error))
        wanted = {"backend": None, "dtype": "auto"} if fast else {"backend": backend, "dtype": dtype}
        say = None if quiet else lambda found: note(f"{found}{'' if found.holds else '; too few: not used'}")
        pipe = faster(pipe, _first_of(images), bound=min_agreement, on_try=say, **wanted)
    if not quiet:
        few = f": {', '.join(pipe.labels)}" if 1 <= len(pipe.labels) <= 20 else ""
        revision = f", revision {pipe.provenance.revision}" if pipe.provenance.revision else ""
        runs = f"on {pipe.device}, {pipe.backend}"
        note(f"{pipe.provenance}{revision}, {runs}; {_classes(len(pipe.labels))}{few}")
        for text in pipe.notes:
            note(text)
    return pipe


@contextmanager
def progress_bars(quiet: bool, *columns: str) -> Iterator[Progress | None]:
    """rich's progress bars on stderr, with these columns of its own; None where nobody watches."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich import progress
    from rich.console import Console

    shown = [getattr(progress, name)() if name.isidentifier() else name for name in columns]
    with progress.Progress(*shown, console=Console(stderr=True)) as bars:
        yield bars


@contextmanager
def download_bars(quiet: bool = False) -> Iterator[Any]:
    """Call it with (file name, bytes so far, bytes in all), or (what is being done, 0, 0); None if quiet."""
    columns = (
        "{task.description}",
        "BarColumn",
        "DownloadColumn",
        "TransferSpeedColumn",
        "TimeRemainingColumn",
    )
    with progress_bars(quiet, *columns) as bars:
        tasks: dict[str, Any] = {}

        def update(name: str, done: int, total: int) -> None:
            if not total:
                note(f"{name} …")
            if not total or bars is None:
                return
            if name not in tasks:
                tasks[name] = bars.add_task(name)
            bars.update(tasks[name], completed=done, total=total)

        yield None if quiet else update


def print_prediction(prediction: Prediction, *, first: bool, labels: Sequence[str]) -> None:
    """The tutorial's line, then the likeliest classes with bars as wide as the terminal allows.

    ``labels``: all classes. Of a model that was calibrated, also how far to trust the answer.
    """
    from rich.cells import cell_len

    if not first:
        print()
    of = f"of {_classes(len(labels))}"
    if prediction.calibrated is not None:
        of += f"; calibrated {prediction.calibrated:.1%}"
    print(f"{printable(prediction)}    ({printable(prediction.source)}; {of})")
    columns = shutil.get_terminal_size((80, 24)).columns
    shown = [printable(entry.label, min(44, max(columns - 24, 8))) for entry in prediction.top]
    widest = max(map(cell_len, shown))
    width = min(28, max(columns - widest - 14, 0))
    unicode = (sys.stdout.encoding or "").lower().startswith("utf")
    for label, entry in zip(shown, prediction.top, strict=True):
        eighths = round(min(max(entry.score, 0), 1) * width * 8)
        bar = "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()
        bar = bar if unicode else "#" * round(eighths / 8)
        print(f"  {label}{' ' * (widest - cell_len(label))}  {entry.score:7.2%}  {bar}")
    if prediction.unlike:
        known = f": {printable(', '.join(labels), 400)}" if len(labels) <= 20 else ""
        print("None of its classes? This image is unlike those that the model was evaluated on.")
        print(f"It knows {_classes(len(labels))}{known}.")


def _classes(count: int) -> str:
    return f"{count:,} class{'es' * (count != 1)}" if count else "no classifier"


def print_json(record: dict[str, Any]) -> None:
    """One line of JSON; what the terminal cannot show (file names that are not UTF-8, say) is escaped."""
    line = json.dumps(record, ensure_ascii=False)
    try:
        line.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        line = json.dumps(record)
    print(line, flush=True)
