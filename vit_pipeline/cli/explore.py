"""``vit-pipeline explore``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from ..errors import ArgumentError, VitPipelineError
from . import options as o
from .terminal import image_sources, note

Output = Annotated[Path, o.output(".html")]
Live = Annotated[
    bool | None,
    typer.Option(
        "--live/--recorded",
        help="Put the model into the page, to be changed there; or only what it did.",
        show_default="live up to 10 M parameters",
    ),
]
Lang = Annotated[
    Literal["en", "zh"] | None,
    typer.Option(help="The language the page opens in.", show_default="the reader's"),
]


@o.with_pipeline
def explore(
    open: o.Open,
    quiet: bool,
    output: Output,
    images: o.Images = None,
    from_file: o.FromFile = None,
    live: Live = None,
    lang: Lang = None,
) -> None:
    """Follow an image through every step of the model, on one HTML page that needs no network.

    Takes one image. The page has a guided tour, and switches that change the image and the model.

    Example: vit-pipeline explore cat.jpg -o cat.html --model demo
    """
    sources = image_sources(images, from_file)
    pipe = open()
    from itertools import islice

    from ..explorer import explore as explored
    from ..sources import find_images

    found = list(islice(find_images(sources), 2))
    if len(found) != 1:
        many = "several images are named" if found else "no image is there"
        raise ArgumentError(f"{many}; explore takes one image")
    _, source = found[0]
    if isinstance(source, VitPipelineError):
        raise source
    page = explored(source, pipe, live=live, lang=lang)
    page.save(output)
    if not quiet:
        what = "the model is in it" if page.live else "recorded; the model is not in it"
        note(f"{output}: {page.source}, {output.stat().st_size / 1e6:.1f} MB, {what}")
