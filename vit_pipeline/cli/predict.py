"""``vit-pipeline predict``."""

from __future__ import annotations

import typer

from ..errors import VitPipelineError
from . import options as o
from .terminal import image_sources, note, print_json, print_prediction


@o.with_pipeline
def predict(
    open: o.Open,
    quiet: bool,
    images: o.Images = None,
    from_file: o.FromFile = None,
    top_k: o.TopK = 5,
    as_json: o.Json = False,
) -> None:
    """Say what is in each image.

    Prints the predicted class, then the likeliest classes with their probabilities.

    Example: vit-pipeline predict --model demo cat.jpg photos/ https://example.com/dog.jpg
    """
    sources = image_sources(images, from_file)
    pipe = open()
    from .. import engine
    from ..sources import find_images

    batches = engine.run(
        find_images(sources),
        pipe.preparer(),
        lambda pixel_values, names: pipe.postprocess(pipe.forward(pixel_values), top_k, names),
        batch_size=1,
    )
    failed = False
    for number, ((name, result),) in enumerate(batches):
        if isinstance(result, VitPipelineError):
            failed = True
            if as_json:
                print_json({"source": name, "error": result.to_dict()})
            else:
                note(f"error: {result}")
        elif as_json:
            print_json(result.to_dict())
        else:
            print_prediction(result, first=number == 0, classes=len(pipe.labels))
    if failed:
        raise typer.Exit(1)
