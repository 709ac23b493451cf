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
import PIL
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import ViTImageProcessorPil

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
        raise ArgumentError(f"{pipe.name}: a page cannot compute it: {REASONS[reason]}; leave live out")
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
        "pixels": _pixels(pipe.processor, e),
        "resize": _resize(pipe.processor),
    }


@torch.no_grad()
def _weights(pipe: ViTPipeline, e: Explanation) -> dict[str, Any]:
    tensors = {name: inside.to_numpy(value) for name, value in pipe.model.state_dict().items()}
    flat = np.concatenate([value.ravel() for value in tensors.values()]).astype(np.float16)
    rounded = copy.deepcopy(pipe.model).half().float()
    moved = (pipe.forward(e.pixel_values) - rounded(e.pixel_values.float()).logits).abs().max()
    return {
        "tensors": [[name, value.shape] for name, value in tensors.items()],
        "weights": pack(flat),
        "rounding": float(moved),  # what 16 bits cost, in logits, on this image
    }


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
    config = pipe.model.config
    if sum(p.numel() for p in pipe.model.parameters()) > MAX_PARAMETERS:
        return "size"
    if not pipe.labels:
        return "head"
    if config.hidden_act != "gelu":
        return "activation"
    if len(pipe.labels) == 1 or config.problem_type in ("regression", "multi_label_classification"):
        return "scores"
    if _pixels(pipe.processor, e) is None:
        return "pixels"
    return None if all(bool(p.half().isfinite().all()) for p in pipe.model.parameters()) else "half"


def _pixels(processor: Any, e: Explanation) -> dict[str, list[float]] | None:
    """A byte times scale plus shift is what the model takes, one of each a colour; None: it is not."""
    factor = processor.rescale_factor if getattr(processor, "do_rescale", True) else 1.0
    normal = getattr(processor, "do_normalize", False)
    settings = (processor.image_mean, processor.image_std) if normal else (0.0, 1.0)
    mean, std = (np.broadcast_to(setting, 3) for setting in settings)
    scale, shift = factor / std, -mean / std
    again = np.asarray(e.image) * scale + shift  # (H, W, 3)
    if not np.allclose(again.transpose(2, 0, 1), inside.to_numpy(e.pixel_values)[0], atol=1e-4):
        return None
    return {"scale": scale.tolist(), "shift": shift.tolist()}


def _resize(processor: Any) -> dict[str, Any] | None:
    """How an image becomes the model's size; None where the page cannot do the same."""
    size: Any = processor.size
    crop: Any = processor.crop_size if getattr(processor, "do_center_crop", False) else None
    resized = bool(size.height and size.width) or bool(size.shortest_edge and not size.longest_edge)
    known = type(processor) in (ViTImageProcessorPil, TimmImageProcessor)
    if not (known and processor.do_resize and resized):
        return None
    if crop and (size.shortest_edge or min(size.height, size.width)) < max(crop.height, crop.width):
        return None  # padded
    return {
        "shortest": size.shortest_edge,
        "size": [size.height, size.width],
        "filter": int(processor.resample),
        "crop": [crop.height, crop.width] if crop else None,
        "evenCrop": isinstance(processor, TimmImageProcessor),
        # since 13, Pillow begins with the height where that falls by more than twice as much as the width
        "tallFirst": int(PIL.__version__.partition(".")[0]) >= 13,
    }


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
