"""A model's modules, with the steps that never print, as rows: explained, measured, equal layers folded.

Leaves out: running the model (``measure``), the table around the rows (``render``).
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from itertools import groupby, pairwise
from operator import attrgetter
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
    depth: int
    shown_path: str  #: ``path``, with the layers that are folded into it as a range
    layers: tuple[int, int] | None = None  #: the first and the last of them
    repeat: int = 1

    @property
    def name(self) -> str:
        """Its own name (of a list's item with the list's), or what the step is called."""
        if self.kind != "module":
            return WORDS["steps"].get(self.role or "", self.label)
        name = ".".join(self.shown_path.split(".")[-2:]) if self.label[:1].isdigit() else self.label
        return f"{name} × {self.layers[1] - self.layers[0] + 1}" if self.layers else name


class Reader:
    """Makes the ``rows`` of a model, parents first: every module, and what print(model) does not show.

    In the order of execution a module without parts has one row for each call; what is never called comes
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
            self._calls = measure(model, (1, getattr(config, "num_channels", 3), *sides))
        self._seen: dict[int, str] = {}  # where each module and each parameter is first
        (self.rows,) = self._module(model, "", 0, True)

    def _module(self, module: nn.Module, path: str, depth: int, parent_known: bool) -> list[list[Row]]:
        """Its row and those below it; one such list for each call that has a row of its own."""
        role = _role(module, path, parent_known)
        calls = self._calls.get(path, []) if self._calls else None
        children = _children(module)
        if not children:
            each = [[call] for call in calls] if self._by_call and calls else [calls]
            return [
                [self._row(path, role, module, mine, depth, call=(number, len(each)))]
                for number, mine in enumerate(each, start=1)
            ]
        row = self._row(path, role, module, calls, depth)
        # a container of a ViT's parts, by whatever name, but not any model that has a "classifier"
        known = role is not None or (not path and any(_role(child, key, False) for key, child in children))
        prefix = f"{path}." if path else ""
        made = [self._module(child, prefix + key, depth + 1, known) for key, child in children]
        parts = [part for parts in made for part in parts]
        hidden = list(self._hidden(module, row, {part[0].role: part[0] for part in parts}))
        if self._by_call:
            parts.sort(key=self._begins)
        for other in hidden:  # before the first part that comes after it in the flow of the data
            flow = FLOW.get(other.role or "", -1)
            later = (i for i, (part, *_) in enumerate(parts) if part.role and FLOW[part.role] > flow)
            parts.insert(next(later, len(parts)) if other.role else 0, [other])
        below = [row for part in parts for row in part]
        own = FREE if any(other.role == "attention_core" for other in hidden) else row.cost or FREE
        total = sum((row.cost for row in below if row.cost), own)
        return [[replace(row, cost=own, cost_total=total), *below]]

    def _begins(self, rows: list[Row]) -> float:
        """When the first of them is called."""
        calls = [self._calls.get(row.path, [])[row.call[0] - 1 if row.call else 0 :] for row in rows]
        return min((mine[0].place for mine in calls if mine), default=math.inf)

    def _hidden(self, module: nn.Module, row: Row, of: dict[str | None, Row]) -> Iterator[Row]:
        """What never prints of a module, from the rows ``of`` its parts: its own parameters, and steps."""
        patches = of["patch_embeddings"].out_shape if "patch_embeddings" in of else None
        tokens = patches and (patches[0], patches[1] + 1, patches[2])  # CLS in front
        for key, parameter in module.named_parameters(recurse=False):
            path = f"{row.path}.{key}" if row.path else key
            role = find_role(path, None, row.role is not None)
            into = tokens if key == "position_embeddings" else patches
            call = Call(into, patches if key == "mask_token" else tokens)
            yield self._row(path, role.key if role else None, parameter, [call], row.depth + 1)
        steps = {}
        if {"query", "key", "value"} <= of.keys():
            joined, split = of["query"].out_shape, None  # (1, N, A)
            if joined and self._heads:
                split = (joined[0], self._heads, joined[1], joined[2] // self._heads)
            core = Call(split, joined, row.cost or FREE)  # what the module itself computes
            steps = {"split_heads": Call(joined, split), "attention_core": core}
        elif row.role == "layer":
            steps = dict.fromkeys(("residual_attention", "residual_mlp"), Call(row.in_shape, row.in_shape))
        elif {"backbone", "classifier"} <= of.keys():
            steps = {"take_cls": Call(of["backbone"].out_shape, of["classifier"].in_shape)}
        for key, call in steps.items():
            yield self._row(f"{row.path}[{key}]", key, None, [call], row.depth + 1)

    def _row(
        self,
        path: str,
        role: str | None,
        module: Any,
        calls: list[Call] | None,
        depth: int,
        call: tuple[int, int] = (1, 1),
    ) -> Row:
        """``module`` may be a parameter, or None for a step; ``calls`` None: the model cannot be run."""
        words, name = WORDS[self._lang], "" if module is None else type(module).__name__
        kind = "step" if module is None else "module" if isinstance(module, nn.Module) else "parameter"
        leaf = kind != "module" or not _children(module)
        weights = list(module.parameters()) if kind == "module" else [module] if kind == "parameter" else []
        fresh = {id(weight): weight.numel() for weight in weights if id(weight) not in self._seen}
        if leaf:
            self._seen |= dict.fromkeys(fresh, path)
        cost = sum((call.cost for call in calls or ()), FREE)
        old = older_paths(ROLES[role], path) if role and path and kind != "step" else ()
        if call[1] == len(old):
            old = old[call[0] - 1 : call[0]]  # where each call had a module of its own
        brief, text, inert = _explained(self._lang, role, module)
        first = self._seen.setdefault(id(module), path) if kind == "module" else path
        if first != path:
            text += words["join"] + words["same_as"].format(first)
        elif kind == "module" and calls == [] and leaf:
            text += words["join"] + words["never_called"]
        equation = ROLES[role].equation.replace(", ", words["list"]) if role else ""
        return Row(
            path=path,
            label=role or "" if module is None else path.rpartition(".")[2] or name,
            kind=kind,
            class_name=name,
            role=role,
            brief=brief,
            text=text,
            inert=inert,
            equation=equation and words["equation_number"].format(equation),
            tutorial_paths=old,
            checkpoint_key=(*old, path)[0] or None if fresh and len(old) < 2 else None,
            in_shape=calls[0].in_shape if calls else None,
            out_shape=calls[0].out_shape if calls else None,
            call=call if call[1] > 1 else None,
            params=sum(fresh.values()) if leaf else 0,
            params_total=sum(fresh.values()),
            cost=None if kind == "module" and leaf and weights and cost == FREE and calls != [] else cost,
            cost_total=cost,
            depth=depth,
            shown_path=path,
        )


def _children(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """Not ``named_children()``, which leaves out a module that is there twice."""
    return [(key, child) for key, child in module._modules.items() if child is not None]


def _role(module: nn.Module, path: str, parent_known: bool) -> str | None:
    """By its class, or by one that it is a subclass of."""
    names = [kind.__name__ for kind in type(module).__mro__ if kind not in (nn.Module, object)]
    return next((role.key for name in names if (role := find_role(path, name, parent_known))), None)


def _explained(lang: str, role: str | None, module: Any) -> tuple[str, str, bool]:
    """In a few words, in a sentence, and whether it is inert."""
    words, (brief, text) = WORDS[lang], TEXTS[lang][role or "unknown"]
    if role and isinstance(module, nn.Identity):
        return words["identity"], words["identity_text"], True
    if role and isinstance(module, nn.Dropout):
        key = "inert" if module.p == 0 else "dropout"
        note = words[f"{key}_text"].format(p=module.p)
        return words[key].format(p=module.p), text + words["join"] + note, module.p == 0
    return brief, text, False


def fold(model: nn.Module, rows: Sequence[Row]) -> Iterator[Row]:
    """The same rows, where equal layers side by side are one."""
    yield rows[0]
    starts = [place for place, row in enumerate(rows) if row.depth == rows[0].depth + 1]
    parts = [rows[start:end] for start, end in pairwise([*starts, len(rows)])]
    for _, equal in groupby(parts, lambda part: _fold_key(model, part)):
        part, *others = equal
        if others:
            first, last = part[0], others[-1][0]
            label = f"{first.label}–{last.label}"
            shown = first.shown_path.removesuffix(first.label) + label
            repeat = first.repeat * (1 + len(others))
            part = [
                replace(row, repeat=repeat, shown_path=shown + row.shown_path[len(first.shown_path) :])
                for row in part
            ]
            part[0] = replace(part[0], label=label, layers=(int(first.label), int(last.label)))
        yield from fold(model, part)


def _fold_key(model: nn.Module, rows: Sequence[Row]) -> object:
    """Equal for items of a list that differ in nothing but their number and their weights."""
    if rows[0].kind != "module" or not rows[0].label.isdigit():
        return id(rows)
    item = attrgetter(rows[0].path)(model)
    settings = [
        (key, value)
        for module in item.modules()
        for key, value in vars(module).items()
        if isinstance(value, bool | int | float | str | tuple)
        if key[0] != "_" and key not in ("training", "layer_idx")
    ]
    return repr(item), settings, [(row.in_shape, row.out_shape, row.params, row.cost) for row in rows]


def cut(rows: Sequence[Row], depth: int) -> Iterator[Row]:
    """Down to this depth; deeper rows are added to the row that they belong to."""
    for row in rows:
        if row.depth == depth:
            row = replace(row, params=row.params_total, cost=row.cost and row.cost_total)
        if row.depth <= depth:
            yield row
