"""A model's modules as a tree of nodes with roles, shapes and costs, and the steps that never print.

Leaves out: running the model (``measure``), folding and wording (``rows``), drawing (``render``).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from ..roles import FLOW, find_role
from .measure import FREE, Call, Cost, Shape, measure


@dataclass
class Node:
    """A module, a parameter that a container holds itself, or a step that never prints."""

    path: str
    name: str
    kind: str  #: "module", "parameter" or "step"
    class_name: str
    role: str | None  #: None: unknown
    module: nn.Module | None = None
    params: int = 0  #: its own, without those of the nodes below
    in_shape: Shape | None = None
    out_shape: Shape | None = None
    calls: list[Call] | None = None  #: what it costs; None: not known
    call: tuple[int, int] | None = None  #: (2, 2): the second of two calls
    same_as: str = ""  #: the path under which the same module has been seen before
    children: list[Node] = field(default_factory=list)

    def walk(self) -> Iterator[Node]:
        """This node and all below, parents first."""
        yield self
        for child in self.children:
            yield from child.walk()

    def by_role(self) -> dict[str | None, Node]:
        """The first node below that has each role."""
        return {node.role: node for node in reversed(list(self.walk()))}

    @property
    def cost(self) -> Cost | None:
        """Its own, without those of the nodes below. None: it has weights, and no cost of them is known."""
        if any(child.role == "attention_core" for child in self.children):
            return FREE  # the step has it
        total = sum((call.cost for call in self.calls or ()), FREE)
        weighs = self.module is not None and not self.children and any(True for _ in self.module.parameters())
        return None if weighs and total == FREE and self.calls != [] else total


def build_tree(model: nn.Module, order: str = "module") -> Node:
    """The tree, with its parts in the ``order`` of declaration or of execution.

    In the order of execution a module without parts stands there once per call; what is never called comes
    last. A model that cannot be run without numbers, such as a quantised one, has neither shapes nor costs,
    and the order of its declaration.
    """
    configs = (getattr(module, "config", None) for module in model.modules())
    config: Any = next((config for config in configs if hasattr(config, "image_size")), None)
    calls: dict[str, list[Call]] = {}
    if config:
        sides = (config.image_size,) * 2 if isinstance(config.image_size, int) else config.image_size
        for call in measure(model, (1, getattr(config, "num_channels", 3), *sides)):
            calls.setdefault(call.path, []).append(call)
    counted: set[int] = set()  # parameters
    paths: dict[int, str] = {}  # of modules

    def weigh(parameters: list[nn.Parameter]) -> int:
        fresh = {id(p): p.numel() for p in parameters if id(p) not in counted}
        counted.update(fresh)
        return sum(fresh.values())

    def visit(module: nn.Module, path: str, name: str, parent_known: bool) -> Node:
        role = _role(module, path, parent_known)
        node = Node(path, name, "module", type(module).__name__, role, module)
        first = paths.setdefault(id(module), path)
        node.same_as = "" if first == path else first
        if calls:
            node.calls = calls.get(path, [])
        if node.calls:
            node.in_shape, node.out_shape = node.calls[0].in_shape, node.calls[0].out_shape
        # not named_children(), which leaves out a module that is there twice
        below = [(key, child) for key, child in module._modules.items() if child is not None]
        if not below:
            node.params = weigh(list(module.parameters(recurse=False)))
            return node
        # a container of a ViT's parts, by whatever name, but not any model that has a "classifier"
        known = role is not None or (not path and any(_role(child, key, False) for key, child in below))
        prefix = f"{path}." if path else ""
        others = []
        for key, parameter in module.named_parameters(recurse=False):
            found = find_role(prefix + key, None, known)
            part = Node(prefix + key, key, "parameter", "Parameter", found.key if found else None)
            part.params = weigh([parameter])
            others.append(part)
        parts = [visit(child, prefix + key, key, known) for key, child in below]
        others += _steps(node, parts, others, getattr(config, "num_attention_heads", None))
        if order == "execution":
            parts = sorted((once for part in parts for once in _each_call(part)), key=_begins)
        for other in others:  # before the first part that comes after it in the flow of the data
            flow = FLOW[other.role] if other.role else -1
            later = (i for i, part in enumerate(parts) if part.role and FLOW[part.role] > flow)
            parts.insert(next(later, len(parts)) if other.role else 0, other)
        node.children = parts
        return node

    return visit(model, "", type(model).__name__, True)


def layer_index(path: str) -> int | None:
    """The number in ``vit.layers.3.mlp``."""
    return next((int(part) for part in path.split(".") if part.isdigit()), None)


def _role(module: nn.Module, path: str, parent_known: bool) -> str | None:
    """By its class, or by one that it is a subclass of."""
    names = [kind.__name__ for kind in type(module).__mro__ if kind not in (nn.Module, object)]
    return next((role.key for name in names if (role := find_role(path, name, parent_known))), None)


def _steps(node: Node, parts: list[Node], parameters: list[Node], heads: int | None) -> list[Node]:
    """The steps of a module that never print; and shapes for its own parameters."""
    of = {part.role: part for part in parts}

    def step(role: str, into: Shape | None, out: Shape | None, calls: list[Call] | None = None) -> Node:
        return Node(f"{node.path}[{role}]", role, "step", "", role, None, 0, into, out, calls)

    if "patch_embeddings" in of and (patches := of["patch_embeddings"].out_shape):
        tokens = (patches[0], patches[1] + 1, patches[2])  # CLS in front
        for part in parameters:
            part.in_shape = tokens if part.role == "position_embeddings" else patches
            part.out_shape = patches if part.role == "mask_token" else tokens
    if {"query", "key", "value"} <= of.keys():
        joined, split = of["query"].out_shape, None  # (1, N, A)
        if joined and heads:
            split = (joined[0], heads, joined[1], joined[2] // heads)
        return [step("split_heads", joined, split), step("attention_core", split, joined, node.calls)]
    if node.role == "layer":
        roles = ("residual_attention", "residual_mlp")
        return [step(role, node.in_shape, node.in_shape) for role in roles]
    if {"backbone", "classifier"} <= of.keys():
        return [step("take_cls", of["backbone"].out_shape, of["classifier"].in_shape)]
    return []


def _each_call(node: Node) -> list[Node]:
    """A module without parts, once per call."""
    if node.children or node.calls is None or len(node.calls) < 2:
        return [node]
    once = [replace(node, calls=[c], in_shape=c.in_shape, out_shape=c.out_shape) for c in node.calls]
    for number, part in enumerate(once, start=1):
        part.call = (number, len(once))
        part.params = node.params if number == 1 else 0
    return once


def _begins(node: Node) -> float:
    """When it, or the first of its parts, is called."""
    return min((call.place for part in node.walk() for call in part.calls or ()), default=math.inf)
