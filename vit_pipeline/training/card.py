"""What stands beside a fine-tuned model's weights: the model card, ``training.json``, curves.

Leaves out: the measuring (the package itself).
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..errors import printable
from ..files import new_folder, template
from ..structure.render import escape_markdown

if TYPE_CHECKING:
    from . import Finetuned

_GRID = 20  # classes in a confusion matrix that people read


def to_dict(found: Finetuned) -> dict[str, Any]:
    """Everything but the model."""
    import sklearn
    import torch
    import transformers

    versions = {"vit_pipeline": __version__}
    versions |= {one.__name__: one.__version__ for one in (torch, transformers, sklearn)}
    fields = {name: value for name, value in vars(found).items() if name not in ("pipe", "plan")}
    values = {name: _plain(value) for name, value in fields.items()}
    return {"data": asdict(found.plan), **values, "versions": versions}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return asdict(value) if hasattr(value, "__dataclass_fields__") else value


def render(found: Finetuned, name: str) -> str:
    """A template of this folder, for a terminal or for Markdown."""
    filters = {"line": printable, "md": escape_markdown, "percent": "{:.2%}".format, "n": "{:,}".format}
    return template(Path(__file__).with_name(name), **filters).render(
        f=found,
        d=to_dict(found),
        cells={pair.indices: pair.images for pair in found.confusion},
        grid=len(found.plan.labels) <= _GRID,
        confused=[pair for pair in found.confusion if pair.indices[0] != pair.indices[1]],
    )


def save(found: Finetuned, folder: str | Path) -> None:
    """As ``Finetuned.save`` says."""
    with new_folder(folder) as partial:
        found.pipe.write_files(partial)
        texts = {
            "README.md": render(found, "card.md.j2"),
            "training.json": json.dumps(to_dict(found), ensure_ascii=False, indent=2),
        }
        for name, text in texts.items():
            (partial / name).write_text(text, encoding="utf-8", errors="backslashreplace")
        _draw(found, partial / "curves.png")


def _draw(found: Finetuned, path: Path) -> None:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return
    if not found.history:
        return
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    x = "epoch" if "epoch" in found.history[0] else "C"
    for name in dict.fromkeys(name for entry in found.history for name in entry if name != x):
        entries = [entry for entry in found.history if name in entry]
        on = axes.twinx() if "accuracy" in name else axes
        colour = {"loss": "tab:blue", "val_loss": "tab:red", "val_accuracy": "tab:green"}[name]
        label = name.replace("val_", "validation ") if x == "epoch" else "log loss in cross-validation"
        on.plot([e[x] for e in entries], [e[name] for e in entries], ".-", color=colour, label=label)
        on.set_ylabel("accuracy" if on is not axes else "loss")
    axes.set_xlabel(x)
    figure.legend(loc="outside upper center", ncols=3)
    if x == "C":
        axes.set_xscale("log")
    figure.savefig(path, dpi=150)
