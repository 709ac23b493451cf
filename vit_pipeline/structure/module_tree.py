"""A model's modules as a tree of nodes with their roles, shapes and costs, and the steps that never print.

Leaves out: the order of execution (``flow_order``), folding and wording (``structure_rows``), and drawing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from ..roles import BY_KEY, Role, find_role
from .costs import FREE, Cost, attention_cost, module_cost
from .observe import Call, Shape, observe

_QUERY_KEY_VALUE = {"query", "key", "value"}


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
    cost: Cost | None = FREE  #: its own; None: has weights, and no formula
    calls: list[Call] = field(default_factory=list)
    call: tuple[int, int] | None = None  #: (2, 2): the second of two calls
    per_call: Cost = FREE  #: of a step, in one call of the module around it
    same_as: str = ""  #: the path under which the same module has been seen before
    children: list[Node] = field(default_factory=list)

    def walk(self) -> Iterator[Node]:
        """This node and all below, parents first."""
        yield self
        for child in self.children:
            yield from child.walk()

    def child(self, *keys: str) -> Node | None:
        """The last child that has one of these roles."""
        return next((c for c in reversed(self.children) if c.role and c.role.key in keys), None)


def build_tree(model: nn.Module) -> tuple[Node, tuple[Call, ...] | None]:
    """The tree as declared, and every call of a forward pass (None where none could be run)."""
    root = _declared(model)
    input_shape = _input_shape(model, root)
    calls = observe(model, input_shape) if input_shape else None
    if calls is not None:
        by_path: dict[str, list[Call]] = {}
        for call in sorted(calls, key=lambda call: call.start):
            by_path.setdefault(call.path, []).append(call)
        for node in root.walk():
            node.calls = by_path.get(node.path, []) if node.kind == "module" else []
            if node.calls:
                node.in_shape, node.out_shape = node.calls[0].in_shape, node.calls[0].out_shape
    elif input_shape:
        _shapes_by_role(root, model, input_shape)
    for node in list(root.walk()):
        if node.kind == "module":
            node.children = _with_steps(node, model)
            if not node.module or not list(node.module.children()):
                node.cost = _leaf_cost(node, calls is not None)
    return root, calls


def _leaf_cost(node: Node, observed: bool) -> Cost | None:
    if node.module is None:
        return FREE
    calls = node.calls if observed else [Call(node.path, 0, 0, node.in_shape, node.out_shape)]
    total = FREE
    for call in calls:
        cost = module_cost(node.module, call.in_shape, call.out_shape)
        if cost is None:
            return None
        total += cost
    return total


def _declared(model: nn.Module) -> Node:
    seen: set[int] = set()
    paths: dict[int, str] = {}

    def own(module: nn.Module) -> int:
        fresh = [p for p in module.parameters(recurse=False) if id(p) not in seen]
        seen.update(id(p) for p in fresh)
        return sum(p.numel() for p in fresh)

    def visit(module: nn.Module, path: str, name: str, parent_known: bool) -> Node:
        role = _role(module, path, parent_known)
        node = Node(path, name, "module", type(module).__name__, role, module)
        node.same_as = paths.setdefault(id(module), path)
        node.same_as = "" if node.same_as == path else node.same_as
        # not named_children(), which leaves out a module that is there twice
        below = [(key, child) for key, child in module._modules.items() if child is not None]
        if not below:
            node.params = own(module)
        # a container of a ViT's parts, by whatever name, but not any model that has a "classifier"
        known = role is not None or (not path and any(_role(child, key, False) for key, child in below))
        for key, parameter in module.named_parameters(recurse=False) if below else ():
            where = f"{path}.{key}" if path else key
            fresh = id(parameter) not in seen
            seen.add(id(parameter))
            count = parameter.numel() if fresh else 0
            node.children.append(
                Node(where, key, "parameter", "Parameter", find_role(where, None, known), None, count)
            )
        for key, child in below:
            node.children.append(visit(child, f"{path}.{key}" if path else key, key, known))
        return node

    return visit(model, "", type(model).__name__, True)


def _role(module: nn.Module, path: str, parent_known: bool) -> Role | None:
    """By its class, or by one that it is a subclass of."""
    names = [kind.__name__ for kind in type(module).__mro__ if kind not in (nn.Module, object)]
    return next((role for name in names if (role := find_role(path, name, parent_known))), None)


def _with_steps(node: Node, model: nn.Module) -> list[Node]:
    """The node's children with the steps that never print between them, each at its place."""
    modules = [child for child in node.children if child.kind == "module"]
    steps = [child for child in node.children if child.kind != "module"]
    key = node.role.key if node.role else ""
    if key == "embeddings" and (patches := node.child("patch_embeddings")):
        for step in steps:
            _embed(step, patches.out_shape)
    if node.role and {child.role.key for child in modules if child.role} >= _QUERY_KEY_VALUE:
        steps += _attention_steps(node, model)
    if key == "layer":
        for name in ("residual_attention", "residual_mlp"):
            steps.append(_step(node, name, node.in_shape, node.in_shape))
    if key == "model" and (head := node.child("classifier")) and (vit := node.child("backbone")):
        steps.append(_step(node, "take_cls", vit.out_shape, head.in_shape))
    return place_steps(modules, steps)


