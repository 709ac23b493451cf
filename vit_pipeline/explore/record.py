"""What the page knows of an image and a model, as plain data.

Live: the weights, rounded to 16 bits, from which the page computes everything by itself. Recorded: what the
model did with this image. L layers, H heads, N tokens (CLS, then the patches row by row), C classes.
"""

from __future__ import annotations

import base64
import copy
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..checkpoints.processors import TimmImageProcessor
from ..errors import ArgumentError
from ..explain import inside
from ..explain.explanation import Explanation, explain

if TYPE_CHECKING:
    from ..pipeline import ViTPipeline

Array = NDArray[Any]
MAX_PARAMETERS = 10_000_000  #: of a model inside a page: 17 MB there
FILTERS = 28  #: as many components of the patch embedding as figure 7 of the ViT paper shows
#: why a page cannot compute a model, and the words of ArgumentError for it; text.toml has the page's
REASONS = {
    "size": f"it has more than {MAX_PARAMETERS:,} parameters",
    "head": "it has no classifier",
    "activation": "its activation is not GELU",
    "scores": "its scores are not a softmax over classes",
    "pixels": "its preprocessing does more than resize, crop, rescale and normalise",
    "half": "its weights do not fit into 16 bits",
}


def record(pipe: ViTPipeline, pixel_values: Tensor, source: str, live: bool | None) -> dict[str, Any]:
    """The page's data for one preprocessed image, (1, 3, H, W), as JSON has it. Raises ArgumentError."""
    e = explain(pipe, pixel_values, source)
    reason = _why_not_live(pipe, e)
    if live and reason:
        raise ArgumentError(
            f"{pipe.name}: the page cannot compute this model: {REASONS[reason]}; leave live out"
        )
    is_live = not reason if live is None else live
    table = inside.to_numpy(_embeddings(pipe.model).position_embeddings)[0, 1:]  # (N - 1, D)
    weight = inside.to_numpy(_embeddings(pipe.model).patch_embeddings.projection.weight)  # (D, 3, P, P)
    data: dict[str, Any] = {
        "live": is_live,
        "reason": reason if not is_live else None,
        "source": source,
        "model": _model(pipe, e),
        "image": pack(np.asarray(e.image)),  # (H, W, 3)
        "positions": pack(_cosines(table).astype(np.float16)),  # (N - 1, N - 1)
        "filters": pack(_components(weight)),  # (F, P, P, 3)
        "logits": _logits(pipe, e),
    }
    return data | (_weights(pipe, e) if is_live else _run(pipe, e))


def pack(array: Array) -> dict[str, Any]:
    """An array as text: its bytes, the first of every number, then the second …, deflated, in base64.

    Numbers' first bytes are alike, and so take less room together.
    """
    planes = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8).reshape(-1, array.itemsize).T
    text = base64.b64encode(zlib.compress(planes.tobytes(), 9)).decode()
    return {"type": array.dtype.name, "shape": array.shape, "bytes": text}


def quantise(rows: Array) -> tuple[Array, Array]:
    """(…, N) of 0 and more → whole numbers of 0 to 255, and what 1 is in each row, (…).

    Off by at most half of that.
    """
    unit = np.maximum(rows.max(-1), np.finfo(np.float32).tiny) / 255
    return (rows / unit[..., None]).round().astype(np.uint8), unit.astype(np.float32)


def _model(pipe: ViTPipeline, e: Explanation) -> dict[str, Any]:
    config = pipe.model.config
    return {
        "name": pipe.name,
        "parameters": sum(p.numel() for p in pipe.model.parameters()),
        "layers": config.num_hidden_layers,
        "heads": config.num_attention_heads,
        "width": config.hidden_size,
        "headWidth": getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
        "mlpWidth": config.intermediate_size,
        "eps": config.layer_norm_eps,
        "grid": e.grid,
        "patch": e.patch,
        "imageWidth": e.image.width,
        "labels": pipe.labels,
        "pixels": _normalise(pipe.processor),
        "resize": _resize(pipe.processor),
    }


@torch.no_grad()
def _logits(pipe: ViTPipeline, e: Explanation) -> dict[str, Any] | None:
    """What Python says: with the weights as they are, and after rounding them to 16 bits."""
    if not pipe.labels:
        return None
    exact = pipe.forward(e.pixel_values)
    rounded = _rounded(pipe.model)(e.pixel_values).logits
    off = float((exact - rounded).abs().max())
    return {"values": inside.to_numpy(exact)[0].tolist(), "rounding": off if np.isfinite(off) else None}


def _weights(pipe: ViTPipeline, e: Explanation) -> dict[str, Any]:
    tensors = {name: inside.to_numpy(value) for name, value in pipe.model.state_dict().items()}
    flat = np.concatenate([value.ravel() for value in tensors.values()]).astype(np.float16)
    return {"tensors": [[name, value.shape] for name, value in tensors.items()], "weights": pack(flat)}


