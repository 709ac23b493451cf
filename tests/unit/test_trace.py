"""The forward pass, recomputed step by step, against ``model()``."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn
from transformers import ViTConfig, ViTForImageClassification, ViTModel

from vit_pipeline.errors import ArgumentError
from vit_pipeline.pipeline import ViTPipeline
from vit_pipeline.structure import ModelStructure, describe

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def demo() -> ViTPipeline:
    return ViTPipeline.from_pretrained("demo", device="cpu")


def tiny(**settings: object) -> ViTForImageClassification:
    torch.manual_seed(0)
    sizes = {"hidden_size": 24, "num_attention_heads": 3, "intermediate_size": 48, "num_hidden_layers": 2}
    return ViTForImageClassification(
        ViTConfig(**{**sizes, "image_size": 32, "patch_size": 8, **settings})
    ).eval()


def compared(structure: ModelStructure) -> list[tuple[str, int | None]]:
    return [(step.role, step.layer) for step in structure.steps if step.difference is not None]


def test_agrees_with_the_embedded_model_at_every_layer(demo: ViTPipeline) -> None:
    structure = describe(demo, image=EXAMPLES / "cat.png", exactness=True)
    everywhere = [("residual_mlp", index) for index in range(6)]
    assert compared(structure) == [
        ("position_embeddings", None),
        *everywhere,
        ("final_layernorm", None),
        ("classifier", None),
    ]
    assert all(step.difference <= 1e-4 for step in structure.steps if step.difference is not None)
    assert compared(describe(demo, image=EXAMPLES / "cat.png")) == []


def test_begins_with_the_image_and_ends_with_its_class(demo: ViTPipeline) -> None:
    structure = describe(demo, image=EXAMPLES / "cat.png")
    explained, seen = demo.explain(EXAMPLES / "cat.png"), structure.seen
    assert seen is not None
    assert seen.patch == (4, 4)
    assert np.allclose(seen.attention, explained.attention(), atol=1e-6)
    assert np.asarray(seen.colours).shape == (8, 8, 3)
    assert seen.colours[0][0] == pytest.approx(np.asarray(explained.image)[:4, :4].mean((0, 1)), abs=1)
    assert [label for label, _ in seen.lens] == [one.label for one in explained.lens]
    assert seen.lens[-1] == ("cat", pytest.approx(demo(EXAMPLES / "cat.png").score, abs=1e-6))
    for lang, answer in (("en", "Predicted class: cat (75.27%)"), ("zh", "预测类别：cat（75.27%）")):
        lines = str(replace(structure, lang=lang)).splitlines()
        assert "cat.png" in lines[0]
        assert sum(set(line) <= set(" ░▒▓█") for line in lines if line) == 8
        assert lines[-1] == answer
    assert "cat 56.17%" in str(structure)
    assert structure.to_dict()["seen"].keys() == {"patch", "colours", "attention", "lens"}
    page = structure.to_html()
    assert page.count("data:image/png") == 3  # the image twice, and the veil
    assert page.index("data:image/png") < page.index("2,693,578") < page.index("Predicted class: cat")


def test_the_images_name() -> None:
    assert describe(tiny()).source == ""
    assert describe(tiny(), image=torch.zeros(1, 3, 32, 32)).source == "pixel_values"


def test_the_image_is_in_colour_where_a_terminal_has_any(demo: ViTPipeline) -> None:
    structure = describe(demo, image=EXAMPLES / "cat.png")
    file = io.StringIO()
    Console(file=file, width=100, force_terminal=True, color_system="truecolor").print(structure)
    red, green, blue = structure.seen.colours[0][0]  # type: ignore[union-attr]
    assert f"38;2;{red};{green};{blue}m██" in file.getvalue()


@pytest.mark.slow
def test_agrees_with_a_random_vit_base_at_every_layer() -> None:
    torch.manual_seed(1)
    model = ViTForImageClassification(ViTConfig(num_labels=1000)).eval()
    model.set_attn_implementation("eager")
    structure = describe(model, image=torch.randn(1, 3, 224, 224), exactness=True)
    assert len(compared(structure)) == 15
    for step in structure.steps:
        assert step.difference is None or step.difference <= 1e-5


def test_steps_have_their_real_shapes_and_values() -> None:
    model = tiny()
    pixels = torch.randn(1, 3, 32, 32)
    steps = describe(model, image=pixels).steps
    by_role = {(step.role, step.layer): step for step in steps}
    assert by_role["projection", None].shape == (1, 24, 4, 4)
    assert by_role["cls_token", None].shape == (1, 17, 24)
    assert by_role["split_heads", 1].shape == (1, 3, 17, 8)
    assert by_role["fc1", 0].shape == (1, 17, 48)
    assert by_role["classifier", None].shape == (1, 2)
    with torch.no_grad():
        hidden = model(pixels, output_hidden_states=True).hidden_states
    last = by_role["residual_mlp", 1]
    assert last.mean == pytest.approx(float(hidden[-1].mean()), abs=1e-6)
    assert last.std == pytest.approx(float(hidden[-1].std()), rel=1e-5)
    assert last.cls_norm == pytest.approx(float(hidden[-1][:, 0].norm()), rel=1e-5)
    assert by_role["patch_embeddings", None].cls_norm is None


@pytest.mark.parametrize(
    "settings", [{"qkv_bias": False}, {"hidden_act": "quick_gelu"}, {"image_size": [32, 16]}]
)
def test_agrees_for_other_configs(settings: dict[str, object]) -> None:
    model = tiny(**settings)
    height, width = settings.get("image_size", [32, 32])  # type: ignore[misc]
    steps = describe(model, image=torch.randn(1, 3, height, width), exactness=True).steps
    assert max(step.difference for step in steps if step.difference is not None) <= 1e-6


def test_a_backbone_is_traced_to_its_last_norm() -> None:
    model = ViTModel(tiny().config, add_pooling_layer=False).eval()
    steps = describe(model, image=torch.randn(1, 3, 32, 32), exactness=True).steps
    assert steps[-1].role == "final_layernorm"
    assert max(step.difference for step in steps if step.difference is not None) <= 1e-6


def test_a_difference_is_seen() -> None:
    model = tiny()
    handle = model.vit.layers[0].register_forward_hook(lambda module, args, output: output + 0.25)
    steps = describe(model, image=torch.randn(1, 3, 32, 32), exactness=True).steps
    handle.remove()
    first = next(step for step in steps if step.role == "residual_mlp" and step.layer == 0)
    assert first.difference == pytest.approx(0.25, abs=1e-5)


def test_nothing_is_done_to_the_model() -> None:
    model = tiny(hidden_dropout_prob=0.5).train()
    model.vit.layers[1].eval()
    modes = [module.training for module in model.modules()]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    describe(model, image=torch.randn(1, 3, 32, 32), exactness=True)
    with pytest.raises(ArgumentError, match="cannot trace"):
        describe(model, image=torch.randn(1, 3, 48, 48))
    assert [module.training for module in model.modules()] == modes
    assert model.config._attn_implementation == "sdpa"
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_what_cannot_be_walked_says_so() -> None:
    pixels = torch.zeros(1, 3, 32, 32)
    with pytest.raises(ArgumentError, match="without weights"), torch.device("meta"):
        describe(ViTForImageClassification(ViTConfig()), image=torch.zeros(1, 3, 224, 224))
    with pytest.raises(ArgumentError, match="config has no weights"):
        describe(ViTConfig(), image=pixels)
    with pytest.raises(ArgumentError, match="bare model cannot read"):
        describe(tiny(), image="cat.png")
    with pytest.raises(ArgumentError, match="one image"):
        describe(tiny(), image=torch.zeros(2, 3, 32, 32))
    with pytest.raises(ArgumentError, match="cannot trace"):
        describe(nn.Sequential(nn.Conv2d(3, 2, 1)), image=pixels)


@pytest.mark.slow
def test_the_walk_is_printed_folded_and_whole(demo: ViTPipeline) -> None:
    folded = str(describe(demo, image=EXAMPLES / "cat.png"))
    assert "vit.layers.0.attention.q_proj" in folded
    assert "vit.layers.5.attention.q_proj" not in folded
    assert "vit.layers.5 + residual" in folded
    assert "Δ model()" not in folded
    whole = str(describe(demo, image=EXAMPLES / "cat.png", all_layers=True))
    assert "vit.layers.5.attention.q_proj" in whole
    page = describe(demo, lang="zh", image=EXAMPLES / "cat.png").to_html()
    assert page.count("vs-result") >= 9
