"""``vit-pipeline models | download | convert | structure``: the commands that are about a model itself."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ..errors import ArgumentError
from ..names import DEFAULT_MODEL, KNOWN_MODELS
from . import options as o
from .terminal import download_bars, note, open_pipeline, print_json


def models(
    name: Annotated[str | None, typer.Argument(metavar="[MODEL]", help="Show this model's card.")] = None,
    revision: o.Revision = None,
    as_json: o.Json = False,
) -> None:
    """List the models, or show the card of one.

    Example: vit-pipeline models vit-small
    """
    if name is not None:
        from ..card import model_card

        card = model_card(name, revision)
        if as_json:
            print_json(card.to_dict())
        else:
            print(card)
        return
    from .. import hub

    for known in KNOWN_MODELS.values():
        found = known.folder
        if known.repo and (copy := hub.find_cached(known.repo)):
            found = copy.folder
        size = sum(path.stat().st_size for path in found.iterdir() if path.is_file()) if found else None
        source = f"ModelScope {known.repo}" if known.repo else "embedded"
        if as_json:
            row = {"name": known.name, "what": known.summary, "source": source, "cached": bool(found)}
            print_json(row | {"bytes": size})
            continue
        default = " (default)" if known.name == DEFAULT_MODEL else ""
        on_disk = f"{size / 1e6:,.1f} MB on disk" if size else "not downloaded"
        print(f"{known.name}{default}\n  {known.summary}\n  {source}, {on_disk}")


def download(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A short name or owner/name[@revision].")],
    revision: o.Revision = None,
    refresh: o.Refresh = False,
) -> None:
    """Download a model and check it.

    Prints its folder.

    Example: vit-pipeline download vit-base
    """
    print(open_pipeline(model, revision, device="cpu", refresh=refresh).provenance.folder)


def convert(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A model's name, or a folder.")],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new or empty folder.")],
    revision: o.Revision = None,
    to: Annotated[
        Literal["transformers", "openvino", "onnx"], typer.Option("--to", help="Who shall load it.")
    ] = "transformers",
) -> None:
    """Write a model as a folder that plain transformers loads, or OpenVINO, or ONNX's runtimes.

    With its labels and its preprocessing; a graph is run once and compared with torch.

    Example: vit-pipeline convert vit-small ./vit-small-transformers

    Example: vit-pipeline convert demo ./demo-onnx --to onnx
    """
    from ..convert import EXPORT
    from ..convert import convert as write_folder

    with download_bars() as progress:
        written = write_folder(source, folder, revision, to=to, progress=progress)
    print(written)
    if to != "transformers":
        off = json.loads((written / EXPORT).read_text("utf-8"))["largest_difference"]
        found = ", ".join(f"{name} by at most {value:.1e}" for name, value in off.items())
        note(f"on 8 random images it differs from torch: {found}")


def structure(
    model: o.Model = DEFAULT_MODEL,
    revision: o.Revision = None,
    lang: Annotated[Literal["en", "zh"], typer.Option(help="Language of the explanations.")] = "en",
    output_format: Annotated[
        Literal["text", "markdown", "html", "json"], typer.Option("--format", help="How it is written.")
    ] = "text",
    depth: Annotated[int | None, typer.Option(min=0, help="Levels below the model; all by default.")] = None,
    all_layers: Annotated[bool, typer.Option("--all-layers", help="Do not fold equal layers.")] = False,
    order: Annotated[
        Literal["execution", "module"], typer.Option(help="As the data flows, or as declared.")
    ] = "execution",
    image: Annotated[
        str | None, typer.Option(metavar="IMAGE", help="Trace this image, step by step (needs weights).")
    ] = None,
    exactness: Annotated[
        bool, typer.Option("--exactness", help="With --image: how far each layer is from model().")
    ] = False,
    compare: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Show another model beside it.")
    ] = None,
    device: o.Device = "auto",
    allow_private_urls: o.AllowPrivate = False,
) -> None:
    """Explain every module of a model.

    Each with its shapes and its cost, and the steps that print(model) does not show. Needs no weights.

    Example: vit-pipeline structure --model vit-base --lang zh

    Example: vit-pipeline structure --model demo --image cat.jpg --exactness

    Example: vit-pipeline structure --compare vit-small --format html > both.html
    """
    from rich.console import Console

    from ..structure import compare as describe_both
    from ..structure import describe
    from ..structure.rows import WORDS

    settings: dict[str, Any] = {"all_layers": all_layers, "depth": depth, "order": order}
    if compare is not None and image is not None:
        raise ArgumentError("--compare shows structures only; leave --image out")
    if exactness and image is None:
        raise ArgumentError("--exactness is about an image; add --image")
    if image is not None:
        pipe = open_pipeline(model, revision, device=device, allow_private_urls=allow_private_urls)
        found: Any = describe(pipe, lang, image, exactness=exactness, **settings)
    else:
        found = describe(model, lang, revision=revision, **settings)
    if compare is not None:
        found = describe_both(found, compare, lang, **settings)
    if output_format == "json":
        print(json.dumps(found.to_dict(), ensure_ascii=False))
    elif output_format == "html":
        print(found.to_html())
    elif output_format == "markdown":
        print(found.to_markdown())
    else:
        console = Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 100)
        if not console.encoding.startswith("utf"):
            print(found.to_text(console.width).translate(str.maketrans(WORDS["ascii"])))
        elif console.is_terminal:
            console.print(found)
        else:
            print(found.to_text(console.width))
