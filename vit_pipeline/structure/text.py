"""A model's structure as a table for the terminal, and as Markdown. Leaves out: HTML (``html``)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len

from .text_table import Column, dims, human, printable, table, tree, wrap
from .words import STEP_LABELS, WORDS

if TYPE_CHECKING:
    from . import ModelStructure
    from .rows import Row
    from .trace import Step

NAMES = 27  # columns for names in a table of 100: 31 are left for what a module does
WIDE = 150


def to_text(structure: ModelStructure, width: int = 100) -> str:
    """The table in ``width`` columns; the walk over an image below it, if there is one."""
    width = max(width, 80)
    words = WORDS[structure.lang]
    shown = visible(structure.rows)
    if len(shown) > 1:  # the headline stands for the model itself
        shown = [(row, depth - 1, name) for row, depth, name in shown[1:]]
    rows = [row for row, _, _ in shown]
    names = tree([(depth, name) for _, depth, name in shown])
    numbers = [
        Column(words["shape"], [shape_text(row) for row in rows]),
        Column(words["params"], [_sum(row.params_total, row) for row in rows], right=True),
        Column(words["macs"], [_macs(row) for row in rows], right=True),
    ]
    notes = [words["legend"]]
    if width >= WIDE:
        columns = [
            Column(words["module"], names),
            Column(words["class"], [row.class_name for row in rows]),
            Column(words["older"], [" + ".join(_in_layer(p) for p in _renamed(row)) for row in rows]),
            *numbers,
        ]
        last = Column(words["role"], [row.text for row in rows])
    else:  # a class stands behind the name where there is room, else below the table; so do older names
        room = max(NAMES, *map(cell_len, names))
        fits = [cell_len(f"{name} {row.class_name}") <= room for row, name in zip(rows, names, strict=True)]
        labels = [
            f"{name} {row.class_name}" if fit else name
            for row, name, fit in zip(rows, names, fits, strict=True)
        ]
        columns = [Column(words["module"], labels), *numbers]
        last = Column(words["role"], [_brief(row, words) for row in rows])
        rest = [row for row, fit in zip(rows, fits, strict=True) if row.kind == "module" and not fit]
        notes = [_list(f"{words['legend']} {words['classes']}", _by_class(rest)) or words["legend"]]
        notes += [_list(words["names"], _older(structure.rows))]
    notes.append(_list(words["not_counted"], structure.not_counted))
    lines = [*headline(structure, width), *table(columns, last, width)]
    lines += [line for note in notes for line in wrap(note, width)]
    if structure.steps:
        lines += ["", *walk_lines(structure, width)]
    return printable(lines)


def to_markdown(structure: ModelStructure) -> str:
    """Title, totals, and one table with every column; names cannot break out of their cells."""
    words = WORDS[structure.lang]
    titles = ("module", "class", "older", "key", "shape_long", "params", "macs", "equation", "role")
    title, *facts = headline(structure, 10_000)
    lines = [f"## {markdown_cell(title)}", "", *(f"- {markdown_cell(fact)}" for fact in facts), ""]
    lines.append("| " + " | ".join(words[title] for title in titles) + " |")
    lines.append("|" + "|".join("---:" if title in ("params", "macs") else "---" for title in titles) + "|")
    for row in structure.rows:
        name = _code(row_name(row) if row.kind == "step" else row.shown_path or row.label)
        cells = [
            "&nbsp;" * 2 * row.depth + name + (f" × {row.repeat}" if row.layers else ""),
            _code(row.class_name),
            "<br>".join(map(_code, row.tutorial_paths)),
            _code(row.checkpoint_key or ""),
            shape_text(row),
            _sum(row.params_total, row, zero="0"),
            _macs(row),
            row.equation,
            markdown_cell(row.text),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    notes = [words["legend"], _list(words["not_counted"], structure.not_counted), words["source"]]
    lines += ["", *(f"{markdown_cell(note)}  " for note in notes if note)]
    if structure.steps:
        lines += ["", "```text", *walk_lines(structure, 100), "```"]
    return "\n".join(lines) + "\n"


def headline(structure: ModelStructure, width: int) -> list[str]:
    """Name, sizes, memory, and cost in both conventions, in lines of at most ``width`` columns."""
    words, cost = WORDS[structure.lang], structure.cost
    ends = f"{dims(structure.input_shape)} → {dims(structure.output_shape)}"
    title = list(dict.fromkeys((structure.name, structure.class_name, structure.library, ends)))
    if structure.order == "execution":
        title.append(words["execution"])
    memory: dict[int, list[str]] = {}
    for dtype, size in structure.weight_bytes.items():
        memory.setdefault(size, []).append(dtype)
    sizes = " · ".join(f"{'/'.join(names)} {human(size)}B" for size, names in memory.items())
    facts = [f"{structure.params:,} {words['parameters']} · {words['weights']}: {sizes}"]
    with_attention = f"{human(cost.macs, 3)} MACs, {human(cost.activations, 2)} {words['activations']}"
    as_timm = f"{human(cost.macs_timm, 3)}, {human(cost.activations_timm, 2)}"
    facts.append(words["costs"].format(with_attention, as_timm))
    return [line for text in (" · ".join(title), *facts) for line in wrap(text, width)]


def visible(rows: Sequence[Row]) -> list[tuple[Row, int, str]]:
    """Rows with their depth and name; a list and its items share a line, ``layers.0–11``, where both show."""
    shown: list[tuple[Row, int, str]] = []
    lists: list[Row] = []
    for place, row in enumerate(rows):
        while lists and row.depth <= lists[-1].depth:
            lists.pop()
        following = rows[place + 1].depth if place + 1 < len(rows) else 0
        if row.class_name == "ModuleList" and row.depth and following > row.depth:
            lists.append(row)
            continue
        name = (
            f"{lists[-1].label}.{row.label}" if lists and lists[-1].depth == row.depth - 1 else row_name(row)
        )
        shown.append(
            (
                row,
                row.depth - len(lists),
                name + (f" × {row.layers[1] - row.layers[0] + 1}" if row.layers else ""),
            )
        )
    return shown


def row_name(row: Row) -> str:
    """The module's own name, or what the step is called."""
    return row.label if row.kind == "module" else STEP_LABELS.get(row.role or "", row.label)


