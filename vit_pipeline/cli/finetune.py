"""``vit-pipeline finetune``."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import typer

from . import options as o
from .images import Errors
from .terminal import note, progress_bars


@o.with_pipeline
def finetune(
    open: o.Open,
    quiet: bool,
    folder: Annotated[
        str,
        typer.Argument(
            metavar="FOLDER",
            help="FOLDER/<class>/<image>, or in train/, val/, test/; a .csv or .jsonl of path and label.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="MODEL", help="A new folder.")],
    method: Annotated[
        Literal["probe", "full"],
        typer.Option(help="probe: the head only, exact and quick; full: all weights."),
    ] = "probe",
    epochs: Annotated[int, typer.Option(min=1, help="full: how often each image is seen, at most.")] = 15,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            help="full: of the head; layers below have less.",
            show_default="0.2 / the model's width; less in fewer than 100 steps",
        ),
    ] = None,
    batch_size: o.BatchSize = 16,
    accumulate: Annotated[int, typer.Option(min=1, help="full: batches for one step.")] = 1,
    dtype: Annotated[
        Literal["float32", "bfloat16"],
        typer.Option(help="full: of the products; the weights are float32 all the same."),
    ] = "float32",
    flip: Annotated[
        bool, typer.Option("--flip", help="full: mirror half of the images: for photos, not for letters.")
    ] = False,
    validation: Annotated[
        float,
        typer.Option(min=0, max=0.9, help="The share of each class to measure with without val/."),
    ] = 0.2,
    seed: Annotated[int, typer.Option(min=0, help="Draws everything that is drawn.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an unfinished run.")] = False,
) -> None:
    """Teach a model your own classes.

    Writes a folder that predict, evaluate and plain transformers load, with a model card.

    Example: vit-pipeline finetune photos/ -o my-model && vit-pipeline predict -m ./my-model cat.jpg
    """
    from ..errors import check_installed

    check_installed("scikit-learn", "finetune", "sklearn")
    speaks = os.environ.get("RANK", "0") == "0"  # one of several under ``accelerate launch``
    quiet = quiet or not speaks
    pipe = open(quiet=quiet)
    from ..training import Plan
    from ..training import finetune as run

    counted = "MofNCompleteColumn", "{task.fields[said]}", "TimeRemainingColumn"
    with progress_bars(quiet, "{task.description}", "BarColumn", *counted) as bar:
        tasks = {}

        def progress(what: str, done: int, total: int, measured: Mapping[str, float]) -> None:
            if bar:
                if what not in tasks:
                    tasks[what] = bar.add_task(what, said="")
                said = ", ".join(f"{name} {value:.3g}" for name, value in measured.items())
                bar.update(tasks[what], completed=done, total=total, said=said)

        def report(plan: Plan) -> None:
            for line in str(plan).splitlines() if not quiet else ():
                note(line)

        try:
            found = run(
                folder,
                pipe,
                output,
                method=method,
                epochs=epochs,
                learning_rate=learning_rate,
                batch_size=batch_size,
                accumulate=accumulate,
                dtype=dtype,
                flip=flip,
                validation=validation,
                seed=seed,
                resume=resume,
                on_error=Errors(),
                on_plan=report,
                progress=progress,
            )
        except KeyboardInterrupt:
            raise KeyboardInterrupt("the same command with --resume goes on from here") from None
    if not quiet:
        name = shlex.quote(os.path.join(".", output))  # noqa: PTH118 (./my-model is never a hub's name)
        note(f"{output}: complete; try: vit-pipeline predict -m {name} IMAGE")
    if speaks:
        print(found)
