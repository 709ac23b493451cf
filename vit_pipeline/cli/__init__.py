"""The command line: argument parsing and printing, nothing else. A module a command or two.

Results go to stdout, progress and notes to stderr. Exit code 0: all well; 1: an input or a model failed;
2: wrong usage; 130: Ctrl-C. Nothing heavy is imported before a command runs.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer

from .. import __version__
from ..errors import ArgumentError, VitPipelineError
from . import doctor, evaluate, explain, explore, finetune, images, models, webui
from .terminal import note

app = typer.Typer(
    name="vit-pipeline",
    help="Give it an image, get what a Vision Transformer sees.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _interruptible(command: Callable[..., None]) -> Callable[..., None]:
    """``command``, ended by Ctrl-C in one line; typer would end it without a word."""

    @wraps(command)
    def run(**options: Any) -> None:
        try:
            command(**options)
        except KeyboardInterrupt as error:
            note("; ".join(["interrupted", *error.args]))
            os._exit(130)  # not waiting for the threads of libraries

    return run


COMMANDS = (
    images.predict,
    images.classify,
    models.structure,
    explain.explain,
    explore.explore,
    images.features,
    images.similar,
    finetune.finetune,
    evaluate.evaluate,
    models.models,
    models.download,
    models.convert,
    webui.webui,
    doctor.doctor,
)
for command in COMMANDS:
    app.command()(_interruptible(command))


@app.callback(invoke_without_command=True)
def main_options(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(f"vit-pipeline {__version__}")
        raise typer.Exit


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
    except SystemExit as end:  # typer ends every command with it
        if any(thread.name == "prepare" for thread in threading.enumerate()):  # in a decoder that hangs
            sys.stdout.flush()
            os._exit(end.code if isinstance(end.code, int) else 1)
        raise
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
