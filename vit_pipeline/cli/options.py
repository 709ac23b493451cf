"""The options that several commands have, each said once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..names import KNOWN_MODELS

Images = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="IMAGE...",
        help="Files, folders, globs, URLs; a .txt file: a list of them; '-' the bytes of one image on stdin.",
        show_default=False,
    ),
]
FromFile = Annotated[
    str | None,
    typer.Option("--from-file", metavar="FILE", help="A list of files and URLs, one a line; '-' on stdin."),
]
Model = Annotated[
    str,
    typer.Option("--model", "-m", help=f"{', '.join(KNOWN_MODELS)}, owner/name[@revision], or ./folder."),
]
Revision = Annotated[str | None, typer.Option(help="Branch or tag of the ModelScope repository.")]
TopK = Annotated[int, typer.Option("--top-k", "-k", min=1, help="How many classes to list.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Images in one forward pass.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")]
Dtype = Annotated[
    str, typer.Option(help="float32; bfloat16; auto: bfloat16 where the hardware has it, other scores.")
]
Refresh = Annotated[bool, typer.Option("--refresh", help="Look for a newer version of the model.")]
AllowPrivate = Annotated[
    bool, typer.Option("--allow-private-urls", help="Let URLs lead to private addresses (your own network).")
]
Proxy = Annotated[
    str | None, typer.Option(metavar="URL", help="Fetch image URLs through this proxy: http://host:port.")
]
EnvProxy = Annotated[
    bool, typer.Option("--use-env-proxy", help="… through the one that HTTPS_PROXY and HTTP_PROXY name.")
]
MaxPixels = Annotated[int | None, typer.Option(min=1, help="Reject images of more pixels than this.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print results and errors only.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


def output(*suffixes: str) -> Any:
    """``--output``: a file whose name ends in one of ``suffixes``; another one is said at once."""

    def check(path: Path) -> Path:
        if path.suffix.lower() not in suffixes:
            raise typer.BadParameter(f"{path}: the name must end in {' or '.join(suffixes)}")
        return path

    return typer.Option("--output", "-o", help=f"A file that ends in {', '.join(suffixes)}.", callback=check)