@torch.no_grad()
def _run(pipe: ViTPipeline, e: Explanation) -> dict[str, Any]:
    """What happened: one pass of an eager twin, watched between attention and MLP."""
    model = inside.twin(pipe.model, "eager")
    backbone = getattr(model, "vit", model)
    between: list[Tensor] = []
    for layer in backbone.layers:
        layer.layernorm_after.register_forward_pre_hook(lambda _, given: between.append(given[0]))
    states = model(e.pixel_values, output_hidden_states=True).hidden_states  # L + 1 times (1, N, D)
    patches = backbone.embeddings.patch_embeddings(e.pixel_values)[0]  # (N - 1, D)
    before, middle, after = (torch.cat([*each]) for each in (states[:-1], between, states[1:]))  # (L, N, D)
    norms = torch.stack([x.norm(dim=-1) for x in (before, middle - before, middle, after - middle, after)])
    found = {
        "norms": pack(inside.to_numpy(norms)),  # (5, L, N)
        "cls": pack(inside.to_numpy(torch.cat([*states])[:, 0])),  # (L + 1, D)
        "embedded": pack(inside.to_numpy(patches).astype(np.float16)),  # (N - 1, D)
        "placed": pack(inside.to_numpy(states[0][0]).astype(np.float16)),  # (N, D)
    }
    found |= dict(zip(("attentions", "units"), map(pack, quantise(e.attentions)), strict=True))
    if pipe.labels:
        lens = torch.cat(inside.lens(pipe.model, e.pixel_values))  # (L + 1, C)
        found["lens"] = pack(inside.to_numpy(lens))
        found["scores"] = pack(inside.to_numpy(pipe.probabilities(lens)))
    return found


def _why_not_live(pipe: ViTPipeline, e: Explanation) -> str | None:
    """The first of REASONS that holds; None: the page can compute this model."""
    config, pixels = pipe.model.config, _normalise(pipe.processor)
    if sum(p.numel() for p in pipe.model.parameters()) > MAX_PARAMETERS:
        return "size"
    if not pipe.labels:
        return "head"
    if config.hidden_act != "gelu":
        return "activation"
    if len(pipe.labels) == 1 or config.problem_type in ("regression", "multi_label_classification"):
        return "scores"
    scale, shift = (np.array(pixels[key])[:, None, None] for key in ("scale", "shift"))
    again = np.asarray(e.image).transpose(2, 0, 1) * scale + shift  # (3, H, W)
    if not np.allclose(again, inside.to_numpy(e.pixel_values)[0], atol=1e-4):
        return "pixels"
    return None if all(bool(p.half().isfinite().all()) for p in pipe.model.parameters()) else "half"


def _normalise(processor: Any) -> dict[str, list[float]]:
    """A byte times scale plus shift is what the model takes, one of each a colour."""
    factor = processor.rescale_factor if getattr(processor, "do_rescale", True) else 1.0
    normal = getattr(processor, "do_normalize", False)
    mean, std = (
        np.broadcast_to(x, 3) for x in ((processor.image_mean, processor.image_std) if normal else (0, 1))
    )
    return {"scale": (factor / std).tolist(), "shift": (-mean / std).tolist()}


def _resize(processor: Any) -> dict[str, Any] | None:
    """How an image becomes the model's size; None where the page cannot do the same."""
    size, crop = processor.size, getattr(processor, "crop_size", None)
    crops = bool(getattr(processor, "do_center_crop", False))
    whole = bool(size.height and size.width) or bool(size.shortest_edge and not size.longest_edge)
    if not (getattr(processor, "do_resize", True) and whole):
        return None
    short = size.shortest_edge or min(size.height, size.width)
    if crops and short < max(crop.height, crop.width):
        return None
    return {
        "shortest": size.shortest_edge,
        "size": [size.height, size.width],
        "filter": int(processor.resample),
        "crop": [crop.height, crop.width] if crops else None,
        "evenCrop": isinstance(processor, TimmImageProcessor),
    }


@torch.no_grad()
def _rounded(model: nn.Module) -> Any:
    return copy.deepcopy(model).half().float()


def _embeddings(model: Any) -> Any:
    return getattr(model, "vit", model).embeddings


def _cosines(table: Array) -> Array:
    unit = table / np.maximum(np.linalg.norm(table, axis=-1, keepdims=True), 1e-12)
    return unit @ unit.T  # type: ignore[no-any-return]


def _components(weight: Array) -> Array:
    """The patterns that the filters have in common, the most important first, as images: (F, P, P, 3)."""
    rows = weight.reshape(len(weight), -1)
    _, _, found = np.linalg.svd(rows - rows.mean(0), full_matrices=False)
    found = found[:FILTERS].reshape(-1, *weight.shape[1:]).transpose(0, 2, 3, 1)
    largest = np.abs(found).max((1, 2, 3), keepdims=True)
    return (127.5 + 127.5 * found / largest).round().astype(np.uint8)  # type: ignore[no-any-return]
