"""``vit-pipeline webui``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import ArgumentError
from ..webui import AUTH, HOST, PORT, launch
from .options import AllowPrivate, Backend, Device, Dtype
from .terminal import download_bars


def webui(
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets others in.")] = HOST,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = PORT,
    allowed_host: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A name that visitors reach it by; repeatable.")
    ] = None,
    model: Annotated[str, typer.Option("--model", "-m", help="The model to start with.")] = "demo",
    allow_models: Annotated[
        str,
        typer.Option(
            metavar="NAMES", help="What visitors may load besides the short names: a,b,./folder, or any."
        ),
    ] = "",
    auth_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help=f"Holds USER:PASSWORD to ask visitors for; or set {AUTH}."),
    ] = None,
    max_waiting: Annotated[
        int, typer.Option(min=1, help="Images that may wait; one more is rejected at once.")
    ] = 32,
    device: Device = "auto",
    dtype: Dtype = "float32",
    backend: Backend = "torch",
    allow_private_urls: AllowPrivate = False,
) -> None:
    """Serve the page in the browser.

    Load a model, classify images, look inside.

    Example: vit-pipeline webui --model vit-base
    """
    try:
        auth = auth_file.read_text("utf-8").strip() if auth_file else ""
    except (OSError, UnicodeDecodeError) as error:
        raise ArgumentError(f"{auth_file}: cannot be read; it must hold USER:PASSWORD") from error
    if auth_file and not auth:
        raise ArgumentError(f"{auth_file}: is empty; it must hold USER:PASSWORD")
    launch(
        host=host,
        port=port,
        allowed_hosts=allowed_host or (),
        model=model,
        allow_models=allow_models,
        auth=auth,
        max_waiting=max_waiting,
        bars=download_bars,
        device=device,
        dtype=dtype,
        backend=backend,
        allow_private=allow_private_urls,
    )
