"""``vit-pipeline explain``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ..errors import ArgumentError, OutputError, VitPipelineError, printable, reason
from . import options as o
from .images import Errors
from .terminal import image_sources, note, print_prediction

if TYPE_CHECKING:
    from ..explain import Explanation


Output = Annotated[Path | None, o.output(".png", ".html", ".json", ".npz")]
Method = Literal["gradient-attention", "occlusion", "integrated-gradients", "attention", "rollout"]
How = Annotated[Method, typer.Option("--method", help="How the map is made.")]
Target = Annotated[str | None, typer.Option(help="Explain this class: a label or an index.")]
Layer = Annotated[int | None, typer.Option(help="The attention in this layer, from 0; -1 is the last.")]
Head = Annotated[int | None, typer.Option(help="The attention in this head, from 0.")]
AllHeads = Annotated[bool, typer.Option("--all-heads", help="Add what CLS looks at in every head.")]
Lens = Annotated[bool, typer.Option("--lens", help="Add what each layer would have said.")]
Faithful = Annotated[bool, typer.Option("--faithfulness", help="Add how far to trust the map.")]
Evaluate = Annotated[bool, typer.Option("--evaluate", help="Measure methods on all images; print a table.")]
Methods = Annotated[str | None, typer.Option(metavar="A,B", help="Those to --evaluate; all by default.")]


@o.with_pipeline
def explain(
    open: o.Open,
    quiet: bool,
    images: o.Images = None,
    from_file: o.FromFile = None,
    output: Output = None,
    method: How = "gradient-attention",
    target: Target = None,
    layer: Layer = None,
    head: Head = None,
    all_heads: AllHeads = False,
    lens: Lens = False,
    faithfulness: Faithful = False,
    evaluate: Evaluate = False,
    methods: Methods = None,
) -> None:
    """Show where a decision came from, and how far to trust that.

    With several images, -o cats.png writes a folder: cats/0000-NAME.png and so on.

    Example: vit-pipeline explain cat.jpg -o cat.png --lens --faithfulness

    Example: vit-pipeline explain --evaluate photos/ --methods gradient-attention,occlusion
    """
    sources = image_sources(images, from_file)
    of = {name: value for name, value in (("layer", layer), ("head", head)) if value is not None}
    name = "attention" if of and method == "gradient-attention" else method
    pipe = open()
    from .. import engine
    from ..explain import explain as explained
    from ..sources import find_images

    found = find_images(sources)
    first = list(islice(found, 2))
    batches = engine.run(
        chain(first, found),
        pipe.preparer(),
        lambda pixels, names: [explained(pipe, pixels, names[0], target)],
        batch_size=1,
    )
    errors = Errors()
    with closing(batches):
        results = ((source, e) for batch in batches for source, e in batch)
        if evaluate:
            _evaluate(_correct(results, errors), methods)
            errors.exit()
            return
        for number, (source, e) in enumerate(results):
            if isinstance(e, VitPipelineError):
                errors(e)
            elif output is None:
                _print(e, name, of, first=number == 0, faithfulness=faithfulness)
            else:
                path = _in_folder(output, number, source) if len(first) > 1 else output
                e.save(path, name, all_heads=all_heads, lens=lens, faithfulness=faithfulness, **of)
                if not quiet:
                    note(f"{path}: {source}")
    errors.exit()


def _in_folder(output: Path, number: int, source: str) -> Path:
    """``cats/0003-NAME.png`` for ``cats.png``."""
    folder, name = output.with_suffix(""), re.sub(r"[^\w.-]+", "_", Path(source).stem)[:80]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made a folder: {reason(error)}") from error
    return folder / f"{number:04}-{name}{output.suffix}"


def _print(e: Explanation, method: str, of: dict[str, int], *, first: bool, faithfulness: bool) -> None:
    """The prediction, what each layer would have said, where the evidence lies in words."""
    if e.prediction is not None and e.target is not None:
        print_prediction(e.prediction, first=first, labels=e.pipe.labels)
        print("After each layer, as if the model ended there:")
        for number, at in enumerate(e.lens, start=-1):
            layer = "embeddings" if number < 0 else f"layer {number}"
            print(f"  {layer:10}  {at.score:7.2%}  {printable(at.label, 44)}")
    from ..explain.figure import WEAK, notes, title

    whose = f" for {printable(e.target.label)}" if e.target else f" in {printable(e.source)}"
    print(f"Where the evidence{whose} is ({title(method, of)}):\n  {e.evidence(method, **of)}")
    for line in notes(e, method, of) if faithfulness else [WEAK[method]] if method in WEAK else []:
        print(f"  {line}")


def _correct(results: Iterator[tuple[str, Any]], errors: Errors) -> Iterator[Explanation]:
    """The explained images; of those in a folder named after a class, the ones that the model gets right."""
    for source, e in results:
        if isinstance(e, VitPipelineError):
            errors(e)
        elif (folder := Path(source).parent.name) not in e.pipe.labels or e.prediction.label == folder:
            yield e


def _evaluate(explanations: Iterator[Explanation], methods: str | None) -> None:
    from rich.console import Console
    from rich.table import Table

    from ..explain import METHODS, evaluate

    chosen = methods.split(",") if methods else METHODS
    if unknown := set(chosen) - set(METHODS):
        raise ArgumentError(f"no method is called {unknown.pop()!r}; use {', '.join(METHODS)}")
    rows = evaluate(explanations, chosen)
    head = ("deletion AUC ↓", "beats random", "insertion − deletion ↑", "beats the centre by", "SaCo ↑", "s")
    table = Table("", *head, box=None)
    for row in rows:
        values = (row.deletion_auc, row.gain, row.over_centre, row.saco)
        deletion, *rest = (f"{mean:.3f} ± {half:.3f}" for mean, half in values)
        table.add_row(row.method, deletion, f"{row.beats_random:.0%}", *rest, f"{row.seconds:.3f}")
    Console(width=118).print(table)
    print(
        f"{rows[0].images:,} images, ± 95 %. What does not beat the centre has found out nothing about them."
    )
