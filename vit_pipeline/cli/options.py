"""The options that several commands have, each said once."""

from __future__ import annotations

from typing import Annotated

import typer

from ..names import KNOWN_MODELS

Images = Annotated[
    list[str],
    typer.Argument(metavar="IMAGE", help="Paths, URLs, folders, patterns; '-' reads one from stdin."),
]
Model = Annotated[
    str,
    typer.Option("--model", "-m", help=f"{', '.join(KNOWN_MODELS)}, owner/name[@revision], or ./folder."),
]
Revision = Annotated[str | None, typer.Option(help="Branch or tag of the ModelScope repository.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")]
Dtype = Annotated[str, typer.Option(help="float32, bfloat16, or auto: bfloat16 where the hardware has it.")]
Refresh = Annotated[bool, typer.Option("--refresh", help="Look for a newer version of the model.")]
AllowPrivate = Annotated[
    bool, typer.Option("--allow-private-urls", help="Let URLs lead to private addresses (your own network).")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]
