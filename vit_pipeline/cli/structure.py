"""``vit-pipeline structure``."""

from __future__ import annotations

import json
import os
import sys
from enum import StrEnum
from typing import Annotated, Any

import typer

from ..errors import ArgumentError
from ..names import DEFAULT_MODEL
from .options import AllowPrivate, Device, Model, Revision
from .terminal import open_pipeline


class Language(StrEnum):
    en = "en"
    zh = "zh"


class Format(StrEnum):
    text = "text"
    markdown = "markdown"
    html = "html"
    json = "json"


class Order(StrEnum):
    module = "module"
    execution = "execution"


def structure(
    model: Model = DEFAULT_MODEL,
    revision: Revision = None,
    lang: Annotated[Language, typer.Option(help="Language of the explanations.")] = Language.en,
    output_format: Annotated[Format, typer.Option("--format", help="How it is written.")] = Format.text,
    depth: Annotated[int | None, typer.Option(min=0, help="Levels below the model; all by default.")] = None,
    all_layers: Annotated[bool, typer.Option("--all-layers", help="Do not fold equal layers.")] = False,
    order: Annotated[Order, typer.Option(help="As declared, or as the data flows.")] = Order.module,
    image: Annotated[
        str | None,
        typer.Option(metavar="IMAGE", help="Trace this image, step by step (needs weights)."),
    ] = None,
    compare: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Show another model beside it.")
    ] = None,
    device: Device = "auto",
    allow_private_urls: AllowPrivate = False,
) -> None:
    """Explain every module of a model.

    Each with its shapes and its cost, and the steps that print(model) does not show. Needs no weights.

    Example: vit-pipeline structure --model vit-base --order execution

    Example: vit-pipeline structure --model demo --image cat.jpg --lang zh

    Example: vit-pipeline structure --compare vit-small --format html > both.html
    """
    from rich.console import Console

    from ..structure import compare as describe_both
    from ..structure import describe
    from ..structure.rows import WORDS

    settings: dict[str, Any] = {"all_layers": all_layers, "depth": depth, "order": order.value}
    if compare is not None:
        if image is not None:
            raise ArgumentError("--compare shows structures only; leave --image out")
        first = describe(model, lang.value, revision=revision, **settings)
        found: Any = describe_both(first, compare, lang.value, **settings)
    elif image is not None:
        pipe = open_pipeline(model, revision, device=device, allow_private=allow_private_urls)
        found = describe(pipe, lang.value, image, **settings)
    else:
        found = describe(model, lang.value, revision=revision, **settings)
    if output_format is Format.json:
        print(json.dumps(found.to_dict(), ensure_ascii=False))
    elif output_format is Format.html:
        print(found.to_html())
    elif output_format is Format.markdown:
        print(found.to_markdown())
    else:
        fixed = sys.stdout.isatty() or "COLUMNS" in os.environ
        console = Console(width=None if fixed else 100)
        if not console.encoding.startswith("utf"):
            print(found.to_text(console.width).translate(str.maketrans(WORDS["ascii"])))
        elif console.is_terminal:
            console.print(found)
        else:
            print(found.to_text(console.width))