def place_steps(modules: list[Node], steps: list[Node]) -> list[Node]:
    """Steps and parameters put where the forward pass has them, among modules in any order."""
    rows = list(modules)
    for step in steps:
        key = step.role.key if step.role else ""
        after, before = _PLACES.get(key, ((), ()))
        places = [i + 1 for i, row in enumerate(rows) if row.role and row.role.key in after]
        fences = [i for i, row in enumerate(rows) if row.role and row.role.key in before]
        at = max(places) if places else min(fences) if fences else len(rows) if key else 0
        rows.insert(at, step)
    return rows


# step → the rows it follows, the rows it precedes; in neither: last, an unknown parameter: first
_PLACES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "mask_token": (("patch_embeddings",), ()),
    "cls_token": (("patch_embeddings", "mask_token"), ()),
    "position_embeddings": (("cls_token", "patch_embeddings"), ()),
    "split_heads": (("query", "key", "value"), ()),
    "attention_core": (("split_heads",), ()),
    "residual_attention": ((), ("layernorm_after",)),
    "residual_mlp": ((), ()),
    "take_cls": ((), ("classifier",)),
}


def _step(parent: Node, key: str, in_shape: Shape | None, out_shape: Shape | None) -> Node:
    return Node(f"{parent.path}[{key}]", key, "step", "", BY_KEY[key], None, 0, in_shape, out_shape)


def _embed(step: Node, patches: Shape | None) -> None:
    if patches is None or step.role is None:
        return
    tokens = (patches[0], patches[1] + 1, patches[2])  # CLS in front
    step.in_shape = tokens if step.role.key == "position_embeddings" else patches
    step.out_shape = patches if step.role.key == "mask_token" else tokens


def _attention_steps(node: Node, model: nn.Module) -> list[Node]:
    query = node.child("query")
    heads = getattr(node.module, "num_attention_heads", None) or config_value(model, "num_attention_heads")
    joined = query.out_shape if query else None  # (1, N, A)
    if joined is None or not heads:
        return [_step(node, "split_heads", joined, None), _step(node, "attention_core", None, joined)]
    split = (joined[0], heads, joined[1], joined[2] // heads)  # (1, heads, N, A / heads)
    core = _step(node, "attention_core", split, joined)
    core.per_call = attention_cost(heads, joined[1], split[3])
    core.cost = core.per_call * max(len(node.calls), 1)
    return [_step(node, "split_heads", joined, split), core]


def config_value(model: nn.Module, name: str) -> Any:
    """A value of the model's config, None where it has no config or not this value."""
    return getattr(getattr(model, "config", None), name, None)


def _pair(value: Any) -> tuple[int, int] | None:
    if isinstance(value, int):
        return value, value
    return tuple(value) if isinstance(value, list | tuple) and len(value) == 2 else None


def _input_shape(model: nn.Module, root: Node) -> Shape | None:
    """(1, channels, height, width), from the config or else from the patch and position embeddings."""
    image = _pair(config_value(model, "image_size"))
    if image:
        return (1, config_value(model, "num_channels") or 3, *image)
    parts = {node.role.key: node for node in root.walk() if node.role}
    patch = getattr(parts["projection"].module, "weight", None) if "projection" in parts else None
    places = parts.get("position_embeddings")
    if patch is None or patch.ndim != 4 or places is None:
        return None
    rows = math.isqrt(max(places.params // patch.shape[0] - 1, 0))
    return (1, patch.shape[1], rows * patch.shape[2], rows * patch.shape[3]) if rows else None


def _shapes_by_role(root: Node, model: nn.Module, input_shape: Shape) -> None:
    """For a tree that cannot be run (a drawing of another version's): shapes from the roles' symbols."""
    parts = {node.role.key: node.module for node in reversed(list(root.walk())) if node.role and node.module}

    def features(key: str, name: str, config_name: str) -> int | None:
        value = getattr(parts.get(key), name, None) or config_value(model, config_name)
        return value if isinstance(value, int) else None

    kernel = _pair(getattr(parts.get("projection"), "kernel_size", None)) or _pair(
        config_value(model, "patch_size")
    )
    width = features("projection", "out_channels", "hidden_size")
    sizes: dict[str, int | None] = {
        "I": input_shape[1], "H": input_shape[2], "W": input_shape[3], "D": width,
        "A": features("query", "out_features", "hidden_size"),
        "M": features("fc1", "out_features", "intermediate_size"),
        "C": features("classifier", "out_features", "num_labels"),
    }  # fmt: skip
    if kernel:
        rows, columns = input_shape[2] // kernel[0], input_shape[3] // kernel[1]
        sizes |= {"G": rows, "K": columns, "P": rows * columns, "N": rows * columns + 1}
    for node in root.walk():
        if node.role and node.role.shapes and node.kind == "module":
            node.in_shape, node.out_shape = (
                _known([sizes.get(s) for s in side]) for side in node.role.shapes
            )


def _known(sizes: list[int | None]) -> Shape | None:
    return (1, *(size for size in sizes if size)) if all(sizes) else None
