"""timm checkpoints: translated exactly (timm's own numbers, in golden/), or refused by name."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pytest
import torch
from make_timm import formula_image, timm_config, timm_shapes, timm_state, write_timm
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoImageProcessor, ViTConfig, ViTForImageClassification, ViTImageProcessorPil
from transformers.utils import logging

from vit_pipeline.checkpoints.config import check_config, check_processor
from vit_pipeline.checkpoints.tensors import check_tensors, safetensors_shapes
from vit_pipeline.checkpoints.timm_checkpoint import (
    convert_state,
    is_timm_config,
    key_map,
    to_transformers_config,
)
from vit_pipeline.checkpoints.timm_config import read_timm_config
from vit_pipeline.checkpoints.timm_processor import TimmImageProcessor, resize_and_crop, to_processor_config
from vit_pipeline.errors import CheckpointError, ImageError

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
    raw = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    weights = folder / "model.safetensors"
    config = to_transformers_config(raw, safetensors_shapes(weights), folder.name)
    settings = check_config(config, folder.name)
    with safe_open(weights, framework="pt") as tensors:
        state = convert_state(tensors.get_tensor, config)
    check_tensors({name: tuple(tensor.shape) for name, tensor in state.items()}, settings, folder.name)
    model, info = ViTForImageClassification.from_pretrained(
        None, config=ViTConfig(**settings), state_dict=state, output_loading_info=True
    )
    assert not any(info.values())
    return model.eval(), TimmImageProcessor(**to_processor_config(raw, folder.name))


def translate(config: dict[str, Any], **shapes: tuple[int, ...] | None) -> dict[str, Any]:
    found = {**timm_shapes(config), **shapes}
    return to_transformers_config(config, {k: v for k, v in found.items() if v is not None}, "X")


def refused(config: dict[str, Any], **shapes: tuple[int, ...] | None) -> str:
    """The one line with which a checkpoint is refused; a shape of None takes the tensor out."""
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


def recipe(size: int, **changes: Any) -> dict[str, Any]:
    config = timm_config(f"vit_tiny_patch16_{size}")
    return config | {"pretrained_cfg": config["pretrained_cfg"] | changes}


@pytest.mark.parametrize("case", REFERENCE["crops"], ids=lambda c: "-".join(map(str, list(c.values())[:5])))
def test_crops_are_timms(case: dict[str, Any]) -> None:
    config = recipe(case["size"], **{k: case[k] for k in ("crop_pct", "crop_mode", "interpolation")})
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
    config = recipe(224, crop_pct=crop_pct, crop_mode=mode)
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


# --- the recipe -----------------------------------------------------------------------------------------


def test_recipe_defaults_are_timms() -> None:
    config = {"architecture": "vit_base_patch16_384", "pretrained_cfg": {}}
    result = check_processor(to_processor_config(config, "X"), "X")
    assert result["size"] == {"shortest_edge": 438}  # floor(384 / 0.875)
    assert result["crop_size"] == {"height": 384, "width": 384}
    assert result["resample"] == Image.Resampling.BICUBIC
    assert result["image_mean"] == [0.485, 0.456, 0.406]
    assert result["image_std"] == [0.229, 0.224, 0.225]


def test_recipe_of_the_first_flat_configs_and_of_another_img_size() -> None:
    flat = recipe(224)["pretrained_cfg"] | {
        "architecture": "vit_tiny_patch16_224",
        "labels": list("abcdefghij"),
    }
    assert to_processor_config(flat, "X") == to_processor_config(recipe(224), "X")
    config = timm_config("vit_tiny_patch16_224", img_size=[160, 160], **SMALL)
    assert to_processor_config(config, "X")["size"] == {"shortest_edge": 177}  # floor(160 / 0.9)
    assert translate(config)["image_size"] == 160


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
def test_recipe_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(CheckpointError, match=words):
        to_processor_config(recipe(224, **changes), "X")


def test_processor_refuses_what_it_cannot_crop() -> None:
    processor = TimmImageProcessor(**to_processor_config(recipe(224), "X"))
    with pytest.raises(
        ImageError, match="1×100000 pixels is too long and narrow: it would become 248×24,800,000"
    ):
        resize_and_crop(Image.new("RGB", (1, 100_000)), (248, 24_800_000), (224, 224), 3)
    with pytest.raises(ImageError, match="float32"):
        processor(np.zeros((3, 300, 300), np.float32), return_tensors="pt")


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
    again = TimmImageProcessor(**check_processor(saved, "X"))
    assert np.array_equal(crop(again, photo), crop(processor, photo))


# --- sizes, names and tensors ---------------------------------------------------------------------------


@pytest.mark.parametrize("size", [224, 384])
@pytest.mark.parametrize("patch", [8, 16, 32])
@pytest.mark.parametrize(
    ("scale", "width", "heads"), [("tiny", 192, 3), ("small", 384, 6), ("base", 768, 12), ("large", 1024, 16)]
)
def test_every_architecture(scale: str, width: int, heads: int, patch: int, size: int) -> None:
    config = translate(timm_config(f"vit_{scale}_patch{patch}_{size}", depth=2))
    checked = check_config(config, "X")
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
    assert {name: checked[name] for name in expected} == expected


def test_full_size_vit_small() -> None:
    raw = timm_config("vit_small_patch16_224", 1000)
    assert sum(math.prod(shape) for shape in timm_shapes(raw).values()) == 22_050_664
    config = translate(raw)
    with torch.device("meta"):
        model = ViTForImageClassification(ViTConfig(**check_config(config, "X")))
    assert sum(parameter.numel() for parameter in model.parameters()) == 22_050_664
    assert config["id2label"][0] == "tench, Tinca tinca"
    assert config["id2label"][999] == "toilet tissue, toilet paper, bathroom tissue"


def test_qkv_is_split_in_order_without_a_copy() -> None:
    raw = timm_config("vit_tiny_patch16_224", **SMALL)
    state, config = timm_state(raw), translate(raw)
    converted = convert_state(state.__getitem__, config)
    fused = state["blocks.1.attn.qkv.weight"]  # (3 · 48, 48)
    names = key_map(config)["blocks.1.attn.qkv.weight"]
    assert [name.rsplit(".", 2)[1] for name in names] == ["query", "key", "value"]
    for index, name in enumerate(names):
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
    }
    with_them = copy.deepcopy(raw)
    with_them["model_args"] |= harmless
    assert translate(with_them) == translate(raw)


# --- refused --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"reg_tokens": 4}, "register tokens"),
        ({"global_pool": "avg"}, "mean pooling"),
        ({"global_pool": "map"}, "attention pooling"),
        ({"global_pool": ""}, "pooling"),
        ({"init_values": 1e-5}, "layer scale"),
        ({"dynamic_img_size": True}, "dynamic_img_size"),
        ({"qk_norm": True}, "normalised queries and keys"),
        ({"pre_norm": True}, "norm before the layers"),
        ({"class_token": False}, "without class token"),
        ({"no_embed_class": True}, "position embeddings without the class token"),
        ({"final_norm": False}, "last norm"),
        ({"fc_norm": True}, "norm after pooling"),
        ({"act_layer": "quick_gelu"}, "activation"),
        ({"norm_layer": "rmsnorm"}, "norm_layer is 'rmsnorm'"),
        ({"in_chans": 1}, "in_chans is 1"),
        ({"img_size": [224, 192]}, "img_size that is not square"),
        ({"wobble": 3}, "the setting 'wobble'"),
    ],
)
def test_settings_refused_by_name(args: dict[str, Any], words: str) -> None:
    message = refused({**timm_config("vit_tiny_patch16_224"), "model_args": SMALL | args})
    assert re.match(rf"X: not supported: .*{re.escape(words)}", message)
    assert "vit_{tiny,small,base,large}_patch{8,16,32}_{224,384}" in message


@pytest.mark.parametrize(
    ("architecture", "words"),
    [
        ("deit_tiny_distilled_patch16_224", "distillation token"),
        ("vit_medium_patch16_reg4_gap_256", "register tokens"),
        ("vit_base_patch16_siglip_224", "SigLIP"),
        ("vit_base_patch16_clip_224", "CLIP"),
        ("vit_base_patch16_gap_224", "mean pooling"),
        ("eva02_tiny_patch14_224", "rotary"),
        ("vit_relpos_small_patch16_224", "relative position"),
        ("vit_small_r26_s32_224", "convolutional stem"),
        ("convnext_tiny", "a model of another kind (architecture 'convnext_tiny')"),
        ("vit_small_patch14_dinov2", "vit_small_patch14_dinov2"),
        ("vit_small_patch16_224\n", "a model of another kind"),
    ],
)
def test_architectures_refused_by_name(architecture: str, words: str) -> None:
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
        ("fc_norm.weight", "mean pooling"),
        ("blocks.0.ls1.gamma", "layer scale"),
        ("blocks.1.gamma_2", "layer scale"),
        ("blocks.0.attn.q_norm.weight", "normalised queries"),
        ("blocks.0.mlp.norm.weight", "norms inside"),
        ("blocks.0.mlp.w12.weight", "SwiGLU"),
        ("rope.periods", "rotary"),
        ("blocks.0.attn.rel_pos.bias", "relative position"),
        ("patch_embed.backbone.stem.conv.weight", "convolutional stem"),
    ],
)
def test_parts_refused_by_name_where_tensors_alone_have_them(tensor: str, words: str) -> None:
    message = refused(timm_config("vit_tiny_patch16_224", **SMALL), **{tensor: (1, 1, 48)})
    assert message.startswith("X: not supported: ")
    assert words in message
    assert tensor in message


def test_pooling_outside_model_args_is_refused() -> None:
    assert "mean pooling" in refused({**timm_config("vit_tiny_patch16_224", **SMALL), "global_pool": "avg"})
    config = timm_config("vit_tiny_patch16_224", **SMALL)
    config["pretrained_cfg"]["global_pool"] = "avg"
    assert "global_pool is 'avg' in pretrained_cfg" in refused(config)


def test_without_classifier() -> None:
    config = timm_config("vit_tiny_patch16_224", 0, **SMALL)
    assert "without classifier (num_classes is 0)" in refused(config)
    config = timm_config("vit_tiny_patch16_224", **SMALL)
    assert "lack head.weight" in refused(config, **{"head.weight": None, "head.bias": None})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_args": {"depth": 3, "embed_dim": 48}}, "depth is 3 by model_args and 2 by the tensors"),
        ({"model_args": {"depth": 2}}, "embed_dim is 192 by vit_tiny_patch16_224 and 48 by the tensors"),
        (
            {"model_args": {"depth": 2, "embed_dim": 96}},
            "embed_dim is 96 by model_args and 48 by the tensors",
        ),
        ({"model_args": SMALL | {"patch_size": 8}}, "patch_size is 8 by model_args and 16 by the tensors"),
        ({"model_args": SMALL | {"img_size": 384}}, "img_size is 384 by model_args and 224 by the tensors"),
        ({"model_args": SMALL | {"mlp_ratio": 2}}, "mlp_ratio is 2 by model_args and 4.0 by the tensors"),
        ({"model_args": SMALL | {"num_classes": 7}}, "num_classes is 7 by model_args and 10 by the tensors"),
        ({"num_classes": 11}, "num_classes is 11 by config.json and 10 by the tensors"),
        ({"architecture": "vit_tiny_patch32_224"}, "patch_size is 32 by vit_tiny_patch32_224 and 16"),
        ({"model_args": SMALL | {"num_heads": 5}}, "48, which 5 heads do not divide"),
        ({"model_args": SMALL | {"qkv_bias": False}}, "hold unexpected blocks.0.attn.qkv.bias and 1 more"),
        ({"model_args": SMALL | {"qkv_bias": "no"}}, "qkv_bias 'no'"),
        ({"model_args": SMALL | {"depth": 10**12}}, "depth 1000000000000"),
        ({"model_args": SMALL | {"depth": "2"}}, "depth '2'"),
        ({"model_args": SMALL | {"num_heads": True}}, "num_heads True"),
        ({"model_args": SMALL | {"mlp_ratio": math.inf}}, "mlp_ratio inf"),
        ({"model_args": [1]}, "model_args that is not a table"),
        ({"pretrained_cfg": "x"}, "pretrained_cfg that is not a table"),
    ],
)
def test_contradictions_name_both_numbers(change: dict[str, Any], words: str) -> None:
    shapes = timm_shapes(timm_config("vit_tiny_patch16_224", **SMALL))
    with pytest.raises(CheckpointError, match=re.escape(words)):
        to_transformers_config(timm_config("vit_tiny_patch16_224", **SMALL) | change, shapes, "X")


def test_input_size_counts_before_the_name() -> None:
    config = timm_config("vit_tiny_patch16_224", **SMALL)
    config["pretrained_cfg"]["input_size"] = [3, 384, 384]
    assert translate(config)["image_size"] == 384
    message = refused(config, pos_embed=(1, 197, 48))
    assert "img_size is 384 by pretrained_cfg and 224 by the tensors" in message


@pytest.mark.parametrize("name", sorted(timm_shapes(timm_config("vit_tiny_patch16_224", **SMALL))))
def test_each_missing_renamed_or_reshaped_tensor_is_named(name: str) -> None:
    config = timm_config("vit_tiny_patch16_224", **SMALL)
    shape = timm_shapes(config)[name]
    assert f"lack {name}" in refused(config, **{name: None})
    renamed = refused(config, **{name: None, f"{name}_old": shape})
    assert f"lack {name}" in renamed
    refused(config, **{name: (*shape, 1)})
    refused(config, **{name: ()})


def test_left_over_tensors_and_the_class_tokens_position() -> None:
    config = timm_config("vit_tiny_patch16_224", **SMALL)
    assert "hold unexpected extra.weight" in refused(config, **{"extra.weight": (2,)})
    assert "lack blocks.1" in refused(
        config, **{"blocks.1.norm1.weight": None, "blocks.01.norm1.weight": (48,)}
    )
    assert "position embeddings without class token" in refused(config, pos_embed=(1, 196, 48))


# --- class names ----------------------------------------------------------------------------------------


def labels(change: dict[str, Any], in_pretrained_cfg: bool = False) -> list[str]:
    config = timm_config("vit_tiny_patch16_224", 3, **SMALL)
    (config["pretrained_cfg"] if in_pretrained_cfg else config).update(change)
    return list(translate(config)["id2label"].values())


@pytest.mark.parametrize("in_pretrained_cfg", [False, True])
def test_class_names(in_pretrained_cfg: bool) -> None:
    assert labels({}, in_pretrained_cfg) == ["class 0", "class 1", "class 2"]
    assert labels({"label_names": ["a", "b", "c"]}, in_pretrained_cfg) == ["a", "b", "c"]
    assert labels({"labels": ["a", "b", "c"]}, in_pretrained_cfg) == ["a", "b", "c"]
    described = {"label_names": ["n1", "n2", "n3"], "label_descriptions": {"n1": "cat", "n3": "dog, hound"}}
    assert labels(described, in_pretrained_cfg) == ["cat", "n2", "dog, hound"]
    assert labels({"label_names": {"2": "c", "0": "a"}}, in_pretrained_cfg) == ["a", "class 1", "c"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"label_names": ["a", "b"]}, "2 label_names, and the head 3 classes"),
        ({"label_names": ["a", "b", "c", "d"]}, "4 label_names, and the head 3 classes"),
        ({"label_names": {"3": "a"}}, "1 label_names, and the head 3 classes"),
        ({"label_names": {"x": "a"}}, "keys are not numbers"),
        ({"label_names": ["a", "b", 3]}, "not all text"),
        ({"label_names": "abc"}, "no table of class names"),
        ({"label_names": ["a", "b", "c"], "label_descriptions": ["x"]}, "no table of class names"),
    ],
)
def test_class_names_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(CheckpointError, match=words):
        labels(change)
