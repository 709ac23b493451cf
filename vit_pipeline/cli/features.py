"""``vit-pipeline features | similar``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ..errors import ArgumentError, VitPipelineError, printable
from ..names import DEFAULT_MODEL
from .options import AllowPrivate, Device, Dtype, Images, Json, Model, Revision
from .terminal import note, open_pipeline, print_json


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


def features(
    images: Images,
    output: Annotated[Path, typer.Option("--output", "-o", help="A file that ends in .npz or .parquet.")],
    model: Model = DEFAULT_MODEL,
    revision: Revision = None,
    pool: Pool = Pooling.cls,
    device: Device = "auto",
    dtype: Dtype = "float32",
    allow_private_urls: AllowPrivate = False,
) -> None:
    """Write images' features to a file.

    The hidden states after the final LayerNorm, with the images' names.
    """
    from ..features import SUFFIXES, save_features
    from ..sources import find_images

    if output.suffix not in SUFFIXES:
        raise ArgumentError(f"{output}: the name must end in {' or '.join(SUFFIXES)}")
    pipe = open_pipeline(model, revision, device=device, dtype=dtype, allow_private=allow_private_urls)
    errors = Errors()
    count = save_features(
        pipe, find_images(images, on_error=errors), output, pool=pool.value, on_error=errors
    )
    note(f"{output}: features of {count:,} images, {errors.count:,} errors")
    errors.exit()


def similar(
    query: Annotated[str, typer.Argument(help="The image to compare with.")],
    folder: Annotated[list[str], typer.Argument(metavar="FOLDER", help="Where to look.")],
    model: Model = DEFAULT_MODEL,
    revision: Revision = None,
    top_k: Annotated[int, typer.Option(min=1, help="How many images to list.")] = 10,
    pool: Pool = Pooling.cls,
    device: Device = "auto",
    dtype: Dtype = "float32",
    allow_private_urls: AllowPrivate = False,
    as_json: Json = False,
) -> None:
    """List the images most like one.

    By the cosine similarity of their features, nearest first.
    """
    from ..features import similar as find_similar
    from ..sources import find_images

    pipe = open_pipeline(model, revision, device=device, dtype=dtype, allow_private=allow_private_urls)
    errors = Errors()
    found = find_similar(
        pipe,
        query,
        find_images(folder, on_error=errors),
        top_k=top_k,
        pool=pool.value,
        on_error=errors,
    )
    for neighbour in found:
        if as_json:
            print_json(neighbour.to_dict())
        else:
            print(f"{neighbour.similarity:6.3f}  {printable(neighbour.source)}")
    errors.exit()
