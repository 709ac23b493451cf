"""``vit-pipeline download | convert | models``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..names import DEFAULT_MODEL, KNOWN_MODELS
from .options import Json, Refresh, Revision
from .terminal import ProgressBars, note, print_json


def download(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A short name or owner/name[@revision].")],
    revision: Revision = None,
    refresh: Refresh = False,
) -> None:
    """Download a model and check it.

    Prints its folder.
    """
    from .. import loading

    with ProgressBars() as progress:
        loaded = loading.load(model, revision, device="cpu", refresh=refresh, progress=progress)
    for text in loaded.notes:
        note(text)
    print(loaded.provenance.folder)


def convert(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A model's name, or a folder.")],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new or empty folder.")],
    revision: Revision = None,
) -> None:
    """Write a model for plain transformers."""
    from ..convert import convert as write_folder

    with ProgressBars() as progress:
        print(write_folder(source, folder, revision, progress=progress))


def models(
    name: Annotated[str | None, typer.Argument(metavar="[MODEL]", help="Show this model's card.")] = None,
    revision: Revision = None,
    as_json: Json = False,
) -> None:
    """List the models, or show the card of one."""
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