def shape_text(row: Row) -> str:
    """``197×768→197×3072``, without the batch of one."""
    return (
        ""
        if row.in_shape is None and row.out_shape is None
        else f"{dims(row.in_shape)}→{dims(row.out_shape)}"
    )


def walk_lines(structure: ModelStructure, width: int) -> list[str]:
    """The walk over an image: the first layer step by step, the others in one line each, or all of them."""
    words = WORDS[structure.lang]
    steps = shown_steps(structure)
    heads = [words[key] for key in ("step", "output", "mean", "std", "cls")] + difference_titles(structure)
    cells = list(zip(*(step_cells(step) for step in steps), strict=True))
    columns = [
        Column(head, list(cell), right=place > 1)
        for place, (head, cell) in enumerate(zip(heads, cells, strict=False))
    ]
    title = wrap(words["walk"].format(source=structure.source), width)
    return [*title, *table(columns, Column("", [""] * len(steps)), width), *wrap(words["walk_legend"], width)]


def shown_steps(structure: ModelStructure) -> list[Step]:
    """Of equal layers only the first step by step, of the others their result, as in the folded table."""
    folded = [row.layers for row in structure.rows if row.layers and row.role == "layer"]
    brief = {index for first, last in folded for index in range(first + 1, last + 1)}
    return [s for s in structure.steps if s.layer not in brief or s.role == "residual_mlp"]


def difference_titles(structure: ModelStructure) -> list[str]:
    """Compared with attention written out, and, where it is another, with the kernel that the model has."""
    return [f"Δ {kernel}" for kernel in dict.fromkeys(("eager", structure.kernel or "model()"))]


def step_cells(step: Step) -> list[str]:
    """A step's name, shape, mean, standard deviation, norm of CLS, and both differences."""
    norm = "" if step.cls_norm is None else f"{step.cls_norm:.3f}"
    differences = ["" if d is None else f"{d:.1e}" for d in (step.difference, step.difference_as_set)]
    return [step_name(step), dims(step.shape), f"{step.mean:.4f}", f"{step.std:.4f}", norm, *differences]


def step_name(step: Step) -> str:
    """``vit.layers.0.attention.q_proj``, or where the step happens and what it is."""
    label = STEP_LABELS.get(step.role)
    return f"{step.path} {label}".strip() if label and step.role not in step.path.split(".") else step.path


def _sum(number: int, row: Row, zero: str = "·") -> str:
    return ("Σ " if row.params_total != row.params else "") + (f"{number:,}" if number else zero)


def _macs(row: Row) -> str:
    return human(row.cost_total.macs) if row.cost is not None else "?"


def _brief(row: Row, words: dict[str, str]) -> str:
    return f"{words['call'].format(*row.call)} · {row.brief}" if row.call and row.call[0] > 1 else row.brief


def _renamed(row: Row) -> tuple[str, ...]:
    same = tuple(map(_in_layer, row.tutorial_paths)) == (_in_layer(row.path),)
    return () if same else row.tutorial_paths


def _older(rows: Sequence[Row]) -> list[str]:
    """``q_proj, k_proj = attention.attention.query, key``: neighbours from one module share its name."""
    notes: list[tuple[list[str], list[str]]] = []
    home = None
    for row in rows:
        if not _renamed(row) or row.role == "layer":
            continue
        older = " + ".join(map(_in_layer, _renamed(row)))
        parent, _, last = older.rpartition(".")
        if parent and parent == home and len(_renamed(row)) == 1:
            notes[-1][0].append(row.label)
            notes[-1][1].append(last)
        else:
            notes.append(([row.label], [older]))
        home = parent if len(_renamed(row)) == 1 else None
    return [f"{', '.join(labels)} = {', '.join(names)}" for labels, names in notes]


def _by_class(rows: Iterable[Row]) -> list[str]:
    labels: dict[str, list[str]] = {}
    for row in rows:
        labels.setdefault(row.class_name, []).append(row.label)
    return [f"{', '.join(dict.fromkeys(names))} {kind}" for kind, names in labels.items()]


def _in_layer(path: str) -> str:
    """Without what every path of a layer has in front."""
    return re.sub(r"^.*\blayers?\.\d+\.|^vit\.", "", path)


def _list(title: str, items: Iterable[str]) -> str:
    joined = " · ".join(dict.fromkeys(filter(None, items)))
    return title + joined if joined else ""


def _code(text: str) -> str:
    """Code as HTML, since a code span in backticks cannot hold an escaped bar."""
    return f"<code>{markdown_cell(text)}</code>" if text else ""


def markdown_cell(text: str) -> str:
    """Text that means nothing to Markdown or HTML, on one line."""
    return re.sub(r"([|<>&\[\]*_`\\])", lambda found: f"&#{ord(found[1])};", " ".join(text.split()))
