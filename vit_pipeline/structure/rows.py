"""The rows of a model's structure, from its tree: explained, and with equal layers folded into one.

Leaves out: the tree itself (``tree``), the table around the rows (``render``).
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from importlib.resources import files
from itertools import groupby
from typing import Any

import torch

from ..roles import TEXTS, older_paths
from .measure import FREE, Cost
from .tree import Node

WORDS: dict[str, dict[str, str]] = tomllib.loads(
    files(__package__).joinpath("words.toml").read_text(encoding="utf-8")
)


@dataclass(frozen=True)
class Row:
    """One line of the table. Numbers are for one of the ``repeat`` equal modules that it stands for."""

    path: str  #: as installed; of the first, where it stands for several
    label: str
    depth: int
    kind: str  #: "module", "parameter" or "step" (one that never prints)
    class_name: str  #: empty for a step
    role: str | None  #: None: unknown
    part: str  #: of the model: "embed", "attend", "mlp", "classify" or none
    brief: str  #: what it does, in a few words
    text: str  #: what it does and what it is for, in a sentence or two
    equation: str  #: in Dosovitskiy et al. 2021; empty where it has none
    tutorial_paths: tuple[str, ...]  #: its path, or paths, in transformers ≤ 5.8
    checkpoint_key: str | None  #: what its tensors' names start with on disk; None where it has none
    in_shape: tuple[int, ...] | None
    out_shape: tuple[int, ...] | None
    params: int  #: counted in this row alone: the rows, each times ``repeat``, sum to the total
    params_total: int  #: with all rows below
    cost: Cost | None  #: of this row alone; None: it has weights, and no cost of them is known
    cost_total: Cost  #: with all rows below
    repeat: int = 1
    layers: tuple[int, int] | None = None  #: first and last of the equal layers that are folded into it
    shown_path: str = ""  #: ``path`` with the folded layers as a range
    opens: bool = False  #: rows below it are shown
    inert: bool = False  #: does nothing, such as dropout at p = 0
    calls: int | None = None  #: how often it runs in a forward pass; None: not known
    call: tuple[int, int] | None = None  #: in execution order, (2, 2): the second call of two

    @property
    def name(self) -> str:
        """Its own name (of a list's item with the list's), or what the step is called."""
        if self.kind != "module":
            return WORDS["steps"].get(self.role or "", self.label)
        name = ".".join(self.shown_path.split(".")[-2:]) if self.label[:1].isdigit() else self.label
        return f"{name} × {self.layers[1] - self.layers[0] + 1}" if self.layers else name

    def to_dict(self) -> dict[str, Any]:
        """As it stands in JSON output; ``macs`` and ``activations`` in both conventions."""
        entry: dict[str, Any] = {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self).items()}
        own, total = entry.pop("cost"), entry.pop("cost_total")
        entry |= asdict(own) if own is not None else dict.fromkeys(asdict(FREE))
        return entry | {f"{name}_total": value for name, value in asdict(total).items()}


def make_rows(root: Node, lang: str, observed: bool, all_layers: bool, depth: float) -> Iterator[Row]:
    """The tree as rows, parents first, down to ``depth``; equal layers side by side are one row.

    ``observed``: the tree's calls are known.
    """

    def visit(nodes: list[Node], level: int, repeat: int, shown: str) -> Iterator[Row]:
        node, last = nodes[0], nodes[-1]
        row = _row(node, lang, observed)
        if len(nodes) > 1:
            label = f"{node.name}–{last.name}"
            shown = shown.removesuffix(node.name) + label
            row = replace(row, label=label, layers=(int(node.name), int(last.name)))
        below = node.children if level < depth else []
        row = replace(row, depth=level, repeat=repeat * len(nodes), shown_path=shown, opens=bool(below))
        if node.children and not below:
            row = replace(row, params=row.params_total, cost=row.cost_total)
        yield row
        for _, same in groupby(below, key=id if all_layers else _fold_key):
            equal = list(same)
            yield from visit(equal, level + 1, row.repeat, shown + equal[0].path[len(node.path) :])

    yield from visit([root], 0, 1, root.path)


def _fold_key(node: Node) -> object:
    """Equal for items of a list that are equal in everything but their number and their weights."""
    return [_settings(part, len(node.path)) for part in node.walk()] if node.name.isdigit() else id(node)


def _settings(node: Node, start: int) -> tuple[Any, ...]:
    shapes = (node.in_shape, node.out_shape)
    seen = (node.path[start:], node.class_name, *shapes, node.params, len(node.calls or ()))
    if node.module is None:
        return seen
    own = {k: v for k, v in vars(node.module).items() if k not in ("training", "layer_idx") and k[0] != "_"}
    simple = (bool, int, float, str, tuple, list, torch.dtype)
    values = [(k, repr(v)) for k, v in own.items() if isinstance(v, simple)]
    functions = [(k, v.__qualname__) for k, v in own.items() if hasattr(v, "__qualname__")]
    tensors = {**node.module._parameters, **node.module._buffers}.items()
    return (*seen, values, functions, [(k, t.shape, t.dtype) for k, t in tensors if t is not None])


def _row(node: Node, lang: str, observed: bool) -> Row:
    old = older_paths(node.role, node.path) if node.role and node.path else ()
    if node.call and node.call[1] == len(old):
        old = old[node.call[0] - 1 : node.call[0]]  # where each call had a module of its own
    has_tensors = any(below.kind == "parameter" or below.params for below in node.walk())
    words = WORDS[lang]
    inert, brief, text = _words(node, lang, observed)
    equation = node.role.equation if node.role else ""
    return Row(
        path=node.path,
        label=node.name,
        depth=0,
        kind=node.kind,
        class_name=node.class_name,
        role=node.key or None,
        part=node.role.part if node.role else "",
        brief=brief,
        text=text,
        equation=equation and words["equation_number"].format(equation.replace(", ", words["list"])),
        tutorial_paths=old if node.kind != "step" else (),
        checkpoint_key=(*old, node.path)[0] or None if has_tensors and len(old) < 2 else None,
        in_shape=node.in_shape,
        out_shape=node.out_shape,
        params=node.params,
        params_total=total_params(node),
        cost=node.cost,
        cost_total=total_cost(node),
        inert=inert,
        calls=len(node.calls or ()) if observed and node.kind == "module" else None,
        call=node.call,
    )


def _words(node: Node, lang: str, observed: bool) -> tuple[bool, str, str]:
    """Whether it is inert, and its explanation, with what is true of this one module."""
    brief, text = TEXTS[lang][node.key or "unknown"]
    words = WORDS[lang]
    if node.same_as:
        text += words["join"] + words["same_as"].format(node.same_as)
    elif observed and node.kind == "module" and not node.calls and not node.children:
        text += words["join"] + words["never_called"]
    p = getattr(node.module, "p", None)
    if node.role and node.class_name == "Identity":
        return True, words["identity"], words["identity_text"]
    if node.role and node.class_name == "Dropout" and isinstance(p, int | float):
        brief, here = ("inert", "inert_text") if p == 0 else ("dropout", "dropout_text")
        return p == 0, words[brief].format(p=p), text + words["join"] + words[here].format(p=p)
    return False, brief, text


def total_params(node: Node) -> int:
    """Parameters of the node and all below."""
    return sum(below.params for below in node.walk())


def total_cost(node: Node) -> Cost:
    """Cost of the node and all below, as far as it is known."""
    return sum((below.cost for below in node.walk() if below.cost is not None), FREE)
