"""Which modules a model calls, in which order, with which shapes: one forward pass that computes nothing.

The pass runs on a copy whose parameters are on torch's meta device, so it needs neither weights nor memory,
and leaves the model as it was. Leaves out: what the modules mean (``roles``) and cost (``costs``).
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from torch import nn

Shape = tuple[int, ...]
Attached = Callable[[str, nn.Module], list[Any]]


@dataclass(frozen=True)
class Call:
    """One call of one module. ``start`` and ``end`` count the moments at which its hooks fired."""

    path: str
    start: int
    end: int
    in_shape: Shape | None
    out_shape: Shape | None


def observe(model: nn.Module, input_shape: Shape) -> tuple[Call, ...] | None:
    """Every call in a forward pass of one input of this shape, in the order in which forward hooks fire.

    None where the model has no forward pass for it (or none that can be run without numbers).
    """
    moments = count()
    starts: dict[str, list[tuple[int, Shape | None]]] = {}
    calls: list[Call] = []

    def attach(path: str, module: nn.Module) -> list[Any]:
        def before(_: nn.Module, args: Any, kwargs: Any) -> None:
            starts.setdefault(path, []).append((next(moments), _shape((args, kwargs))))

        def after(_: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            start, in_shape = starts[path].pop()
            calls.append(Call(path, start, next(moments), in_shape, _shape(output)))

        return [
            module.register_forward_pre_hook(before, with_kwargs=True),
            module.register_forward_hook(after, with_kwargs=True),
        ]

    try:
        kernel = getattr(getattr(model, "config", None), "_attn_implementation", None)
        # flash kernels have no meta version; the shapes are the same
        skeleton = twin(model, on_meta=True, attention=None if kernel in ("eager", "sdpa") else "sdpa")
        with hooked(skeleton, attach), torch.no_grad():
            skeleton(torch.empty(input_shape, device="meta"))
    except Exception:  # any model may be given: one that cannot be copied, or refuses this input
        return None
    return tuple(calls)


@contextlib.contextmanager
def hooked(model: nn.Module, attach: Attached) -> Iterator[None]:
    """``attach(path, module)`` registers hooks on every module and returns their handles; all are removed on
    leaving, also after an exception."""
    handles: list[Any] = []
    try:
        for path, module in model.named_modules():
            handles += attach(path, module)
        yield
    finally:
        for handle in handles:
            handle.remove()


def twin(model: nn.Module, *, on_meta: bool = False, attention: str | None = None) -> nn.Module:
    """A second model, in eval mode, that shares the first one's tensors. What is done to it is not done to
    the first: no hook or mode has to be put back, whatever happens.

    Args:
        on_meta: with tensors of the same shapes on the meta device instead, and without anybody's hooks.
        attention: how it shall compute attention, such as ``"eager"``; None: as the model does.
    """
    memo: dict[int, Any] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        shared = torch.empty_like(tensor, device="meta") if on_meta else tensor
        frozen = (
            nn.Parameter(shared, requires_grad=False)
            if isinstance(tensor, nn.Parameter) and on_meta
            else shared
        )
        memo[id(tensor)] = frozen
    other = copy.deepcopy(model, memo)
    if on_meta:
        for module in other.modules():
            module._forward_hooks.clear()
            module._forward_pre_hooks.clear()
    config: Any = getattr(other, "config", None)
    if attention is not None and hasattr(config, "_attn_implementation"):
        config._attn_implementation = attention
    return other.eval()


def first_tensor(value: Any) -> torch.Tensor | None:
    """The first tensor in what a module takes or returns: a tensor, a sequence, a mapping, a ModelOutput."""
    if isinstance(value, torch.Tensor):
        return value
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return next((found for part in parts if (found := first_tensor(part)) is not None), None)


def _shape(value: Any) -> Shape | None:
    tensor = first_tensor(value)
    return None if tensor is None else tuple(tensor.shape)
