"""``vit-pipeline explain``."""

from __future__ import annotations

import re
from enum import StrEnum
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import ArgumentError, VitPipelineError, printable
from . import options as o
from .features import Errors
from .terminal import image_sources, note, print_prediction

if TYPE_CHECKING:
    from ..explain import Explanation


class Method(StrEnum):
    gradient_attention = "gradient-attention"
    occlusion = "occlusion"
    integrated_gradients = "integrated-gradients"
    attention = "attention"
    rollout = "rollout"


Output = Annotated[Path | None, o.output(".png", ".html", ".json", ".npz")]
How = Annotated[
    Method | None, typer.Option("--method", help="How the map is made.", show_default="gradient-attention")
]
Target = Annotated[
    str | None, typer.Option(help="The class to explain: a label or index.", show_default="the predicted one")
]
Layer = Annotated[int | None, typer.Option(help="Of the attention: counted from 0, or from the end as -1.")]
Head = Annotated[int | None, typer.Option(help="Of the attention; the mean of all by default.")]
AllHeads = Annotated[bool, typer.Option("--all-heads", help="In a .png: what CLS looks at in every head.")]
Lens = Annotated[bool, typer.Option("--lens", help="In a .png: what each layer would have said.")]
Faithful = Annotated[
    bool, typer.Option("--faithfulness", help="How far to trust the map; in a .png: its curves.")
]
Folder = Annotated[
    str | None,
    typer.Option("--evaluate", metavar="FOLDER", help="Measure the methods on a folder of images."),
]
Methods = Annotated[str, typer.Option(metavar="A,B", help="Those that --evaluate measures.")]


@o.with_pipeline
def explain(
    open: o.Open,
    quiet: bool,
    images: o.Images = None,
    from_file: o.FromFile = None,
    output: Output = None,
    method: How = None,
    target: Target = None,
    layer: Layer = None,
    head: Head = None,
    all_heads: AllHeads = False,
    lens: Lens = False,
    faithfulness: Faithful = False,
    evaluate: Folder = None,
    methods: Methods = ",".join(Method),
) -> None:
    """Show where a decision came from.

    A map of the evidence, what each layer would have said, and how far to trust that. Several images make a
    folder: -o cats.png writes cats/NAME.png.

    Example: vit-pipeline explain cat.jpg -o cat.png --lens --faithfulness

    Example: vit-pipeline explain cat.jpg --target dog --method occlusion

    Example: vit-pipeline explain --evaluate photos/ --methods gradient-attention,occlusion
    """
    if evaluate is not None:
        if images or from_file or output:
            raise ArgumentError(
                "--evaluate takes its images from FOLDER, and prints a table; give nothing else"
            )
        _evaluate(open(), evaluate, methods.split(","), quiet)
        return
    sources = image_sources(images, from_file)
    attention = layer is not None or head is not None
    name = str(method or ("attention" if attention else "gradient-attention"))
    options: dict[str, Any] = {"layer": -1 if layer is None else layer, "head": head}
    pipe = open()
    from .. import engine
    from ..explain import explain as explanation
    from ..sources import find_images

    found = find_images(sources)
    first = list(islice(found, 2))
    folder = output.with_suffix("") if output and len(first) > 1 else None
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
    errors = Errors()
    explained = engine.run(
        chain(first, found),
        pipe.preparer(),
        lambda pixels, names: [explanation(pipe, pixels, names[0], target)],
        batch_size=1,
    )
    for number, ((source, e),) in enumerate(explained):
        if isinstance(e, VitPipelineError):
            errors(e)
        elif output is None:
            _print(e, name, options, first=number == 0, faithfulness=faithfulness)
        else:
            stem = re.sub(r"[^\w.-]+", "_", Path(source).stem)[:80]
            path = folder / f"{number:04}-{stem}{output.suffix}" if folder else output
            e.save(path, name, **options, all_heads=all_heads, lens=lens, faithfulness=faithfulness)
            if not quiet:
                note(f"{path}: {source}")
    errors.exit()


def _print(e: Explanation, method: str, options: dict[str, Any], *, first: bool, faithfulness: bool) -> None:
    """The prediction, the lens layer by layer, the evidence in words."""
    if e.prediction is None:
        print(printable(e.source))
    else:
        print_prediction(e.prediction, first=first, classes=len(e.pipe.labels))
        print("After each layer, as if the model ended there:")
        for number, at in enumerate(e.lens):
            print(f"  {number:2}  {at.score:7.2%}  {printable(at.label, 44)}")
    whose = f" for {printable(e.label)}" if e.target is not None else ""
    print(f"Evidence{whose}, by {method}: {e.evidence(method, **options)}")
    if faithfulness:
        for line in e.notes(method, **options):
            print(line)


def _evaluate(pipe: Any, folder: str, methods: list[str], quiet: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    from ..explain.evaluate import evaluate

    errors = Errors()
    with Console(stderr=True).status("") as status:
        rows = evaluate(
            folder, pipe, methods, on_error=errors, progress=lambda count: status.update(f"{count:,} images")
        )
    table = Table(
        "map",
        "deletion AUC ↓",
        "better than random on",
        "insertion − deletion ↑",
        "less the centre's",
        "SaCo ↑",
        "s per map",
        box=None,
    )
    for row in rows:
        table.add_row(
            row.method,
            f"{row.deletion_auc:.3f}",
            f"{row.over_random:.0%}",
            f"{row.gain:+.3f} ± {row.gain_ci:.3f}",
            f"{row.over_centre:+.3f} ± {row.over_centre_ci:.3f}",
            f"{row.saco:+.3f} ± {row.saco_ci:.3f}",
            f"{row.seconds:.3f}",
        )
    Console(width=110).print(table)
    print(f"{rows[0].images:,} images; ± 95 %. A map that does not beat the centre has found out nothing.")
    errors.exit()
