"""A model's modules as a tree of nodes with roles, shapes and costs, and the steps that never print.

Leaves out: running the model (``measure``), folding and wording (``rows``), drawing (``render``).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from ..roles import FLOW, ROLES, Role, find_role
from .measure import FREE, Call, Cost, Shape, measure


@dataclass
class Node:
    """A module, a parameter that a container holds itself, or a step that never prints."""

    path: str
    name: str
    kind: str  #: "module", "parameter" or "step"
    class_name: str
    role: Role | None
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

    def by_role(self) -> dict[str, Node]:
        """The first node below that has each role."""
        return {node.role.key: node for node in reversed(list(self.walk())) if node.role}

    @property
    def key(self) -> str:
        """Of its role; empty: unknown."""
        return self.role.key if self.role else ""

    @property
    def cost(self) -> Cost | None:
        """Its own, without those of the nodes below. None: it has weights, and no cost of them is known."""
        if any(child.key == "attention_core" for child in self.children):
            return FREE  # the step has it
        total = sum((call.own_cost for call in self.calls or ()), FREE)
        weighs = self.module is not None and not self.children and any(True for _ in self.module.parameters())
        return None if weighs and total == FREE and self.calls != [] else total


def build_tree(model: nn.Module, borrow: bool = True) -> tuple[Node, Call | None]:
    """The tree as declared, and the forward pass (None where none could be run).

    ``borrow``: a ViT that cannot be run on the meta device, such as a quantised one, has the shapes and costs
    of the one that its config makes.
    """
    root = _declared(model)
    configs = (getattr(module, "config", None) for module in model.modules())
    config = next((config for config in configs if hasattr(config, "image_size")), None)
    sides = getattr(config, "image_size", ())
    sides = (sides, sides) if isinstance(sides, int) else sides
    ran = measure(model, (1, getattr(config, "num_channels", 3), *sides)) if config else None
    if ran:
        calls: dict[str, list[Call]] = {}
        for call in ran.finished():
            calls.setdefault(call.path, []).append(call)
        for node in root.walk():
            if node.kind == "module":
                node.calls = calls.get(node.path, [])
                if node.calls:
                    node.in_shape, node.out_shape = node.calls[0].in_shape, node.calls[0].out_shape
    for node in list(root.walk()):
        _add_steps(node, getattr(config, "num_attention_heads", None))
    if not ran and borrow and type(config).__name__ == "ViTConfig":
        same, could = build_tree(empty_model(config), borrow=False)
        parts = {(node.key, layer_index(node.path)): node for node in same.walk() if could and node.role}
        for node in root.walk():
            if part := parts.get((node.key, layer_index(node.path))):
                node.in_shape, node.out_shape = part.in_shape, part.out_shape
                node.calls = None if part.children else part.calls
    return root, ran


def empty_model(config: Any) -> nn.Module:
    """The ViT of a config on the meta device: with a classifier, unless its ``architectures`` lack one."""
    import torch
    from transformers import ViTForImageClassification, ViTModel

    with torch.device("meta"):
        if config.architectures and "ViTForImageClassification" not in config.architectures:
            return ViTModel(config, add_pooling_layer=False).eval()  # type: ignore[no-any-return]
        return ViTForImageClassification(config).eval()  # type: ignore[no-any-return]


def layer_index(path: str) -> int | None:
    """The number in ``vit.layers.3.mlp``."""
    return next((int(part) for part in path.split(".") if part.isdigit()), None)


def _declared(model: nn.Module) -> Node:
    counted: set[int] = set()
    paths: dict[int, str] = {}

    def weigh(parameters: list[nn.Parameter]) -> int:
        fresh = {id(p): p.numel() for p in parameters if id(p) not in counted}
        counted.update(fresh)
        return sum(fresh.values())

    def visit(module: nn.Module, path: str, name: str, parent_known: bool) -> Node:
        role = _role(module, path, parent_known)
        node = Node(path, name, "module", type(module).__name__, role, module)
        first = paths.setdefault(id(module), path)
        node.same_as = "" if first == path else first
        # not named_children(), which leaves out a module that is there twice
        below = [(key, child) for key, child in module._modules.items() if child is not None]
        if not below:
            node.params = weigh(list(module.parameters(recurse=False)))
            return node
        # a container of a ViT's parts, by whatever name, but not any model that has a "classifier"
        known = role is not None or (not path and any(_role(child, key, False) for key, child in below))
        prefix = f"{path}." if path else ""
        for key, parameter in module.named_parameters(recurse=False):
            role = find_role(prefix + key, None, known)
            part = Node(prefix + key, key, "parameter", "Parameter", role, params=weigh([parameter]))
            node.children.append(part)
        node.children += [visit(child, prefix + key, key, known) for key, child in below]
        return node

    return visit(model, "", type(model).__name__, True)


def _role(module: nn.Module, path: str, parent_known: bool) -> Role | None:
    """By its class, or by one that it is a subclass of."""
    names = [kind.__name__ for kind in type(module).__mro__ if kind not in (nn.Module, object)]
    return next((role for name in names if (role := find_role(path, name, parent_known))), None)


def _add_steps(node: Node, heads: int | None) -> None:
    """Puts the steps that never print among the node's children, with their shapes."""
    parts = {child.key: child for child in node.children}

    def step(key: str, into: Shape | None, out: Shape | None, calls: list[Call] | None = None) -> Node:
        return Node(f"{node.path}[{key}]", key, "step", "", ROLES[key], None, 0, into, out, calls)

    steps = [child for child in node.children if child.kind == "parameter"]
    if "patch_embeddings" in parts and (patches := parts["patch_embeddings"].out_shape):
        tokens = (patches[0], patches[1] + 1, patches[2])  # CLS in front
        for part in steps:
            part.in_shape = tokens if part.key == "position_embeddings" else patches
            part.out_shape = patches if part.key == "mask_token" else tokens
    if {"query", "key", "value"} <= parts.keys():
        joined, split = parts["query"].out_shape, None  # (1, N, A)
        if joined and (heads := getattr(node.module, "num_attention_heads", heads)):
            split = (joined[0], heads, joined[1], joined[2] // heads)
        steps += [step("split_heads", joined, split), step("attention_core", split, joined, node.calls)]
    if node.key == "layer":
        steps += [step(key, node.in_shape, node.in_shape) for key in ("residual_attention", "residual_mlp")]
    if node.key == "model" and {"backbone", "classifier"} <= parts.keys():
        steps.append(step("take_cls", parts["backbone"].out_shape, parts["classifier"].in_shape))
    node.children = _placed([child for child in node.children if child.kind == "module"], steps)


def _placed(modules: list[Node], steps: list[Node]) -> list[Node]:
    """Steps and parameters before the first module that comes after them in the flow of the data."""
    rows = list(modules)
    for step in steps:
        later = (i for i, row in enumerate(rows) if row.role and step.role and FLOW[row.key] > FLOW[step.key])
        rows.insert(next(later, len(rows)) if step.role else 0, step)
    return rows


def in_flow_order(root: Node, ran: Call | None) -> Node:
    """The same tree with each module's parts in the order in which they are called, once per call.

    Parents stand before their parts (the order of forward pre-hooks), parts without parts in the order of
    forward hooks. What is never called comes last. Not run: in the order of ``roles``.
    """
    if ran:
        return _as_called(root, ran.inside, first=True)
    parts = sorted(root.children, key=lambda part: FLOW.get(part.key, len(FLOW)))
    return replace(root, children=[in_flow_order(part, None) for part in parts])


def _as_called(node: Node, inside: list[Call], first: bool) -> Node:
    """Its parts as in these calls, which it makes itself; the ``first`` time or again."""
    timed: list[tuple[float, Node]] = []
    steps = []
    for child in node.children:
        prefix = f"{child.path}."
        mine = [(i, call) for i, call in enumerate(inside) if f"{call.path}.".startswith(prefix)]
        own = [(i, call) for i, call in mine if call.path == child.path]
        if child.kind != "module":
            calls = node.calls if child.key == "attention_core" else child.calls
            steps.append(replace(child, params=child.params if first else 0, calls=calls))
        elif own:
            for number, (i, call) in enumerate(own, start=1):
                newly = child.calls is not None and call is child.calls[0]
                once = replace(child, calls=[call], in_shape=call.in_shape, out_shape=call.out_shape)
                once.params = child.params if newly else 0
                once.call = (number, len(own)) if len(own) > 1 else None
                timed.append((i, _as_called(once, call.inside, newly)))
        elif first or mine:  # a list stands where its first item is called; what is never called comes last
            parts = _as_called(child, [call for _, call in mine], first)
            timed.append((mine[0][0] if mine else math.inf, parts))
    modules = [child for _, child in sorted(timed, key=lambda pair: pair[0])]
    return replace(node, children=_placed(modules, steps))
