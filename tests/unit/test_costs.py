"""The cost of ViTs in three conventions, against published numbers and against torch's own counter."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import ViTConfig, ViTForImageClassification
from vit_trees import tiny

from vit_pipeline.structure import describe
from vit_pipeline.structure.measure import Cost, measure

SIZES = {"tiny": (192, 3), "small": (384, 6), "base": (768, 12)}


def config(size: str) -> ViTConfig:
    width, heads = SIZES[size]
    names = {"hidden_size": width, "num_attention_heads": heads, "intermediate_size": 4 * width}
    return ViTConfig(**names, num_labels=1000)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "params", "gmacs", "gmacs_timm", "gmacs_tables", "activations", "activations_timm"),
    [
        ("tiny", 5_717_416, 1.254, 1.080, 1.26, 5.97, None),
        ("small", 22_050_664, 4.599, 4.251, 4.61, 11.95, 8.25),
        ("base", 86_567_656, 17.564, 16.867, 17.58, 23.90, 16.49),
    ],
)
def test_published_numbers(
    size: str,
    params: int,
    gmacs: float,
    gmacs_timm: float,
    gmacs_tables: float,
    activations: float,
    activations_timm: float | None,
) -> None:
    structure = describe(config(size))
    assert structure.params == params
    assert round(structure.cost.macs / 1e9, 3) == gmacs
    assert round(structure.cost.macs_timm / 1e9, 3) == gmacs_timm
    assert round(structure.cost.macs_timm_tables / 1e9, 2) == gmacs_tables
    assert round(structure.cost.activations / 1e6, 2) == activations
    if activations_timm is not None:
        assert round(structure.cost.activations_timm / 1e6, 2) == activations_timm
    assert structure.not_counted == ()


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_the_same_as_torch_counts_for_every_attention_kernel(attention: str) -> None:
    settings = config("small")
    settings._attn_implementation = attention
    with torch.device("meta"):
        model = ViTForImageClassification(settings).eval()
    eager = ViTConfig.from_dict(settings.to_dict())
    eager._attn_implementation = "eager"
    with torch.device("meta"):
        counted = ViTForImageClassification(eager).eval()
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        counted(torch.empty(1, 3, 224, 224, device="meta"))
    assert 2 * describe(model).cost.macs == counter.get_total_flops()


def test_rectangular_images_and_other_patches() -> None:
    settings = ViTConfig(image_size=[64, 32], patch_size=[16, 8], hidden_size=24, num_attention_heads=2)
    settings.num_hidden_layers, settings.intermediate_size = 1, 48
    structure = describe(settings)
    tokens = 4 * 4 + 1
    linear = tokens * (4 * 24 * 24 + 2 * 24 * 48) + 24 * 2
    assert structure.cost.macs == 16 * 24 * 3 * 16 * 8 + linear + 2 * tokens**2 * 24
    assert structure.input_shape == (1, 3, 64, 32)


@pytest.mark.parametrize(
    ("module", "shape", "cost"),
    [
        (nn.Linear(3, 5), (1, 7, 3), Cost(105, 105, 105, 35, 35)),
        (nn.Linear(3, 5, bias=False), (1, 7, 3), Cost(105, 105, 105, 35, 35)),
        (nn.Conv2d(4, 8, 3, groups=2), (1, 4, 5, 5), Cost(72 * 18, 72 * 18, 72 * 18, 72, 72)),
        (nn.LayerNorm(6), (1, 7, 6), Cost(macs_timm=5 * 42, macs_timm_tables=5 * 42)),
        (nn.LayerNorm(6, elementwise_affine=False), (1, 6), Cost(macs_timm=24, macs_timm_tables=24)),
        (nn.GELU(), (1, 6), Cost()),
    ],
)
def test_modules_one_by_one(module: nn.Module, shape: tuple[int, ...], cost: Cost) -> None:
    assert [call.cost for call in measure(module, shape)[""]] == [cost]


def test_attention_is_what_the_modules_around_it_do_not_count() -> None:
    rows = {row.role: row for row in describe(config("small")).rows}
    heads, tokens, head_dim = 6, 197, 64
    weights = heads * tokens * tokens
    activations = weights + heads * tokens * head_dim
    macs = 2 * weights * head_dim
    assert rows["attention_core"].cost == Cost(macs=macs, macs_timm_tables=macs, activations=activations)
    assert rows["attention"].cost == Cost()


def test_attention_that_stays_fused_is_counted() -> None:
    class Fused(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.scaled_dot_product_attention(x, x, x)

    (call,) = measure(Fused(), (1, 2, 5, 8))[""]
    macs = 2 * 2 * 5 * 5 * 8
    assert (call.cost.macs, call.cost.macs_timm, call.cost.macs_timm_tables) == (macs, 0, macs)
    assert call.out_shape == (1, 2, 5, 8)


def test_a_module_without_a_formula_is_named() -> None:
    model = tiny()
    model.vit.layers[1].mlp.activation_fn = nn.PReLU()
    structure = describe(model)
    assert structure.not_counted == ("vit.layers.1.mlp.activation_fn",)
    assert structure.cost == describe(tiny()).cost


def test_a_module_without_a_formula_that_is_called_twice_is_named_once() -> None:
    model = tiny()
    model.vit.layers[1].dropout = nn.PReLU()
    assert describe(model, order="execution").not_counted == ("vit.layers.1.dropout",)


def test_counting_leaves_the_modules_of_other_threads_alone() -> None:
    hooks: list[int] = []

    class Spy(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            hooks.append(len(torch.nn.modules.module._global_forward_pre_hooks))
            return super().forward(x)

    assert len(measure(Spy(3, 5), (1, 3))[""]) == 1
    assert hooks == [0]


def test_memory_of_weights() -> None:
    sizes = {"float32": 40, "bfloat16": 20, "float16": 20, "int8": 10}
    assert describe(nn.Sequential(nn.Linear(4, 2))).weight_bytes == sizes
