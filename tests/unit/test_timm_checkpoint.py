"""timm checkpoints: translated exactly (timm's own numbers, in golden/), or rejected by name."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pytest
import torch
from make_timm import formula_image, timm_config, timm_shapes, timm_state, write_timm
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoImageProcessor, ViTConfig, ViTForImageClassification, ViTImageProcessorPil
from transformers.utils import logging

from vit_pipeline import loading
from vit_pipeline.checkpoints import tensors as ckpt
from vit_pipeline.checkpoints.config import check_config
from vit_pipeline.checkpoints.processors import TimmImageProcessor, make_processor, to_pixel_values
from vit_pipeline.checkpoints.timm import (
    is_timm_config,
    read_timm_config,
    to_processor_config,
    to_transformers_config,
    to_transformers_tensors,
)
from vit_pipeline.errors import CheckpointError, ImageError

pytestmark = pytest.mark.slow

GOLDEN = Path(__file__).parents[1] / "golden"
MINI = GOLDEN / "timm_vit_small_mini"
PHOTOS = [
    Path(__file__).parents[2] / "examples" / name
    for name in ("astronaut.png", "cat.png", "coffee.png", "rocket.jpg")
]
REFERENCE = json.loads((GOLDEN / "timm_reference.json").read_text(encoding="utf-8"))
SMALL: dict[str, Any] = {"depth": 2, "embed_dim": 48}


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    bars, level, threads = logging.is_progress_bar_enabled(), logging.get_verbosity(), torch.get_num_threads()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    logging.set_verbosity(level)
    if bars:
        logging.enable_progress_bar()


def load(folder: Path) -> tuple[ViTForImageClassification, TimmImageProcessor]:
    loaded = loading.load(folder, device="cpu")
    assert isinstance(loaded.processor, TimmImageProcessor)
    return loaded.model, loaded.processor


def translate(config: dict[str, Any], **shapes: tuple[int, ...] | None) -> ViTConfig:
    """The config of a checkpoint whose tensors fit it; a shape of None takes a tensor out."""
    return fit(config, {**timm_shapes(config), **shapes})


def fit(config: dict[str, Any], shapes: dict[str, Any]) -> ViTConfig:
    result = check_config(to_transformers_config(config, "X"), "X")
    state = {name: torch.zeros(()).expand(shape) for name, shape in shapes.items() if shape is not None}
    ckpt.match(state, result, "X", partial(to_transformers_tensors, config=config, where="X"))
    return result


def rejected(config: dict[str, Any], **shapes: tuple[int, ...] | None) -> str:
    """The one line with which a checkpoint is rejected."""
    with pytest.raises(CheckpointError) as caught:
        translate(config, **shapes)
    message = str(caught.value)
    assert message.startswith("X: ")
    assert "\n" not in message
    return message


def crop(processor: Any, image: Image.Image) -> np.ndarray:
    """The 8-bit image (H, W, 3) that the model would see."""
    options = {"do_rescale": False, "do_normalize": False, "return_tensors": "np"}
    pixels = processor(image, **options).pixel_values[0]
    assert pixels.dtype == np.uint8
    return np.ascontiguousarray(pixels.transpose(1, 2, 0))


# --- timm's own numbers ---------------------------------------------------------------------------------


def test_photos_crops_logits_and_features_are_timms() -> None:
    model, processor = load(MINI)
    expected = load_file(MINI / "expected.safetensors")
    for path in PHOTOS:
        photo = Image.open(path).convert("RGB")
        golden = np.array(Image.open(MINI / f"{path.stem}.crop224.png"))
        assert np.array_equal(crop(processor, photo), golden)
        pixels = processor(photo, return_tensors="pt").pixel_values  # (1, 3, 224, 224)
        exact = (torch.from_numpy(golden).permute(2, 0, 1).float() / 255 - 0.5) / 0.5
        assert torch.equal(pixels[0], exact)
        with torch.inference_mode():
            logits = model(pixels).logits[0]  # (16,)
            feature = model.vit(pixels).last_hidden_state[0, 0]  # (96,)
        assert (logits - expected[f"{path.stem}.logits"]).abs().max() < 1e-5
        assert (feature - expected[f"{path.stem}.cls_feature"]).abs().max() < 1e-5


@pytest.mark.parametrize("case", REFERENCE["logits"], ids=lambda c: f"{c['architecture']}-{c['model_args']}")
def test_logits_of_other_architectures_are_timms(case: dict[str, Any], tmp_path: Path) -> None:
    folder = write_timm(tmp_path / "x", timm_config(case["architecture"], **case["model_args"]))
    model, processor = load(folder)
    image = formula_image(*REFERENCE["logits_image"])
    with torch.inference_mode():
        logits = model(processor(image, return_tensors="pt").pixel_values).logits[0]
    assert (logits - torch.tensor(case["logits"])).abs().max() < 1e-5


def preprocessing(size: int, **changes: Any) -> dict[str, Any]:
    config = timm_config(f"vit_tiny_patch16_{size}")
    return config | {"pretrained_cfg": config["pretrained_cfg"] | changes}


@pytest.mark.parametrize("case", REFERENCE["crops"], ids=lambda c: "-".join(map(str, list(c.values())[:5])))
def test_crops_are_timms(case: dict[str, Any]) -> None:
    config = preprocessing(case["size"], **{k: case[k] for k in ("crop_pct", "crop_mode", "interpolation")})
    pixels = crop(TimmImageProcessor(**to_processor_config(config, "X")), formula_image(*case["image"]))
    newer = int(PIL.__version__.split(".")[0]) >= 13  # its order of the two passes of a resize is another
    expected = case.get("sha256_pillow13", case["sha256"]) if newer else case["sha256"]
    assert hashlib.sha256(pixels.tobytes()).hexdigest() == expected


def by_hand(image: Image.Image, size: int, crop_pct: float, mode: str) -> np.ndarray:
    """timm's evaluation transform, from its description alone: resize, pad with black, crop."""
    edge = math.floor(size / crop_pct)
    width, height = image.size
    if mode == "squash":
        width, height = edge, edge
    elif width <= height:
        width, height = edge, int(edge * height / width)
    else:
        width, height = int(edge * width / height), edge
    pixels = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))
    for axis, length in ((0, height), (1, width)):
        lack = max(size - length, 0)
        pads = [(0, 0)] * 3
        pads[axis] = (lack // 2, lack - lack // 2)
        pixels = np.pad(pixels, pads)
        whole, half = divmod(max(length - size, 0), 2)
        start = whole + (half and whole % 2)  # half a pixel goes to the even one
        pixels = pixels[start : start + size] if axis == 0 else pixels[:, start : start + size]
    return pixels


@pytest.mark.parametrize("mode", ["center", "squash"])
@pytest.mark.parametrize("crop_pct", [0.81, 0.9, 1.0, 1.07])
def test_crops_of_many_sizes(crop_pct: float, mode: str) -> None:
    config = preprocessing(224, crop_pct=crop_pct, crop_mode=mode)
    processor = TimmImageProcessor(**to_processor_config(config, "X"))
    for width, height in ((225, 301), (226, 233), (227, 511), (228, 228), (40, 31), (7, 5), (3, 41)):
        for image in (formula_image(width, height), formula_image(height, width)):
            assert np.array_equal(crop(processor, image), by_hand(image, 224, crop_pct, mode)), image.size


def test_all_256_levels_are_normalised_as_by_torch() -> None:
    levels = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    config = timm_config("vit_tiny_patch16_224", img_size=16)
    config["pretrained_cfg"] |= {"mean": mean, "std": std, "crop_pct": 1.0}
    processor = TimmImageProcessor(**to_processor_config(config, "X"))
    pixels = processor(Image.fromarray(levels), return_tensors="pt").pixel_values[0]
    tensor = torch.from_numpy(levels).permute(2, 0, 1).float().div(255)
    expected = (tensor - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    assert torch.equal(pixels, expected)


# --- preprocessing ---------------------------------------------------------------------------------------


def test_preprocessing_defaults_are_timms() -> None:
    config = {"architecture": "vit_base_patch16_384", "pretrained_cfg": {}}
    result = to_processor_config(config, "X")
    assert result["size"] == {"shortest_edge": 438}  # floor(384 / 0.875)
    assert result["crop_size"] == {"height": 384, "width": 384}
    assert result["resample"] == Image.Resampling.BICUBIC
    assert result["image_mean"] == [0.485, 0.456, 0.406]
    assert result["image_std"] == [0.229, 0.224, 0.225]


def test_preprocessing_of_the_first_flat_configs_and_of_another_img_size() -> None:
    flat = preprocessing(224)["pretrained_cfg"] | {
        "architecture": "vit_tiny_patch16_224",
        "labels": list("abcdefghij"),
    }
    assert to_processor_config(flat, "X") == to_processor_config(preprocessing(224), "X")
    config = timm_config("vit_tiny_patch16_224", img_size=[160, 160], **SMALL)
    assert to_processor_config(config, "X")["size"] == {"shortest_edge": 177}  # floor(160 / 0.9)
    assert translate(config).image_size == 160


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"crop_mode": "border"}, "not supported: crop_mode 'border'"),
        ({"interpolation": "random"}, "not supported: interpolation 'random'"),
        ({"crop_pct": 0.001}, "crop_pct 0.001"),
        ({"crop_pct": "0.9"}, "crop_pct '0.9'"),
        ({"mean": [0.5]}, r"mean \[0.5\]"),
        ({"std": [0.5, 0.5, 0]}, r"std \[0.5, 0.5, 0\]"),
        ({"mean": [0.5, 0.5, math.nan]}, "mean .*nan"),
        ({"input_size": 224}, "input_size 224"),
    ],
)
def test_preprocessing_rejected(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(CheckpointError, match=words):
        make_processor(to_processor_config(preprocessing(224, **changes), "X"), ViTConfig(), "X")


def test_processor_rejects_what_it_cannot_crop() -> None:
    processor = TimmImageProcessor(**to_processor_config(preprocessing(224), "X"))
    with pytest.raises(ImageError, match=r"1×100000 .* it would become 248×24,800,000"):
        to_pixel_values(processor, Image.new("RGB", (1, 100_000)))


# --- a folder that plain transformers reads -------------------------------------------------------------


def test_saved_folder_in_plain_transformers(tmp_path: Path) -> None:
    model, processor = load(MINI)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    plain = ViTForImageClassification.from_pretrained(tmp_path).eval()
    plain_processor = AutoImageProcessor.from_pretrained(tmp_path, backend="pil")
    assert type(plain_processor) is ViTImageProcessorPil
    for path in PHOTOS:
        photo = Image.open(path).convert("RGB")
        pixels = processor(photo, return_tensors="pt").pixel_values
        with torch.inference_mode():
            assert torch.equal(plain(pixels).logits, model(pixels).logits)
        # rocket becomes 371 pixels wide, 147 = 4 · 36 + 3 more than the crop: there alone the crops differ
        assert np.array_equal(crop(plain_processor, photo), crop(processor, photo)) == (path.stem != "rocket")
    saved = json.loads((tmp_path / "preprocessor_config.json").read_text(encoding="utf-8"))
    assert saved["image_processor_type"] == "ViTImageProcessor"
    assert saved["center_crop_offset"] == "round"
    again = make_processor(saved, model.config, "X")
    assert np.array_equal(crop(again, photo), crop(processor, photo))


# --- sizes, names and tensors ---------------------------------------------------------------------------


@pytest.mark.parametrize("size", [224, 384])
@pytest.mark.parametrize("patch", [8, 16, 32])
@pytest.mark.parametrize(
    ("scale", "width", "heads"), [("tiny", 192, 3), ("small", 384, 6), ("base", 768, 12), ("large", 1024, 16)]
)
def test_every_architecture(scale: str, width: int, heads: int, patch: int, size: int) -> None:
    config = translate(timm_config(f"vit_{scale}_patch{patch}_{size}", depth=2))
    expected = {
        "hidden_size": width,
        "num_attention_heads": heads,
        "num_hidden_layers": 2,
        "intermediate_size": 4 * width,
        "patch_size": patch,
        "image_size": size,
        "layer_norm_eps": 1e-6,
        "hidden_act": "gelu",
        "qkv_bias": True,
    }
    assert {name: getattr(config, name) for name in expected} == expected


def test_full_size_vit_small() -> None:
    raw = timm_config("vit_small_patch16_224", 1000)
    assert sum(math.prod(shape) for shape in timm_shapes(raw).values()) == 22_050_664
    config = translate(raw)
    with torch.device("meta"):
        model = ViTForImageClassification(config)
    assert sum(parameter.numel() for parameter in model.parameters()) == 22_050_664
    assert config.id2label[0] == "tench, Tinca tinca"
    assert config.id2label[999] == "toilet tissue, toilet paper, bathroom tissue"


def test_qkv_is_split_in_order_without_a_copy() -> None:
    raw = timm_config("vit_tiny_patch16_224", **SMALL)
    state = timm_state(raw)
    converted = to_transformers_tensors(state, raw, "X")
    fused = state["blocks.1.attn.qkv.weight"]  # (3 · 48, 48)
    for index, part in enumerate(("query", "key", "value")):
        name = f"vit.encoder.layer.1.attention.attention.{part}.weight"
        assert torch.equal(converted[name], fused[48 * index : 48 * (index + 1)])
        assert converted[name].data_ptr() == fused.data_ptr() + 48 * 48 * 4 * index
    assert sum(t.numel() for t in converted.values()) == sum(t.numel() for t in state.values())


def test_is_timm_config() -> None:
    assert is_timm_config({"architecture": "vit_tiny_patch16_224"})
    assert not is_timm_config({"architectures": ["ViTForImageClassification"], "model_type": "vit"})
    assert not is_timm_config({"architecture": "vit_tiny_patch16_224", "model_type": "timm_wrapper"})


def test_arguments_that_change_nothing() -> None:
    raw = timm_config("vit_tiny_patch16_224", **SMALL)
    harmless = {
        "drop_path_rate": 0.1,
        "reg_tokens": 0,
        "class_token": True,
        "fc_norm": None,
        "act_layer": "gelu",
        "dynamic_img_size": True,
        "strict_img_size": False,
    }
    with_them = copy.deepcopy(raw)
    with_them["model_args"] |= harmless
    assert translate(with_them).to_dict() == translate(raw).to_dict()


# --- rejected --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"reg_tokens": 4}, "register tokens"),
        ({"global_pool": "avg"}, "average pooling"),
        ({"global_pool": "map"}, "pooling"),
        ({"global_pool": ""}, "pooling"),
        ({"dynamic_img_pad": True}, "dynamic_img_pad"),
        ({"qk_norm": True}, "normalised queries and keys"),
        ({"pre_norm": True}, "norm before the layers"),
        ({"class_token": False}, "without class token"),
        ({"final_norm": False}, "last norm"),
        ({"fc_norm": True}, "norm after pooling"),
        ({"act_layer": "quick_gelu"}, "activation"),
        ({"norm_layer": "rmsnorm"}, "norm_layer is 'rmsnorm'"),
        ({"img_size": [224, 192]}, "img_size that is not square"),
        ({"wobble": 3}, "the setting 'wobble'"),
    ],
)
def test_settings_rejected_by_name(args: dict[str, Any], words: str) -> None:
    message = rejected({**timm_config("vit_tiny_patch16_224"), "model_args": SMALL | args})
    assert re.match(rf"X: not supported: .*{re.escape(words)}", message)
    assert "vit_{tiny,small,base,large}_patch{8,16,32}_{224,384}" in message


