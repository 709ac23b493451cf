"""``vit-pipeline predict``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ImageError, VitPipelineError
from ..names import DEFAULT_MODEL
from .options import AllowPrivate, Device, Dtype, Images, Json, Model, Refresh, Revision
from .terminal import note, open_pipeline, print_json, print_prediction, read_stdin

if TYPE_CHECKING:
    from ..pipeline import Prediction, ViTPipeline


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
    """Say what is in each image.

    Prints the predicted class, then the likeliest classes with their probabilities.
    """
    pipe = open_pipeline(
        model, revision, device=device, dtype=dtype, refresh=refresh, allow_private=allow_private_urls
    )
    failed = False
    for number, (source, result) in enumerate(_predictions(pipe, images, top_k)):
        if isinstance(result, VitPipelineError):
            failed = True
            if as_json:
                print_json({"source": source, "error": result.to_dict()})
            else:
                note(f"error: {result}")
        elif as_json:
            print_json(result.to_dict())
        else:
            print_prediction(result, first=number == 0)
    if failed:
        raise typer.Exit(1)


def _predictions(
    pipe: ViTPipeline, arguments: list[str], top_k: int
) -> Iterator[tuple[str, Prediction | VitPipelineError]]:
    """Each image's name with its prediction or error; a bad one does not stop the others."""
    from ..images import source_name
    from ..sources import find_images

    for argument in arguments:
        if argument == "-":
            answer = pipe([read_stdin()], top_k, on_error="return")[0]
            named = answer if isinstance(answer, VitPipelineError) else replace(answer, source="<stdin>")
            yield "<stdin>", named
            continue
        try:
            for source in find_images([argument]):
                yield source_name(source), pipe([source], top_k, on_error="return")[0]
        except ImageError as error:  # a folder without images, a pattern without matches
            yield argument, error
