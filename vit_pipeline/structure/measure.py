"""What a model calls, in which order, with which shapes, at which cost: a forward pass that computes nothing.

It runs on a copy of the model on torch's meta device: no weights, no memory, and the model stays as it was.
Costs are torch's own (FlopCounterMode), in the two conventions in use:

- **with attention**: the multiply–accumulates (MACs) of linear maps, convolutions and the two attention
  products QKᵀ and weights·V; activations are the values that these write.
- **as on timm's cards** (fvcore with fused attention): linear maps and convolutions, plus 5 operations per
  value of each LayerNorm (4 without scale and shift); attention products are not counted.

Biases, additions, softmax, GELU count as nothing in both. Leaves out: what the modules mean (``roles``).
"""

from __future__ import annotations

import contextlib
import copy
import math
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

Shape = tuple[int, ...]

_aten = torch.ops.aten
_MAPS = (_aten.mm, _aten.addmm, _aten.convolution)  # every other product is one of attention's
_PRODUCTS = (*_MAPS, _aten.bmm, _aten.baddbmm)
_NORM = _aten.native_layer_norm


@dataclass(frozen=True)
class Cost:
    """MACs and activations of one image, in both conventions."""

    macs: int = 0  #: with attention
    macs_timm: int = 0  #: as on timm's cards
    activations: int = 0  #: with attention
    activations_timm: int = 0  #: as on timm's cards

    def __add__(self, other: Cost) -> Cost:
        return Cost(*map(operator.add, vars(self).values(), vars(other).values()))

    def __sub__(self, other: Cost) -> Cost:
        return Cost(*map(operator.sub, vars(self).values(), vars(other).values()))


FREE = Cost()


@dataclass
class Call:
    """One call of one module, with the calls that it makes."""

    path: str
    in_shape: Shape | None = None
    out_shape: Shape | None = None
    cost: Cost = FREE  #: with that of the calls inside
    inside: list[Call] = field(default_factory=list)

    @property
    def own_cost(self) -> Cost:
        """What no call inside accounts for."""
        return self.cost - sum((call.cost for call in self.inside), FREE)

    def finished(self) -> Iterator[Call]:
        """This call and all inside, in the order in which forward hooks fire."""
        for call in self.inside:
            yield from call.finished()
        yield self


def measure(model: nn.Module, input_shape: Shape) -> Call | None:
    """The forward pass of one input of this shape, as the call of the model itself.

    None where the model has no forward pass for it, or none that can be run without numbers.
    """
    flops = _counter({_NORM: _norm_operations})
    values = _counter(dict.fromkeys(_PRODUCTS, _values_written))
    running = [Call("")]

    def so_far() -> Cost:
        counted, written = flops.flop_counts["Global"], values.flop_counts["Global"]
        macs = {operation: number // 2 for operation, number in counted.items() if operation is not _NORM}
        return Cost(
            sum(macs.values()),
            sum(macs.get(operation, 0) for operation in _MAPS) + counted.get(_NORM, 0),
            sum(written.get(operation, 0) for operation in _PRODUCTS),
            sum(written.get(operation, 0) for operation in _MAPS),
        )

    def attach(path: str, module: nn.Module) -> list[Any]:
        def before(_: nn.Module, args: Any, kwargs: Any) -> None:
            running.append(Call(path, _shape((args, kwargs)), cost=so_far()))

        def after(_: nn.Module, args: Any, output: Any) -> None:
            call = running.pop()
            call.out_shape, call.cost = _shape(output), so_far() - call.cost
            running[-1].inside.append(call)

        return [
            module.register_forward_pre_hook(before, with_kwargs=True),
            module.register_forward_hook(after),
        ]

    try:  # eager attention: the fused kernels have no counts for all devices
        skeleton = twin(model, on_meta=True, attention="eager")
        with hooked(skeleton, attach), torch.no_grad(), flops, values:
            skeleton(torch.empty(input_shape, device="meta"))
    except Exception:  # any model may be given: one that cannot be copied, or rejects this input
        return None
    return running[0].inside[0]


def _counter(formulas: dict[Any, Callable[..., int]]) -> FlopCounterMode:
    """Without the tracker of modules, whose hooks would be on those of every thread."""
    counter = FlopCounterMode(display=False, custom_mapping=formulas)
    tracker: Any = contextlib.nullcontext()
    tracker.parents = {"Global"}
    counter.mod_tracker = tracker
    return counter


def _values_written(*_: Any, out_shape: Any, **__: Any) -> int:
    return math.prod(out_shape)


def _norm_operations(shape: Shape, _: Any, weight: Shape | None, *__: Any, **___: Any) -> int:
    return math.prod(shape) * (4 if weight is None else 5)


@contextlib.contextmanager
def hooked(model: nn.Module, attach: Callable[[str, nn.Module], list[Any]]) -> Iterator[None]:
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
        is_parameter = on_meta and isinstance(tensor, nn.Parameter)
        memo[id(tensor)] = nn.Parameter(shared, requires_grad=False) if is_parameter else shared
    other = copy.deepcopy(model, memo)
    for module in other.modules() if on_meta else ():
        module._forward_hooks.clear()
        module._forward_pre_hooks.clear()
    choose: Any = getattr(other, "set_attn_implementation", None)
    if attention is not None and choose is not None:
        choose(attention)
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