@pytest.mark.parametrize(
    ("architecture", "words"),
    [
        ("deit_tiny_distilled_patch16_224", "distillation token"),
        ("vit_medium_patch16_reg4_gap_256", "register tokens"),
        ("vit_base_patch16_siglip_224", "SigLIP"),
        ("vit_base_patch16_clip_224", "CLIP"),
        ("vit_base_patch16_gap_224", "average pooling"),
        ("eva02_tiny_patch14_224", "rotary"),
        ("vit_relpos_small_patch16_224", "relative position"),
        ("vit_small_r26_s32_224", "convolutional stem"),
        ("vit_tiny_r_s16_p8_224", "convolutional stem"),
        ("vit_small_patch16_dinov3", "rotary"),
        ("convnext_tiny", "a model of another kind (architecture 'convnext_tiny')"),
        ("vit_base_patch16_rpn_224", "res-post-norm"),
        ("vit_so400m_patch14_siglip_224", "SigLIP"),
        ("vit_little_patch16_reg4_gap_256", "register tokens"),
        ("test_vit2", "a model of another kind"),
        ("vit_small_patch16_224\n", "a model of another kind"),
    ],
)
def test_architectures_rejected_by_name(architecture: str, words: str) -> None:
    with pytest.raises(CheckpointError, match=re.escape(words)):
        read_timm_config({"architecture": architecture, "pretrained_cfg": {}}, "X")


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        ("dist_token", "distillation token"),
        ("head_dist.weight", "distillation token"),
        ("reg_token", "register tokens"),
        ("attn_pool.latent", "SigLIP's attention pooling"),
        ("norm_pre.weight", "norm before the layers"),
        ("fc_norm.weight", "average pooling"),
        ("blocks.0.attn.q_norm.weight", "normalised queries"),
        ("blocks.0.mlp.norm.weight", "norms inside"),
        ("blocks.0.mlp.w12.weight", "SwiGLU"),
        ("rope.periods", "rotary"),
        ("blocks.0.attn.rel_pos.bias", "relative position"),
        ("patch_embed.backbone.stem.conv.weight", "convolutional stem"),
    ],
)
def test_parts_rejected_by_name_where_tensors_alone_have_them(tensor: str, words: str) -> None:
    message = rejected(timm_config("vit_tiny_patch16_224", **SMALL), **{tensor: (1, 1, 48)})
    assert message.startswith("X: not supported: ")
    assert words in message
    assert tensor in message


