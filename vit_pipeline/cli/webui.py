"""``vit-pipeline webui``."""

from __future__ import annotations

from typing import Annotated

import typer

from ..webui import HOST, PORT, launch
from .options import AllowPrivate, Device, Dtype
from .terminal import ProgressBars


def webui(
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets others in.")] = HOST,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = PORT,
    model: Annotated[str, typer.Option("--model", "-m", help="The model to start with.")] = "demo",
    allow_models: Annotated[
        str,
        typer.Option(
            metavar="NAMES", help="What visitors may load besides the short names: a,b,./folder, or any."
        ),
    ] = "",
    auth: Annotated[str, typer.Option(metavar="USER:PASSWORD", help="Ask visitors for these.")] = "",
    max_waiting: Annotated[
        int, typer.Option(min=1, help="Images that may wait; one more is refused at once.")
    ] = 32,
    device: Device = "auto",
    dtype: Dtype = "float32",
    allow_private_urls: AllowPrivate = False,
) -> None:
    """Serve the page in the browser.

    Load a model, classify images, look inside.
    """
    launch(
        host=host,
        port=port,
        model=model,
        allow_models=allow_models,
        auth=auth,
        device=device,
        dtype=dtype,
        allow_private_urls=allow_private_urls,
        max_waiting=max_waiting,
        bars=ProgressBars,
    )
