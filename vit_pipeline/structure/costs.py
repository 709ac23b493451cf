"""What a module costs, by formula from its shapes: the same for every attention kernel and torch version.

Two conventions are in use, and both are kept:

- **with attention**: every multiply–accumulate (MAC) of linear maps, convolutions and the two attention
  products QKᵀ and weights·V; activations are the values that these write. (torch's FlopCounterMode, halved.)
- **as on timm's cards** (fvcore with fused attention): linear maps and convolutions, plus 5 operations per
  value of each LayerNorm (4 without scale and shift); attention products are not counted.

Biases, additions, softmax, GELU count as nothing in both. Leaves out: running anything.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import nn

Shape = tuple[int, ...]

BYTES_PER_VALUE = {"float32": 4, "bfloat16": 2, "float16": 2, "int8": 1}
_LINEAR = {"Linear", "NonDynamicallyQuantizableLinear"}
_CONVOLUTION = {"Conv1d", "Conv2d", "Conv3d"}


@dataclass(frozen=True)
class Cost:
    """MACs and activations of one image, in both conventions."""

    macs: int = 0  #: with attention
    macs_timm: int = 0  #: as on timm's cards
    activations: int = 0  #: with attention
    activations_timm: int = 0  #: as on timm's cards

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.macs + other.macs,
            self.macs_timm + other.macs_timm,
            self.activations + other.activations,
            self.activations_timm + other.activations_timm,
        )

    def __mul__(self, times: int) -> Cost:
        return Cost(
            self.macs * times, self.macs_timm * times, self.activations * times, self.activations_timm * times
        )


FREE = Cost()


def module_cost(module: nn.Module, in_shape: Shape | None, out_shape: Shape | None) -> Cost | None:
    """The cost of one call of a leaf module. None: a module with weights that no formula here knows."""
    kind = type(module).__name__
    if in_shape is None or out_shape is None:
        return FREE if not has_parameters(module) else None
    values = math.prod(out_shape)
    if isinstance(module, nn.Linear) or kind in _LINEAR:
        macs = values * in_shape[-1]
        return Cost(macs, macs, values, values)
    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d) or kind in _CONVOLUTION:
        macs = values * _kernel_values(module, in_shape, out_shape)
        return Cost(macs, macs, values, values)
    if isinstance(module, nn.LayerNorm) or kind == "LayerNorm":
        return Cost(macs_timm=values * (5 if getattr(module, "weight", True) is not None else 4))
    return None if has_parameters(module) else FREE


def attention_cost(heads: int, tokens: int, head_dim: int) -> Cost:
    """QKᵀ and weights·V for all heads (Dosovitskiy et al. 2021, Appendix A, Eq. 6 and 7)."""
    weights = heads * tokens * tokens
    return Cost(macs=2 * weights * head_dim, activations=weights + heads * tokens * head_dim)


def weight_bytes(parameters: int) -> dict[str, int]:
    """Memory of the weights in bytes, by the type they are kept in."""
    return {dtype: parameters * size for dtype, size in BYTES_PER_VALUE.items()}


def has_parameters(module: nn.Module) -> bool:
    """Whether the module has parameters of its own, not counting those of modules inside it."""
    return next(module.parameters(recurse=False), None) is not None


def _kernel_values(module: nn.Module, in_shape: Shape, out_shape: Shape) -> int:
    weight = getattr(module, "weight", None)
    if weight is not None:
        return math.prod(weight.shape[1:])
    # a module without weights of its own (a drawing of the tree): the kernel is the stride, as in every ViT
    return in_shape[1] * math.prod(i // o for i, o in zip(in_shape[2:], out_shape[2:], strict=True))