def test_pooling_outside_model_args_is_rejected() -> None:
    assert "average pooling" in rejected(
        {**timm_config("vit_tiny_patch16_224", **SMALL), "global_pool": "avg"}
    )
    config = timm_config("vit_tiny_patch16_224", **SMALL)
    config["pretrained_cfg"]["global_pool"] = "avg"
    assert "global_pool is 'avg'" in rejected(config)


def test_a_classifier_that_is_claimed_must_be_there() -> None:
    config = timm_config("vit_tiny_patch16_224", **SMALL)
    assert "lack classifier.weight" in rejected(config, **{"head.weight": None, "head.bias": None})
    assert "unexpected" in rejected(config, **{"head_drop.weight": (3,)})


@pytest.mark.parametrize(
    "change",
    [
        {"model_args": {"depth": 3, "embed_dim": 48}},
        {"model_args": {"depth": 1, "embed_dim": 48}},
        {"model_args": {"depth": 2}},
        {"model_args": {"depth": 2, "embed_dim": 96}},
        {"model_args": SMALL | {"patch_size": 8}},
        {"model_args": SMALL | {"img_size": 384}},
        {"model_args": SMALL | {"img_size": 0}},
        {"model_args": SMALL | {"mlp_ratio": 2}},
        {"model_args": SMALL | {"num_classes": 7}},
        {"num_classes": 11},
        {"architecture": "vit_tiny_patch32_224"},
        {"architecture": "deit3_tiny_patch16_224"},
        {"architecture": "vit_base_patch16_224_miil"},
        {"model_args": SMALL | {"num_heads": 5}},
        {"model_args": SMALL | {"num_heads": 0}},
        {"model_args": SMALL | {"num_heads": True}},
        {"model_args": SMALL | {"qkv_bias": False}},
        {"model_args": SMALL | {"qkv_bias": "no"}},
        {"model_args": SMALL | {"in_chans": 1}},
        {"model_args": SMALL | {"no_embed_class": True}},
        {"model_args": SMALL | {"init_values": 1e-5}},
        {"model_args": SMALL | {"depth": 10**12}},
        {"model_args": SMALL | {"depth": "2"}},
        {"model_args": SMALL | {"mlp_ratio": math.inf}},
        {"model_args": [1]},
        {"pretrained_cfg": "x"},
    ],
    ids=str,
)
def test_a_config_that_the_tensors_contradict(change: dict[str, Any]) -> None:
    shapes = timm_shapes(timm_config("vit_tiny_patch16_224", **SMALL))
    config = timm_config("vit_tiny_patch16_224", **SMALL) | change
    with pytest.raises(CheckpointError, match=r"^X: "):
        fit(config, shapes)


