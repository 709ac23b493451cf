"""A model's modules, with the steps that never print, as rows: explained, measured, equal layers folded.

Leaves out: running the model (``measure``), the table around the rows (``render``).
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from itertools import groupby
from typing import Any

from torch import nn

from ..roles import FLOW, ROLES, TEXTS, find_role, older_paths
from .measure import FREE, Call, Cost, Shape, measure

WORDS: dict[str, dict[str, str]] = tomllib.loads(
    files(__package__).joinpath("words.toml").read_text(encoding="utf-8")
)


@dataclass(frozen=True)
class Row:
    """One line of the table. Numbers are for one of the ``repeat`` equal modules that it stands for."""

    path: str  #: as installed; of the first, where it stands for several
    label: str
    kind: str  #: "module", "parameter" or "step" (one that never prints)
    class_name: str  #: empty for a step
    role: str | None  #: None: unknown
    brief: str  #: what it does, in a few words
    text: str  #: what it does and what it is for, in a sentence or two
    inert: bool  #: does nothing, such as dropout at p = 0
    equation: str  #: in Dosovitskiy et al. 2021; empty where it has none
    tutorial_paths: tuple[str, ...]  #: its path, or paths, in transformers ≤ 5.8
    checkpoint_key: str | None  #: what its tensors' names start with on disk; None where it has none
    in_shape: Shape | None
    out_shape: Shape | None
    call: tuple[int, int] | None  #: in execution order, (2, 2): the second call of two
    params: int  #: counted in this row alone: the rows, each times ``repeat``, sum to the total
    params_total: int  #: with all rows below
    cost: Cost | None  #: of this row alone; None: it has weights, and no cost of them is known
    cost_total: Cost  #: with all rows below
    depth: int = 0
    repeat: int = 1
    layers: tuple[int, int] | None = None  #: first and last of the equal layers that are folded into it
    shown_path: str = ""  #: ``path`` with those layers as a range
    opens: bool = False  #: rows below it are shown

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


@dataclass
class Node:
    """A row with its module, where it has one, and those below."""

    row: Row
    module: Any
    children: list[Node]
    begins: float  #: when it, or the first of its parts, is called

    def walk(self) -> Iterator[Node]:
        """This node and all below, parents first."""
        yield self
        for child in self.children:
            yield from child.walk()

    def by_role(self) -> dict[str | None, Node]:
        """The first node below that has each role."""
        return {node.row.role: node for node in reversed(list(self.walk()))}


class Tree:
    """A model's nodes below ``root``, with its parts in the ``order`` of declaration or of execution.

    In the order of execution a module without parts stands there once per call; what is never called comes
    last. A model that cannot be run without numbers, such as a quantised one, has neither shapes nor costs,
    and the order of its declaration.
    """

    def __init__(self, model: nn.Module, lang: str, order: str) -> None:
        configs = (getattr(module, "config", None) for module in model.modules())
        config: Any = next((config for config in configs if hasattr(config, "image_size")), None)
        self._lang, self._by_call = lang, order == "execution"
        self._heads = getattr(config, "num_attention_heads", None)
        self._calls: dict[str, list[Call]] = {}
        if config:
            sides = (config.image_size,) * 2 if isinstance(config.image_size, int) else config.image_size
            for call in measure(model, (1, getattr(config, "num_channels", 3), *sides)):
                self._calls.setdefault(call.path, []).append(call)
        self._counted: set[int] = set()  # parameters
        self._paths: dict[int, str] = {}  # where each module is first
        (self.root,) = self._module(model, "", True)

    def _module(self, module: nn.Module, path: str, parent_known: bool) -> list[Node]:
        """Its node; its nodes, where each call has one."""
        role = _role(module, path, parent_known)
        calls = self._calls.get(path, []) if self._calls else None
        shapes = (calls[0].in_shape, calls[0].out_shape) if calls else (None, None)
        # not named_children(), which leaves out a module that is there twice
        below = [(key, child) for key, child in module._modules.items() if child is not None]
        if not below:
            count, nodes = max(len(calls or ()), 1) if self._by_call else 1, []
            for number in range(count):
                mine = calls[number : number + 1] if calls and count > 1 else calls
                weight = self._weigh(module.parameters(recurse=False))
                call = (number + 1, count) if count > 1 else None
                nodes.append(self._node(path, role, shapes, mine, weight, module, call=call))
            return nodes
        # a container of a ViT's parts, by whatever name, but not any model that has a "classifier"
        known = role is not None or (not path and any(_role(child, key, False) for key, child in below))
        prefix = f"{path}." if path else ""
        parts = [part for key, child in below for part in self._module(child, prefix + key, known)]
        others = self._parameters(module, prefix, known, parts)
        others += self._steps(path, role, shapes, calls, parts)
        if self._by_call:
            parts.sort(key=lambda part: part.begins)
        for other in others:  # before the first part that comes after it in the flow of the data
            flow = FLOW.get(other.row.role or "", -1)
            later = (i for i, part in enumerate(parts) if part.row.role and FLOW[part.row.role] > flow)
            parts.insert(next(later, len(parts)) if other.row.role else 0, other)
        if any(other.row.role == "attention_core" for other in others):
            calls = []  # the step has its cost
        return [self._node(path, role, shapes, calls, 0, module, parts)]

    def _parameters(self, module: nn.Module, prefix: str, known: bool, parts: list[Node]) -> list[Node]:
        """What a module with parts holds itself."""
        patches = next((part.row.out_shape for part in parts if part.row.role == "patch_embeddings"), None)
        tokens = patches and (patches[0], patches[1] + 1, patches[2])  # CLS in front
        nodes = []
        for key, parameter in module.named_parameters(recurse=False):
            found = find_role(prefix + key, None, known)
            into = tokens if key == "position_embeddings" else patches
            out = patches if key == "mask_token" else tokens
            weight = self._weigh([parameter])
            role = found.key if found else None
            nodes.append(self._node(prefix + key, role, (into, out), None, weight, parameter))
        return nodes

    def _steps(
        self, path: str, role: str | None, shapes: Any, calls: list[Call] | None, parts: list[Node]
    ) -> list[Node]:
        """The steps of a module that never print."""
        of = {part.row.role: part.row for part in parts}

        def step(key: str, into: Shape | None, out: Shape | None, cost: list[Call] | None = None) -> Node:
            return self._node(f"{path}[{key}]", key, (into, out), cost)

        if {"query", "key", "value"} <= of.keys():
            joined, split = of["query"].out_shape, None  # (1, N, A)
            if joined and self._heads:
                split = (joined[0], self._heads, joined[1], joined[2] // self._heads)
            return [step("split_heads", joined, split), step("attention_core", split, joined, calls)]
        if role == "layer":
            return [step(key, shapes[0], shapes[0]) for key in ("residual_attention", "residual_mlp")]
        if {"backbone", "classifier"} <= of.keys():
            return [step("take_cls", of["backbone"].out_shape, of["classifier"].in_shape)]
        return []

    def _weigh(self, parameters: Any) -> int:
        """The values in those that have not been counted yet."""
        fresh = {id(p): p.numel() for p in parameters if id(p) not in self._counted}
        self._counted.update(fresh)
        return sum(fresh.values())

    def _node(
        self,
        path: str,
        role: str | None,
        shapes: tuple[Shape | None, Shape | None],
        calls: list[Call] | None,
        params: int = 0,
        module: Any = None,
        children: Sequence[Node] = (),
        call: tuple[int, int] | None = None,
    ) -> Node:
        kind, label = "step", role or ""
        if module is not None:
            kind = "module" if isinstance(module, nn.Module) else "parameter"
            label = path.rpartition(".")[2] or type(module).__name__
        cost = sum((call.cost for call in calls or ()), FREE)
        weighs = kind == "module" and not children and any(True for _ in module.parameters())
        old = older_paths(ROLES[role], path) if role and path else ()
        if call and call[1] == len(old):
            old = old[call[0] - 1 : call[0]]  # where each call had a module of its own
        equation = ROLES[role].equation if role else ""
        words = WORDS[self._lang]
        total = params + sum(child.row.params_total for child in children)
        brief, text, inert = _explained(self._lang, role, module)
        first = self._paths.setdefault(id(module), path) if kind == "module" else path
        if first != path:
            text += words["join"] + words["same_as"].format(first)
        elif kind == "module" and calls == [] and not children:
            text += words["join"] + words["never_called"]
        row = Row(
            path=path,
            label=label,
            kind=kind,
            class_name=type(module).__name__ if module is not None else "",
            role=role,
            brief=brief,
            text=text,
            inert=inert,
            equation=equation and words["equation_number"].format(equation.replace(", ", words["list"])),
            tutorial_paths=old if kind != "step" else (),
            checkpoint_key=(*old, path)[0] or None if total and len(old) < 2 else None,
            in_shape=shapes[0],
            out_shape=shapes[1],
            call=call,
            params=params,
            params_total=total,
            cost=None if weighs and cost == FREE and calls != [] else cost,
            cost_total=sum((child.row.cost_total for child in children), cost),
        )
        begins = [call.place for call in calls or ()] + [child.begins for child in children]
        return Node(row, module, list(children), min(begins, default=math.inf))


def layer_index(path: str) -> int | None:
    """The number in ``vit.layers.3.mlp``."""
    return next((int(part) for part in path.split(".") if part.isdigit()), None)


def _role(module: nn.Module, path: str, parent_known: bool) -> str | None:
    """By its class, or by one that it is a subclass of."""
    names = [kind.__name__ for kind in type(module).__mro__ if kind not in (nn.Module, object)]
    return next((role.key for name in names if (role := find_role(path, name, parent_known))), None)


def _explained(lang: str, role: str | None, module: Any) -> tuple[str, str, bool]:
    """In a few words, in a sentence, and whether it is inert."""
    brief, text = TEXTS[lang][role or "unknown"]
    words, p = WORDS[lang], getattr(module, "p", None)
    if role and isinstance(module, nn.Identity):
        return words["identity"], words["identity_text"], True
    if role and isinstance(module, nn.Dropout):
        key = "inert" if p == 0 else "dropout"
        return words[key].format(p=p), text + words["join"] + words[f"{key}_text"].format(p=p), p == 0
    return brief, text, False


def flat(root: Node, all_layers: bool, depth: float) -> Iterator[Row]:
    """The rows, parents first, down to ``depth``; equal layers side by side are one row."""

    def visit(nodes: list[Node], level: int, repeat: int, shown: str) -> Iterator[Row]:
        row, last, repeat = nodes[0].row, nodes[-1].row, repeat * len(nodes)
        below = nodes[0].children if level < depth else []
        if row is not last:
            label = f"{row.label}–{last.label}"
            shown = shown.removesuffix(row.label) + label
            row = replace(row, label=label, layers=(int(row.label), int(last.label)))
        if nodes[0].children and not below:
            row = replace(row, params=row.params_total, cost=row.cost_total)
        yield replace(row, depth=level, repeat=repeat, shown_path=shown, opens=bool(below))
        for _, same in groupby(below, key=id if all_layers else _fold_key):
            equal = list(same)
            yield from visit(equal, level + 1, repeat, shown + equal[0].row.path[len(row.path) :])

    return visit([root], 0, 1, root.row.path)


def _fold_key(node: Node) -> object:
    """Equal for items of a list that are equal in everything but their number and their weights."""
    if not isinstance(node.module, nn.Module) or not node.row.label.isdigit():
        return id(node)
    settings = [
        (key, value)
        for module in node.module.modules()
        for key, value in vars(module).items()
        if isinstance(value, bool | int | float | str | tuple)
        if key[0] != "_" and key not in ("training", "layer_idx")
    ]
    parts = [(part.row.in_shape, part.row.out_shape, part.row.params, part.row.cost) for part in node.walk()]
    return repr(node.module), settings, parts
