"""What a model calls, in which order, with which shapes, at which cost: a forward pass that computes nothing.

It runs on a copy of the model on torch's meta device: no weights, no memory, and the model stays as it was.
The formulas are torch's own (``torch.utils.flop_counter.flop_registry``), in the two conventions in use:

- **with attention**: the multiply–accumulates (MACs) of linear maps, convolutions and the two attention
  products QKᵀ and weights·V; activations are the values that these write.
- **as on timm's cards** (fvcore with fused attention): linear maps and convolutions, plus 5 operations per
  value of each LayerNorm (4 without scale and shift); attention products are not counted.

Biases, additions, softmax, GELU count as nothing in both. Leaves out: what the modules mean (``roles``).
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

Shape = tuple[int, ...]

_aten = torch.ops.aten
_MAPS = (_aten.mm, _aten.addmm, _aten.convolution)  # every other product is one of attention's


@dataclass(frozen=True)
class Cost:
    """MACs and activations of one image, in both conventions."""

    macs: int = 0  #: with attention
    macs_timm: int = 0  #: as on timm's cards
    activations: int = 0  #: with attention
    activations_timm: int = 0  #: as on timm's cards

    def __add__(self, other: Cost) -> Cost:
        return Cost(*map(operator.add, vars(self).values(), vars(other).values()))


FREE = Cost()


@dataclass
class Call:
    """One call of one module."""

    path: str
    place: int = 0  #: in the order in which calls begin
    in_shape: Shape | None = None
    out_shape: Shape | None = None
    cost: Cost = FREE  #: its own, without that of the calls that it makes


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds the cost of each operation to the innermost call that runs."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.running = [Call("")]

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        operation = function.overloadpacket
        if operation in flop_registry:
            macs = flop_registry[operation](*args, **(kwargs or {}), out_val=out) // 2
            written = first_tensor(out).numel()  # type: ignore[union-attr]
            timm = (macs, written) if operation in _MAPS else (0, 0)
            self.running[-1].cost += Cost(macs, timm[0], written, timm[1])
        elif operation is _aten.native_layer_norm:
            self.running[-1].cost += Cost(macs_timm=args[0].numel() * (4 if args[2] is None else 5))
        return out


def measure(model: nn.Module, input_shape: Shape) -> list[Call]:
    """The calls in a forward pass of one input of this shape, the model's own first, in the order in which
    they begin. Empty where the model has no forward pass for it, or none that can be run without numbers.
    """
    calls: list[Call] = []
    counter = _Counter()

    def watch(path: str, module: nn.Module) -> None:
        def before(_: nn.Module, args: Any, kwargs: Any) -> None:
            calls.append(Call(path, len(calls), _shape((args, kwargs))))
            counter.running.append(calls[-1])

        def after(_: nn.Module, args: Any, output: Any) -> None:
            counter.running.pop().out_shape = _shape(output)

        module._forward_hooks.clear()  # those of others
        module._forward_pre_hooks.clear()
        module.register_forward_pre_hook(before, with_kwargs=True)
        module.register_forward_hook(after)

    try:
        skeleton = twin(model, "eager").to("meta")  # the fused kernels have no counts for all devices
        for path, module in skeleton.named_modules():
            watch(path, module)
        with torch.no_grad(), counter:
            skeleton(torch.empty(input_shape, device="meta"))
    except Exception:  # any model may be given: one that cannot be copied, or rejects this input
        return []
    return calls


def twin(model: nn.Module, attention: str | None = None) -> nn.Module:
    """A second model, in eval mode, that shares the first one's tensors. What is done to it is not done to
    the first: no hook or mode has to be put back, whatever happens.

    ``attention``: how it shall compute attention, such as ``"eager"``; None: as the model does.
    """
    other = copy.deepcopy(model, {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())})
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
