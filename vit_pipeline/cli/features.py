"""``vit-pipeline features | similar``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ..errors import ArgumentError, VitPipelineError, printable
from . import options as o
from .terminal import image_sources, note, print_json, read_stdin


class Pooling(StrEnum):
    cls = "cls"
    mean = "mean"
    patches = "patches"


Pool = Annotated[Pooling, typer.Option(help="The CLS token, the mean of the patch tokens, or all of them.")]


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
def features(
    open: o.Open,
    quiet: bool,
    output: Annotated[Path, o.output(".npz", ".parquet")],
    images: o.Images = None,
    from_file: o.FromFile = None,
    pool: Pool = Pooling.cls,
    batch_size: o.BatchSize = 8,
) -> None:
    """Write images' features to a file.

    The hidden states after the final LayerNorm, with the images' names.

    Example: vit-pipeline features photos/ -o photos.npz
    """
    sources = image_sources(images, from_file)
    pipe = open()
    from ..features import save_features

    errors = Errors()
    count = save_features(sources, output, pipe, pool=pool.value, batch_size=batch_size, on_error=errors)
    if count:
        note(f"{output}: features of {count:,} images, {errors.count:,} errors")
    else:
        note(f"{output}: not written, no image could be read")
    if not count:
        raise typer.Exit(1)
    errors.exit()


@o.with_pipeline
def similar(
    open: o.Open,
    quiet: bool,
    query: Annotated[str, typer.Argument(help="The image to compare with; '-': on stdin.")],
    images: o.Images = None,
    from_file: o.FromFile = None,
    top_k: o.TopK = 10,
    pool: Pool = Pooling.cls,
    batch_size: o.BatchSize = 8,
    as_json: o.Json = False,
) -> None:
    """List the images most like one.

    By the cosine similarity of their features, nearest first.

    Example: vit-pipeline similar cat.jpg photos/ -k 5
    """
    if query == "-" and "-" in (*(images or []), from_file):
        raise ArgumentError("stdin can be read once only; give '-' once")
    sources = image_sources(images, from_file)
    pipe = open()
    from ..features import similar as find_similar

    errors = Errors()
    found = find_similar(
        read_stdin() if query == "-" else query,
        sources,
        pipe,
        top_k=top_k,
        pool=pool.value,
        batch_size=batch_size,
        on_error=errors,
    )
    for neighbour in found:
        if as_json:
            print_json(neighbour.to_dict())
        else:
            print(f"{neighbour.similarity:6.3f}  {printable(neighbour.source)}")
    errors.exit()
