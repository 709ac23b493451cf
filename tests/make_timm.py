"""Small checkpoints in timm's layout, of any architecture, for tests: the values follow a formula.

Written from timm's own module tree, apart from the code under test.
"""

from __future__ import annotations

import json
import math
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

WIDTHS = {"tiny": 192, "small": 384, "base": 768, "large": 1024}


def timm_config(architecture: str, num_classes: int = 10, **model_args: Any) -> dict[str, Any]:
    """timm's ``config.json`` for one ViT; ``model_args`` as ``depth=2, embed_dim=24, num_heads=3``."""
    size = int(architecture.rsplit("_", 1)[-1])
    config: dict[str, Any] = {
        "architecture": architecture,
        "num_classes": num_classes,
        "num_features": model_args.get("embed_dim", WIDTHS.get(architecture.split("_")[1], 0)),
        "global_pool": "token",
        "pretrained_cfg": {
            "tag": "augreg_in21k_ft_in1k",
            "custom_load": False,
            "input_size": [3, size, size],
            "fixed_input_size": True,
            "interpolation": "bicubic",
            "crop_pct": 1.0 if size == 384 else 0.9,
            "crop_mode": "center",
            "mean": [0.5, 0.5, 0.5],
            "std": [0.5, 0.5, 0.5],
            "num_classes": num_classes,
            "pool_size": None,
            "first_conv": "patch_embed.proj",
            "classifier": "head",
            "license": "apache-2.0",
        },
    }
    return config | ({"model_args": model_args} if model_args else {})


def timm_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Every tensor of the model that the config describes."""
    scale, patch = re.match(r"vit_(\w+?)_patch(\d+)", config["architecture"]).groups()  # type: ignore[union-attr]
    args = config.get("model_args", {})
    width, patch = args.get("embed_dim", WIDTHS[scale]), args.get("patch_size", int(patch))
    hidden = int(width * args.get("mlp_ratio", 4))
    size = args.get("img_size", config["pretrained_cfg"]["input_size"][1])
    size = size if isinstance(size, int) else size[0]
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, (size // patch) ** 2 + 1, width),
        "patch_embed.proj.weight": (width, 3, patch, patch),
        "patch_embed.proj.bias": (width,),
    }
    for index in range(args.get("depth", 24 if scale == "large" else 12)):
        for name, outputs, inputs in (
            ("attn.qkv", 3 * width, width),
            ("attn.proj", width, width),
            ("mlp.fc1", hidden, width),
            ("mlp.fc2", width, hidden),
        ):
            shapes[f"blocks.{index}.{name}.weight"] = (outputs, inputs)
            if name != "attn.qkv" or args.get("qkv_bias", True):
                shapes[f"blocks.{index}.{name}.bias"] = (outputs,)
        for name in ("norm1", "norm2"):
            shapes[f"blocks.{index}.{name}.weight"] = shapes[f"blocks.{index}.{name}.bias"] = (width,)
    classes = args.get("num_classes", config["num_classes"])
    return shapes | {
        "norm.weight": (width,),
        "norm.bias": (width,),
        "head.weight": (classes, width),
        "head.bias": (classes,),
    }


def timm_state(config: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The tensors: ±0.1 at most about 0 (about 1 for a norm's weight), the same on every machine."""
    state = {}
    for name, shape in timm_shapes(config).items():
        steps = torch.arange(1, math.prod(shape) + 1, dtype=torch.float64)
        values = 0.1 * torch.sin(steps * steps * 0.37 + zlib.crc32(name.encode()) % 1000)
        state[name] = (values + (".norm" in f".{name}" and name.endswith("weight"))).reshape(shape).float()
    return state


def write_timm(folder: Path, config: dict[str, Any], state: dict[str, torch.Tensor] | None = None) -> Path:
    """``config.json`` and ``model.safetensors`` in ``folder``, which is made; returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    save_file(timm_state(config) if state is None else state, folder / "model.safetensors")
    return folder


def formula_image(width: int, height: int) -> Image.Image:
    """An RGB image with detail at every scale, the same on every machine."""
    y, x, c = np.ogrid[:height, :width, :3]
    return Image.fromarray(((x * x * 3 + y * y * 5 + x * y * 7 + 50 * c) // 4 % 256).astype(np.uint8))
