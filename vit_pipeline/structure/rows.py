"""The rows of a model's structure, from its tree: explained, and with equal layers folded into one.

Leaves out: the tree itself (``tree``), the table around the rows (``render``).
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from itertools import groupby
from typing import Any

from ..roles import ROLES, TEXTS, older_paths
from .measure import FREE, Cost
from .tree import Node

WORDS: dict[str, dict[str, str]] = tomllib.loads(
    files(__package__).joinpath("words.toml").read_text(encoding="utf-8")
)


@dataclass(frozen=True)
class Row:
    """One line of the table. Numbers are for one of the ``repeat`` equal modules that it stands for."""

    path: str  #: as installed; of the first, where it stands for several
    shown_path: str  #: ``path`` with the layers that are folded as a range
    label: str
    depth: int
    repeat: int
    layers: tuple[int, int] | None  #: first and last of the equal layers that are folded into it
    opens: bool  #: rows below it are shown
    kind: str  #: "module", "parameter" or "step" (one that never prints)
    class_name: str  #: empty for a step
    role: str | None  #: None: unknown
    brief: str  #: what it does, in a few words
    text: str  #: what it does and what it is for, in a sentence or two
    inert: bool  #: does nothing, such as dropout at p = 0
    equation: str  #: in Dosovitskiy et al. 2021; empty where it has none
    tutorial_paths: tuple[str, ...]  #: its path, or paths, in transformers ≤ 5.8
    checkpoint_key: str | None  #: what its tensors' names start with on disk; None where it has none
    in_shape: tuple[int, ...] | None
    out_shape: tuple[int, ...] | None
    call: tuple[int, int] | None  #: in execution order, (2, 2): the second call of two
    params: int  #: counted in this row alone: the rows, each times ``repeat``, sum to the total
    params_total: int  #: with all rows below
    cost: Cost | None  #: of this row alone; None: it has weights, and no cost of them is known
    cost_total: Cost  #: with all rows below

    @property
    def name(self) -> str:
        """Its own name (of a list's item with the list's), or what the step is called."""
        if self.kind != "module":
            return WORDS["steps"].get(self.role or "", self.label)
        name = ".".join(self.shown_path.split(".")[-2:]) if self.label[:1].isdigit() else self.label
        return f"{name} × {self.layers[1] - self.layers[0] + 1}" if self.layers else name

    @property
    def part(self) -> str:
        """Of the model: "embed", "attend", "mlp", "classify" or none."""
        return ROLES[self.role].part if self.role else ""


def make_rows(root: Node, lang: str, all_layers: bool, depth: float) -> Iterator[Row]:
    """The tree as rows, parents first, down to ``depth``; equal layers side by side are one row."""
    words = WORDS[lang]

    def visit(nodes: list[Node], level: int, repeat: int, shown: str) -> Iterator[Row]:
        node, last, repeat = nodes[0], nodes[-1], repeat * len(nodes)
        label = node.name
        if node is not last:
            label = f"{node.name}–{last.name}"
            shown = shown.removesuffix(node.name) + label
        below = node.children if level < depth else []
        ends = bool(node.children) and not below
        old = older_paths(ROLES[node.role], node.path) if node.role and node.path else ()
        if node.call and node.call[1] == len(old):
            old = old[node.call[0] - 1 : node.call[0]]  # where each call had a module of its own
        inert, brief, text = _explained(node, lang)
        equation = ROLES[node.role].equation if node.role else ""
        params = sum(part.params for part in node.walk())
        cost = sum((part.cost for part in node.walk() if part.cost is not None), FREE)
        yield Row(
            path=node.path,
            shown_path=shown,
            label=label,
            depth=level,
            repeat=repeat,
            layers=None if node is last else (int(node.name), int(last.name)),
            opens=bool(below),
            kind=node.kind,
            class_name=node.class_name,
            role=node.role,
            brief=brief,
            text=text,
            inert=inert,
            equation=equation and words["equation_number"].format(equation.replace(", ", words["list"])),
            tutorial_paths=old if node.kind != "step" else (),
            checkpoint_key=(*old, node.path)[0] or None if params and len(old) < 2 else None,
            in_shape=node.in_shape,
            out_shape=node.out_shape,
            call=node.call,
            params=params if ends else node.params,
            params_total=params,
            cost=cost if ends else node.cost,
            cost_total=cost,
        )
        for _, same in groupby(below, key=id if all_layers else _fold_key):
            equal = list(same)
            yield from visit(equal, level + 1, repeat, shown + equal[0].path[len(node.path) :])

    return visit([root], 0, 1, root.path)


def _fold_key(node: Node) -> object:
    """Equal for items of a list that are equal in everything but their number and their weights."""
    if node.module is None or not node.name.isdigit():
        return id(node)
    settings = [
        (key, value)
        for module in node.module.modules()
        for key, value in vars(module).items()
        if isinstance(value, bool | int | float | str | tuple)
        if key[0] != "_" and key not in ("training", "layer_idx")
    ]
    parts = [(part.in_shape, part.out_shape, part.params, len(part.calls or ())) for part in node.walk()]
    return repr(node.module), settings, parts


def _explained(node: Node, lang: str) -> tuple[bool, str, str]:
    """Whether it is inert, and its explanation, with what is true of this one module."""
    brief, text = TEXTS[lang][node.role or "unknown"]
    words = WORDS[lang]
    p: Any = getattr(node.module, "p", None)
    if node.role and node.class_name == "Identity":
        return True, words["identity"], words["identity_text"]
    if node.role and node.class_name == "Dropout" and p is not None:
        key = "inert" if p == 0 else "dropout"
        return p == 0, words[key].format(p=p), text + words["join"] + words[f"{key}_text"].format(p=p)
    if node.same_as:
        text += words["join"] + words["same_as"].format(node.same_as)
    elif node.kind == "module" and node.calls == [] and not node.children:
        text += words["join"] + words["never_called"]
    return False, brief, text
