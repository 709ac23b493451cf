"""The rows of a model's structure, from its tree: explained, and with equal layers folded.

Leaves out: the tree itself (``module_tree``), the table around the rows (``structure``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from ..roles import TEXTS, other_names
from .costs import FREE, Cost
from .module_tree import Node
from .words import WORDS

_NOT_SETTINGS = ("training", "layer_idx")


@dataclass(frozen=True)
class Row:
    """One line of the table. Numbers are for one of the ``repeat`` equal modules that it stands for."""

    path: str  #: as installed; of the first, where it stands for several
    label: str
    depth: int
    kind: str  #: "module", "parameter" or "step" (one that never prints)
    class_name: str  #: empty for a step
    role: str | None  #: None: unknown
    brief: str  #: what it does, in a few words
    text: str  #: what it does and what it is for, in a sentence
    equation: str  #: in Dosovitskiy et al. 2021; empty where it has none
    tutorial_paths: tuple[str, ...]  #: its path, or paths, in transformers ≤ 5.8
    checkpoint_key: str | None  #: what its tensors' names start with on disk; None where it has none
    in_shape: tuple[int, ...] | None
    out_shape: tuple[int, ...] | None
    params: int  #: counted in this row alone: the rows, each times ``repeat``, sum to the total
    params_total: int  #: with all rows below
    cost: Cost | None  #: of this row alone; None: it has weights, and no formula here knows it
    cost_total: Cost  #: with all rows below
    repeat: int = 1
    layers: tuple[int, int] | None = None  #: first and last of the equal layers that are folded into it
    shown_path: str = ""  #: ``path`` with the folded layers as a range
    inert: bool = False  #: does nothing, such as dropout at p = 0
    calls: int | None = None  #: how often it runs in a forward pass; None: not known
    call: tuple[int, int] | None = None  #: in execution order, (2, 2): the second call of two

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
            shown = shown[: len(shown) - len(node.name)] + label
            row = replace(row, label=label, layers=(int(node.name), int(last.name)))
        row = replace(row, depth=level, repeat=repeat * len(nodes), shown_path=shown)
        if level >= depth and node.children:
            row = replace(row, params=row.params_total, cost=row.cost_total)
        yield row
        for group in _groups(node.children, all_layers) if level < depth else []:
            yield from visit(group, level + 1, row.repeat, shown + group[0].path[len(node.path) :])

    yield from visit([root], 0, 1, root.path)


def _groups(nodes: list[Node], all_layers: bool) -> list[list[Node]]:
    """Runs of neighbours in a list that are equal in everything but their name and weights."""
    groups: list[list[Node]] = []
    previous: object = None
    for node in nodes:
        signature = None if all_layers or not node.name.isdigit() else _signature(node)
        if signature is not None and signature == previous:
            groups[-1].append(node)
        else:
            groups.append([node])
        previous = signature
    return groups


def _signature(node: Node) -> tuple[Any, ...]:
    settings: tuple[Any, ...] = ()
    tensors: tuple[Any, ...] = ()
    if node.module is not None:
        values = ((k, _plain(v)) for k, v in vars(node.module).items() if not k.startswith("_"))
        settings = tuple(sorted((k, v) for k, v in values if v is not None and k not in _NOT_SETTINGS))
        own = {**node.module._parameters, **node.module._buffers}
        tensors = tuple((k, tuple(t.shape), str(t.dtype)) for k, t in own.items() if t is not None)
    kind = type(node.module).__qualname__ if node.module is not None else node.kind
    below = tuple((child.name, _signature(child)) for child in node.children)
    seen = (node.in_shape, node.out_shape, node.params, len(node.calls))
    return kind, node.role and node.role.key, seen, settings, tensors, below


def _plain(value: Any) -> str | None:
    """A setting as text that can be compared; None for what is not a setting."""
    if isinstance(value, bool | int | float | str | tuple | list | torch.dtype):
        return repr(value)
    return getattr(value, "__qualname__", None)


def _row(node: Node, lang: str, observed: bool) -> Row:
    old = other_names(node.role, node.path)[0] if node.role and node.path else ()
    if node.call and node.call[1] == len(old):
        old = old[node.call[0] - 1 : node.call[0]]  # where each call had a module of its own
    key = None
    if node.kind != "step" and _has_tensors(node) and len(old) < 2:
        key = (old[0] if old else node.path) or None
    inert, brief, text = _words(node, lang, observed)
    return Row(
        path=node.path,
        label=node.name,
        depth=0,
        kind=node.kind,
        class_name=node.class_name,
        role=node.role.key if node.role else None,
        brief=brief,
        text=text,
        equation=node.role.equation if node.role else "",
        tutorial_paths=old if node.kind != "step" else (),
        checkpoint_key=key,
        in_shape=node.in_shape,
        out_shape=node.out_shape,
        params=node.params,
        params_total=total_params(node),
        cost=node.cost,
        cost_total=total_cost(node),
        inert=inert,
        calls=len(node.calls) if observed and node.kind == "module" else None,
        call=node.call,
    )


def _has_tensors(node: Node) -> bool:
    return any(below.kind == "parameter" or below.params for below in node.walk())


def _words(node: Node, lang: str, observed: bool) -> tuple[bool, str, str]:
    """Whether it is inert, and its explanation, with what is true of this one module."""
    brief, text = TEXTS[lang][node.role.key if node.role else "unknown"]
    words = WORDS[lang]
    if node.same_as:
        text = f"{text} {words['same_as'].format(node.same_as)}"
    elif observed and node.kind == "module" and not node.calls and not node.children:
        text = f"{text} {words['never_called']}"
    if node.role is None:
        return False, brief, text
    p = getattr(node.module, "p", None)
    if node.class_name == "Dropout" and isinstance(p, int | float):
        inert = p == 0
        brief = words["inert"] if inert else words["dropout"].format(p=p)
        text = f"{text} {words['inert_text'] if inert else words['dropout_text'].format(p=p)}"
        return inert, brief, text
    if node.class_name == "Identity":
        return True, words["identity"], words["identity"]
    return False, brief, text


def total_params(node: Node) -> int:
    """Parameters of the node and all below."""
    return sum(below.params for below in node.walk())


def total_cost(node: Node) -> Cost:
    """Cost of the node and all below, as far as it is known."""
    return sum((below.cost for below in node.walk() if below.cost is not None), FREE)