def test_input_size_counts_before_the_name() -> None:
    config = timm_config("vit_tiny_patch16_224", **SMALL)
    config["pretrained_cfg"]["input_size"] = [3, 384, 384]
    assert translate(config).image_size == 384
    assert "position_embeddings" in rejected(config, pos_embed=(1, 197, 48))


@pytest.mark.parametrize("name", sorted(timm_shapes(timm_config("vit_tiny_patch16_224", **SMALL))))
def test_each_missing_renamed_or_reshaped_tensor_is_found(name: str) -> None:
    config = timm_config("vit_tiny_patch16_224", **SMALL)
    shape = timm_shapes(config)[name]
    rejected(config, **{name: None})
    rejected(config, **{name: None, f"{name}_old": shape})
    rejected(config, **{f"{name}_old": shape})
    rejected(config, **{name: (*shape, 1)})
    rejected(config, **{name: ()})


def test_left_over_tensors_and_the_class_tokens_position() -> None:
    config = timm_config("vit_tiny_patch16_224", **SMALL)
    assert "hold unexpected extra.weight" in rejected(config, **{"extra.weight": (2,)})
    assert "hold unexpected blocks.0.ls1.gamma" in rejected(config, **{"blocks.0.ls1.gamma": (48,)})
    rejected(config, **{"blocks.1.norm1.weight": None, "blocks.01.norm1.weight": (48,)})
    assert "position_embeddings" in rejected(config, pos_embed=(1, 196, 48))


