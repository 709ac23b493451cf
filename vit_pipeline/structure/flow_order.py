"""A model's tree in the order of execution, with a node for every call.

Leaves out: finding out what is called (``observe``).
"""

from __future__ import annotations

import math
from dataclasses import replace

from ..roles import FLOW
from .costs import module_cost
from .module_tree import Node, place_steps
from .observe import Call

_ALWAYS = (-1.0, math.inf)


def in_flow_order(node: Node, observed: bool) -> Node:
    """The same tree with each module's parts in the order in which they are called, once per call.

    Parents stand before their parts (the order of forward pre-hooks), parts without parts in the order of
    forward hooks. What is never called comes last. Not ``observed``: in the order of ``roles``.
    """
    if observed:
        return _in_window(node, _ALWAYS, first=True)
    parts = sorted(node.children, key=lambda part: FLOW[part.role.key] if part.role else len(FLOW))
    return replace(node, children=[in_flow_order(part, observed) for part in parts])


def _in_window(node: Node, window: tuple[float, float], first: bool) -> Node:
    """Its parts as called between two moments: within one call of it, the ``first`` one or a later one."""
    timed: list[tuple[float, Node]] = []
    others = []
    for child in node.children:
        if child.kind != "module":
            params = child.params if first else 0
            others.append(replace(child, params=params, cost=child.per_call))
            continue
        inside = [call for call in child.calls if window[0] < call.start < window[1]]
        for place, call in enumerate(inside):
            once = _one_call(child, call, (place + 1, len(inside)))
            timed.append((call.start, _in_window(once, (call.start, call.end), call is child.calls[0])))
        if not inside:  # a list stands where its first item is called; what is never called comes last
            below = [call.start for part in child.walk() for call in part.calls]
            starts = [start for start in below if window[0] < start < window[1]]
            part = _in_window(child, window if starts else _ALWAYS, first)
            if first or starts:
                timed.append((min(starts, default=math.inf), part))
    modules = [child for _, child in sorted(timed, key=lambda pair: pair[0])]
    return replace(node, children=place_steps(modules, others))


def _one_call(node: Node, call: Call, count: tuple[int, int]) -> Node:
    """The node in one of its calls; its parameters are counted in the first."""
    if len(node.calls) == 1 or node.module is None:
        return node
    return replace(
        node,
        call=count if count[1] > 1 else None,
        cost=node.cost if node.children else module_cost(node.module, call.in_shape, call.out_shape),
        params=node.params if call is node.calls[0] else 0,
        in_shape=call.in_shape,
        out_shape=call.out_shape,
    )
