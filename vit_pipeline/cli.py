"""The command line: argument parsing and printing, nothing else.

Results go to stdout, progress and notes to stderr. Exit code 0: all well; 1: an input or a model failed;
2: wrong usage. Nothing heavy is imported before a command runs.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import __version__
from .catalog import DEFAULT_MODEL, KNOWN_MODELS
from .errors import ArgumentError, ImageError, VitPipelineError, printable

if TYPE_CHECKING:
    from .pipeline import Prediction, ViTPipeline

app = typer.Typer(
    name="vit-pipeline",
    help="Give it a picture, get what a Vision Transformer sees.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Images = Annotated[
    list[str],
    typer.Argument(metavar="IMAGE…", help="Paths, URLs, folders, patterns; '-' reads a picture from stdin."),
]
Model = Annotated[
    str,
    typer.Option(
        "--model", "-m", help=f"{', '.join(KNOWN_MODELS)}, owner/name[@revision] on ModelScope, or ./folder."
    ),
]
Revision = Annotated[str | None, typer.Option(help="Branch or tag of the ModelScope repository.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")]
Dtype = Annotated[str, typer.Option(help="float32, bfloat16, or auto: bfloat16 where the hardware has it.")]
Refresh = Annotated[bool, typer.Option("--refresh", help="Look for a newer version of the model.")]
AllowPrivate = Annotated[
    bool, typer.Option("--allow-private-urls", help="Let URLs lead to private addresses (your own network).")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


@app.callback(invoke_without_command=True)
def options(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(f"vit-pipeline {__version__}")
        raise typer.Exit


@app.command()
def predict(
    images: Images,
    model: Model = DEFAULT_MODEL,
    revision: Revision = None,
    top_k: Annotated[int, typer.Option(min=1, help="How many classes to list.")] = 5,
    device: Device = "auto",
    dtype: Dtype = "float32",
    refresh: Refresh = False,
    allow_private_urls: AllowPrivate = False,
    as_json: Json = False,
) -> None:
    """Say what is in each picture: the predicted class, and the likeliest ones with their probabilities."""
    pipe = open_pipeline(
        model, revision, device=device, dtype=dtype, refresh=refresh, allow_private=allow_private_urls
    )
    failed = False
    for number, (source, result) in enumerate(_predictions(pipe, images, top_k)):
        failed |= isinstance(result, VitPipelineError)
        if as_json:
            print_json(
                {"source": source, "error": result.to_dict()}
                if isinstance(result, VitPipelineError)
                else result.to_dict()
            )
        elif isinstance(result, VitPipelineError):
            note(f"error: {result}")
        else:
            print_prediction(result, first=number == 0)
    if failed:
        raise typer.Exit(1)


def _predictions(
    pipe: ViTPipeline, arguments: list[str], top_k: int
) -> Iterator[tuple[str, Prediction | VitPipelineError]]:
    """Each picture's name with its prediction or error; a bad one does not stop the others."""
    from .images import source_name
    from .sources import find_pictures

    for argument in arguments:
        if argument == "-":
            answer = pipe([read_stdin()], top_k, on_error="return")[0]
            yield (
                "<stdin>",
                answer if isinstance(answer, VitPipelineError) else replace(answer, source="<stdin>"),
            )
            continue
        try:
            for source in find_pictures([argument]):
                yield source_name(source), pipe([source], top_k, on_error="return")[0]
        except ImageError as error:  # a folder without pictures, a pattern without matches
            yield argument, error


@app.command()
def download(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="vit-base, vit-small, or owner/name[@revision].")
    ],
    revision: Revision = None,
    refresh: Refresh = False,
) -> None:
    """Download a model from ModelScope, check it, and print its folder."""
    from . import loading

    with progress_bars() as progress:
        loaded = loading.load(model, revision, device="cpu", refresh=refresh, progress=progress)
    for text in loaded.notes:
        note(text)
    print(loaded.provenance.folder)


@app.command()
def models(as_json: Json = False) -> None:
    """List the models that have a short name: where each is from, whether it is on disk, its size."""
    from . import hub

    rows = []
    for known in KNOWN_MODELS.values():
        found = known.folder if known.repo is None else None
        if known.repo and (snapshot := hub.find_cached(known.repo)):
            found = snapshot.folder
        size = sum(path.stat().st_size for path in found.iterdir() if path.is_file()) if found else None
        source = f"ModelScope {known.repo}" if known.repo else "embedded"
        rows.append(
            {
                "name": known.name,
                "what": known.summary,
                "source": source,
                "cached": bool(found),
                "bytes": size,
            }
        )
    if as_json:
        for row in rows:
            print_json(row)
        return
    for row in rows:
        size = f"{row['bytes'] / 1e6:,.1f} MB on disk" if row["bytes"] else "not downloaded"
        default = " (default)" if row["name"] == DEFAULT_MODEL else ""
        print(f"{row['name']}{default}\n  {row['what']}\n  {row['source']}, {size}")


# What the commands share


def open_pipeline(name: str, revision: str | None, **options: Any) -> ViTPipeline:
    """Load with progress on a terminal; then one header line on stderr, and what the user should know."""
    with progress_bars() as progress:
        from .pipeline import ViTPipeline

        pipe = ViTPipeline.from_pretrained(name, revision, progress=progress, **options)
    version = f", revision {pipe.provenance.revision}" if pipe.provenance.revision else ""
    dtype = str(pipe.dtype).removeprefix("torch.")
    classes = (
        f"{len(pipe.labels):,} classes" if len(pipe.labels) > 20 else f"knows only: {', '.join(pipe.labels)}"
    )
    note(f"{pipe.provenance}{version}, on {pipe.device}, {dtype}; {classes}")
    for text in pipe.notes:
        note(text)
    return pipe


class progress_bars:
    """Bars on a terminal, fed with (file name, bytes so far, bytes in all); None where nobody watches."""

    def __enter__(self) -> Any:
        self.bars: Any = None
        if not sys.stderr.isatty():
            return None
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
        self.bars = Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True))
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
    """One line of JSON; names of files that are not UTF-8 are escaped."""
    line = json.dumps(record, ensure_ascii=False)
    if not line.isascii():
        try:
            line.encode(sys.stdout.encoding or "utf-8")
        except UnicodeEncodeError:
            line = json.dumps(record)
    print(line, flush=True)


def note(text: str) -> None:
    """A line for the person at the terminal."""
    print(printable(text), file=sys.stderr, flush=True)


def read_stdin() -> bytes:
    """The bytes piped in, at most one more than a picture may have."""
    from .images import MAX_BYTES

    if sys.stdin.isatty():
        raise ArgumentError("'-' reads a picture from stdin, and nothing is piped in")
    return sys.stdin.buffer.read(MAX_BYTES + 1)


def main() -> None:
    """The entry point: every error becomes one line on stderr and an exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except VitPipelineError as error:
        note(f"error: {error}")
        sys.exit(2 if isinstance(error, ArgumentError) else 1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if os.environ.get("VIT_PIPELINE_DEBUG"):
            raise
        what = f"{type(error).__name__}: {error}"
        note(f"internal error: {what}; set VIT_PIPELINE_DEBUG=1 to see where, and report it")
        sys.exit(1)


__all__ = ["app", "main"]
