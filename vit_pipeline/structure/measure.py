"""What a model calls, in which order, with which shapes, at which cost: a forward pass that computes nothing.

It runs on a copy of the model on torch's meta device: no weights, no memory, and the model stays as it was.
The formulas are torch's own (``torch.utils.flop_counter.flop_registry``), in the three conventions in use:

- **with attention**: the multiply–accumulates (MACs) of linear maps, convolutions and the two attention
  products QKᵀ and weights·V; activations are the values that these write.
- **timm's model cards** (fvcore, attention fused): linear maps and convolutions, plus 5 operations per value
  of each LayerNorm (4 without scale and shift); attention products are not counted. ViT-B/16: 16.9 G.
- **timm's benchmark tables** (``results/benchmark-infer-*.csv``): the same, attention included: 17.58 G.

Biases, additions, softmax, GELU count as nothing in all three. Leaves out: what the modules mean (``roles``).
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from ..explain.inside import twin

Shape = tuple[int, ...]

_aten = torch.ops.aten
_MAPS = (_aten.mm, _aten.addmm, _aten.convolution)  # every other product is one of attention's


@dataclass(frozen=True)
class Cost:
    """MACs and activations of one image, in all conventions."""

    macs: int = 0  #: with attention
    macs_timm: int = 0  #: as on timm's model cards
    macs_timm_tables: int = 0  #: as in timm's benchmark tables
    activations: int = 0  #: with attention, also in the tables
    activations_timm: int = 0  #: as on timm's model cards

    def __add__(self, other: Cost) -> Cost:
        return Cost(*map(operator.add, vars(self).values(), vars(other).values()))


FREE = Cost()


@dataclass
class Call:
    """One call of one module."""

    in_shape: Shape | None = None
    out_shape: Shape | None = None
    cost: Cost = FREE  #: its own, without that of the calls that it makes
    place: float = math.inf  #: in the order in which calls begin


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records the calls of each module, and adds the cost of each operation to the innermost running call.

    Unlike torch's FlopCounterMode it sets no hooks outside the model, and counts activations and LayerNorm.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: dict[str, list[Call]] = {}
        self._running = [Call()]
        self._begun = 0
        for path, module in model.named_modules():
            module._forward_hooks.clear()  # those of others
            module._forward_pre_hooks.clear()
            module.register_forward_pre_hook(partial(self._begin, path), with_kwargs=True)
            module.register_forward_hook(self._end)

    def _begin(self, path: str, module: nn.Module, args: Any, kwargs: Any) -> None:
        self._running.append(Call(_shape((args, kwargs)), place=self._begun))
        self.calls.setdefault(path, []).append(self._running[-1])
        self._begun += 1

    def _end(self, module: nn.Module, args: Any, output: Any) -> None:
        self._running.pop().out_shape = _shape(output)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        operation = function.overloadpacket
        if operation in flop_registry:
            macs = flop_registry[operation](*args, **(kwargs or {}), out_val=out) // 2
            written = first_tensor(out).numel()  # type: ignore[union-attr]
            timm = (macs, written) if operation in _MAPS else (0, 0)
            self._running[-1].cost += Cost(macs, timm[0], macs, written, timm[1])
        elif operation is _aten.native_layer_norm:
            norm = args[0].numel() * (4 if args[2] is None else 5)
            self._running[-1].cost += Cost(macs_timm=norm, macs_timm_tables=norm)
        return out


def measure(model: nn.Module, input_shape: Shape) -> dict[str, list[Call]]:
    """Each module's path → its calls in a forward pass of one input of this shape.

    Empty where the model cannot take this input, or cannot run without numbers.
    """
    try:
        skeleton = twin(model, "eager").to("meta")  # the fused kernels have no counts for all devices
        counter = _Counter(skeleton)
        with torch.no_grad(), counter:
            skeleton(torch.empty(input_shape, device="meta"))
    except Exception:  # any model may be given: one that cannot be copied, or rejects this input
        return {}
    return counter.calls


def first_tensor(value: Any) -> torch.Tensor | None:
    """The first tensor in what a module takes or returns: a tensor, a sequence, a mapping, a ModelOutput."""
    if isinstance(value, torch.Tensor):
        return value
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return next((found for part in parts if (found := first_tensor(part)) is not None), None)


def _shape(value: Any) -> Shape | None:
    tensor = first_tensor(value)
    return None if tensor is None else tuple(tensor.shape)