# --- other plain ViTs: their structure counts, not the name ---------------------------------------------


def timm_logits(state: dict[str, torch.Tensor], pixels: torch.Tensor, heads: int) -> torch.Tensor:
    """timm's VisionTransformer written out; LayerScale and no_embed_class as the tensors have them."""
    from torch.nn.functional import conv2d, gelu, layer_norm, linear, scaled_dot_product_attention

    width, patch = state["patch_embed.proj.weight"].shape[0], state["patch_embed.proj.weight"].shape[2]

    def apply(name: str, x: torch.Tensor) -> torch.Tensor:
        return linear(x, state[f"{name}.weight"], state.get(f"{name}.bias"))

    def norm(name: str, x: torch.Tensor) -> torch.Tensor:
        return layer_norm(x, (width,), state[f"{name}.weight"], state[f"{name}.bias"], 1e-6)

    x = conv2d(pixels, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], stride=patch)
    x = x.flatten(2).transpose(1, 2)  # (B, N, D)
    token, positions = state["cls_token"].expand(len(x), 1, width), state["pos_embed"]
    inside = positions.shape[1] > x.shape[1]
    x = torch.cat([token, x], 1) + positions if inside else torch.cat([token, x + positions], 1)
    for index in range(len({name.split(".")[1] for name in state if name.startswith("blocks.")})):
        block = f"blocks.{index}"
        qkv = apply(f"{block}.attn.qkv", norm(f"{block}.norm1", x))
        q, k, v = qkv.unflatten(-1, (3, heads, width // heads)).permute(2, 0, 3, 1, 4)
        mixed = scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + apply(f"{block}.attn.proj", mixed) * state.get(f"{block}.ls1.gamma", torch.ones(1))
        hidden = gelu(apply(f"{block}.mlp.fc1", norm(f"{block}.norm2", x)))
        x = x + apply(f"{block}.mlp.fc2", hidden) * state.get(f"{block}.ls2.gamma", torch.ones(1))
    x = norm("norm", x)
    return apply("head", x[:, 0]) if "head.weight" in state else x


@pytest.mark.parametrize(
    ("architecture", "like", "args", "classes"),
    [
        ("deit_tiny_patch16_224", "vit_tiny_patch16_224", {}, 10),
        ("deit3_small_patch16_224", "vit_small_patch16_224", {}, 10),
        ("vit_base_patch16_224_miil", "vit_base_patch16_224", {}, 10),
        ("vit_small_patch14_dinov2", "vit_small_patch14_224", {}, 0),
        (
            "test_vit",
            "vit_tiny_patch16_160",
            {"embed_dim": 64, "depth": 6, "num_heads": 2, "mlp_ratio": 3},
            1000,
        ),
        ("vit_tiny_patch16_224", "vit_tiny_patch16_224", {"init_values": 1e-5}, 10),
        ("vit_tiny_patch16_224", "vit_tiny_patch16_224", {"no_embed_class": True}, 10),
        ("vit_tiny_patch16_224", "vit_tiny_patch16_224", {}, 0),
    ],
    ids=lambda value: str(value)[:30],
)
def test_plain_vits_of_other_names(
    architecture: str, like: str, args: dict[str, Any], classes: int, tmp_path: Path
) -> None:
    plain = {"depth": 2, **args} if architecture != "test_vit" else args
    config = timm_config(like, classes, **plain)
    torch.manual_seed(0)
    state = {name: tensor + torch.randn_like(tensor) * 0.05 for name, tensor in timm_state(config).items()}
    width, depth = state["cls_token"].shape[2], plain["depth"]
    if "miil" in architecture:
        state = {name: tensor for name, tensor in state.items() if "qkv.bias" not in name}
    if "deit3" in architecture or "dinov2" in architecture or "init_values" in args:
        scales = [f"blocks.{index}.ls{part}.gamma" for index in range(depth) for part in (1, 2)]
        state |= {name: torch.rand(width) for name in scales}
    if "deit3" in architecture or "no_embed_class" in args:
        state["pos_embed"] = state["pos_embed"][:, 1:].contiguous()
    if not classes:
        state = {name: tensor for name, tensor in state.items() if not name.startswith("head.")}
    config["architecture"] = architecture
    if architecture == "test_vit":
        config["model_args"] = {"dynamic_img_size": True}
    loaded = loading.load(write_timm(tmp_path / "x", config, state), device="cpu")
    side = config["pretrained_cfg"]["input_size"][1]
    pixels = torch.randn(1, 3, side, side)
    with torch.inference_mode():
        output = loaded.model(pixels)
        expected = timm_logits(state, pixels, {64: 2, 192: 3, 384: 6, 768: 12}[width])
    values = output.logits if classes else output.last_hidden_state
    assert (values - expected).abs().max() < 1e-4 * expected.abs().max()
    assert len(loading.class_names(loaded.model)) == classes


# --- class names ----------------------------------------------------------------------------------------


def labels(change: dict[str, Any], in_pretrained_cfg: bool = False) -> list[str]:
    config = timm_config("vit_tiny_patch16_224", 3, **SMALL)
    (config["pretrained_cfg"] if in_pretrained_cfg else config).update(change)
    return list(translate(config).id2label.values())


@pytest.mark.parametrize("in_pretrained_cfg", [False, True])
def test_class_names(in_pretrained_cfg: bool) -> None:
    assert labels({}, in_pretrained_cfg) == ["class 0", "class 1", "class 2"]
    assert labels({"label_names": ["a", "b", "c"]}, in_pretrained_cfg) == ["a", "b", "c"]
    assert labels({"labels": ["a", "b", "c"]}, in_pretrained_cfg) == ["a", "b", "c"]
    described = {"label_names": ["n1", "n2", "n3"], "label_descriptions": {"n1": "cat", "n3": "dog, hound"}}
    assert labels(described, in_pretrained_cfg) == ["cat", "n2", "dog, hound"]
    both = timm_config("vit_tiny_patch16_224", 3, **SMALL) | {"label_names": ["a", "b", "c"]}
    both["pretrained_cfg"]["label_names"] = ["x", "y", "z"]
    assert translate(both).id2label == {0: "a", 1: "b", 2: "c"}
    assert labels({"label_names": {"2": "c", "0": "a"}}, in_pretrained_cfg) == ["a", "class 1", "c"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"label_names": ["a", "b"]}, "3 outputs and .* 2 class names"),
        ({"label_names": ["a", "b", "c", "d"]}, "3 outputs and .* 4 class names"),
        ({"label_names": {"3": "a"}}, "3 outputs and .* 4 class names"),
        ({"label_names": {"-1": "a"}}, "none for class 3"),
        ({"label_names": {"x": "a"}}, "no table of names"),
        ({"label_names": ["a", "b", ["c"]]}, "names"),
        ({"label_names": "abc"}, "no table of names"),
        ({"label_names": ["a", "b", "c"], "label_descriptions": ["x"]}, "no table of names"),
    ],
)
def test_class_names_rejected(change: dict[str, Any], words: str) -> None:
    with pytest.raises(CheckpointError, match=words):
        labels(change)
