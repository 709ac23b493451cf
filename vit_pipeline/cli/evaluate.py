"""``vit-pipeline evaluate``."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from . import options as o
from .images import Errors
from .terminal import note, progress_bars


@o.with_pipeline
def evaluate(
    open: o.OpenFor,
    quiet: bool,
    folder: Annotated[
        str,
        typer.Argument(
            metavar="FOLDER", help="FOLDER/<class>/<image>, or a .csv or .jsonl of path and label."
        ),
    ],
    split: Annotated[
        Literal["train", "val", "test"] | None,
        typer.Option(help="Of FOLDER/<split>/<class>/<image>.", show_default="test, then val"),
    ] = None,
    mapping: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help='JSON, what labels mean: {"kitten": "tabby", "one to leave out": null}.'
        ),
    ] = None,
    against: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Another model to compare with, image by image.")
    ] = None,
    against_dtype: Annotated[str | None, typer.Option(help="The other model's --dtype, on torch.")] = None,
    output: Annotated[Path | None, o.output(".html", ".json")] = None,
    write_calibration: Annotated[
        bool,
        typer.Option("--write-calibration", help="Let the model's own folder say what was found out here."),
    ] = False,
    batch_size: o.BatchSize = 8,
    seed: Annotated[int, typer.Option(min=0, help="Draws the half of the images to calibrate on.")] = 0,
) -> None:
    """Measure how good a model is on labelled images.

    Prints top-1 with its 95 % interval, what is confused with what, and how far probabilities can be trusted.
    Stopped or killed, the same command with -o resumes. With --write-calibration, predictions of the model
    say how often such answers are right, and which images are unlike these.

    Example: vit-pipeline evaluate photos/ --model demo -o report.html
    """
    from ..errors import ArgumentError, check_installed

    check_installed("scipy", "evaluate")
    from ..labelled import read_labelled

    def images() -> Iterator[Any]:
        return (image for _, image, _ in read_labelled(folder, split))

    pipe = open(images())
    place = pipe.provenance.folder if pipe.provenance.source == "folder" else None
    if write_calibration and not place:
        raise ArgumentError(f"{pipe.name}: --write-calibration is for a model in a folder of your own")
    changed: dict[str, Any] = {"model": against, "revision": None} if against else {}
    if against_dtype:
        changed |= {"dtype": against_dtype, "backend": "torch", "fast": False}
    other = open(images(), **changed) if changed else None
    from ..evaluation import evaluate as run

    errors = Errors()
    with progress_bars(quiet, "BarColumn", "MofNCompleteColumn", "TimeRemainingColumn") as bar:
        task = bar.add_task("") if bar else None

        def progress(done: int, total: int) -> None:
            if bar and task is not None:
                bar.update(task, completed=done, total=total)

        try:
            found = run(
                folder,
                pipe,
                against=other,
                mapping=mapping,
                split=split,
                batch_size=batch_size,
                seed=seed,
                work=output and f"{output}.unfinished",
                on_error=errors,
                progress=progress,
            )
        except KeyboardInterrupt:
            raise KeyboardInterrupt(*["the same command goes on from here"] * bool(output)) from None
    print(found)
    if output:
        found.save(output)
        shutil.rmtree(f"{output}.unfinished", ignore_errors=True)
    if write_calibration and place:
        note(f"{found.write_calibration(place)}: its predictions will say how often such answers are right")
    errors.exit()
