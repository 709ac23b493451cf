"""``vit-pipeline predict``."""

from __future__ import annotations

import typer

from ..errors import VitPipelineError
from ..names import DEFAULT_MODEL
from . import options as o
from .terminal import image_sources, note, open_pipeline, print_json, print_prediction


def predict(
    images: o.Images = None,
    from_file: o.FromFile = None,
    model: o.Model = DEFAULT_MODEL,
    revision: o.Revision = None,
    top_k: o.TopK = 5,
    device: o.Device = "auto",
    dtype: o.Dtype = "float32",
    refresh: o.Refresh = False,
    allow_private_urls: o.AllowPrivate = False,
    proxy: o.Proxy = None,
    use_env_proxy: o.EnvProxy = False,
    max_pixels: o.MaxPixels = None,
    quiet: o.Quiet = False,
    as_json: o.Json = False,
) -> None:
    """Say what is in each image.

    Prints the predicted class, then the likeliest classes with their probabilities.

    Example: vit-pipeline predict --model demo cat.jpg photos/ https://example.com/dog.jpg
    """
    sources = image_sources(images, from_file)
    pipe = open_pipeline(
        model,
        revision,
        quiet=quiet,
        device=device,
        dtype=dtype,
        refresh=refresh,
        allow_private=allow_private_urls,
        proxy="env" if use_env_proxy else proxy,
        max_pixels=max_pixels,
    )
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
