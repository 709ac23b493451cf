"""The inside of an answer: the numbers that the page draws are those of an Explanation."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vit_pipeline import ViTPipeline
from vit_pipeline.errors import ArgumentError, VitPipelineError
from vit_pipeline.explain import METHODS
from vit_pipeline.images import to_data_url
from vit_pipeline.webui import inside, views
from vit_pipeline.webui.handlers import Handlers
from vit_pipeline.webui.serving import Busy, ModelPool, Worker

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
CAT = ROOT / "examples" / "cat.png"
TIMM = ROOT / "tests" / "golden" / "timm_vit_small_mini"


def asked(pipe: ViTPipeline, **more: Any) -> dict[str, Any]:
    seen = views.pictured(pipe, CAT)["seen"]
    given = {"image": seen, "target": pipe(CAT).index, "method": "gradient-attention", "token": 0}
    return given | {"layer": 0, "head": -1} | more


def look(pipe: ViTPipeline, insides: inside.Insides | None = None, **given: Any) -> dict[str, Any]:
    insides = insides or inside.Insides()
    return asyncio.run(insides.look(pipe, "en", asked(pipe, **given)))


@pytest.fixture(scope="module", params=["demo", TIMM])
def pipe(request: pytest.FixtureRequest) -> ViTPipeline:
    return ViTPipeline.from_pretrained(request.param, device="cpu")


def test_the_maps_are_those_of_the_image_that_was_given(pipe: ViTPipeline) -> None:
    """Also where it was cropped: the page has the image as the model saw it, and sends that."""
    e, insides = pipe.explain(CAT), inside.Insides()
    for method in METHODS:
        assert (
            look(pipe, insides, method=method)["map"]
            == e.heatmap(method, **({"layer": 0} if method == "attention" else {})).ravel().tolist()
        ), method
    last = len(e.attentions) - 1
    row = look(pipe, insides, method="attention", layer=last, head=1, token=3)
    assert row["map"] == e.attentions[last, 1, 3, 1:].tolist()
    to = divmod(int(np.argmax(row["map"])), e.grid[1])
    assert f"row {to[0] + 1}, column {to[1] + 1} ({max(row['map']):.1%})" in row["said"]
    found = look(pipe, insides, lens=True, trust=True)
    assert [at["score"] for at in found["lens"]] == [at.score for at in e.lens]
    assert found["lens"][-1]["label"] == e.prediction.label
    assert f"this map {e.faithfulness().gain:+z.2f}".replace("-", "−") in found["trust"]


def test_another_class_has_another_map() -> None:
    demo = ViTPipeline.from_pretrained("demo", device="cpu")
    dog = demo.explain(CAT, "dog")
    found = look(demo, target=dog.target.index)
    assert found["map"] == dog.heatmap().ravel().tolist() != demo.explain(CAT).heatmap().ravel().tolist()
    assert "“dog”" in found["said"]


def test_only_the_last_images_are_kept() -> None:
    demo, insides = ViTPipeline.from_pretrained("demo", device="cpu"), inside.Insides()
    for target in [*range(10), 9, 2]:
        look(demo, insides, target=target)
    assert [key[1] for key in insides._kept] == [3, 4, 5, 6, 7, 8, 9, 2]


@pytest.mark.parametrize(
    "wrong",
    [
        {"image": "/etc/passwd"},
        {"image": "data:image/png;base64,AAAA"},
        {"image": to_data_url(Image.new("RGB", (64, 64)))},
        {"target": 10},
        {"target": "cat"},
        {"method": "magic"},
        {"method": None},
        {"method": "attention", "layer": 6},
        {"method": "attention", "head": 99},
        {"method": "attention", "token": 65},
        {"method": "attention", "token": [1]},
    ],
)
def test_what_a_stranger_sends(wrong: dict[str, Any]) -> None:
    demo = ViTPipeline.from_pretrained("demo", device="cpu")
    with pytest.raises(VitPipelineError) as caught:
        look(demo, **wrong)
    assert "\n" not in str(caught.value)
    assert views.failed(caught.value)["problem"] in ("ImageError", "VitPipelineError")


def test_so_many_may_wait() -> None:
    demo, insides = ViTPipeline.from_pretrained("demo", device="cpu"), inside.Insides()
    given = asked(demo)

    async def crowd() -> list[Any]:
        calls = (insides.look(demo, "en", given) for _ in range(inside.MAX_WAITING + 2))
        return await asyncio.gather(*calls, return_exceptions=True)

    found = asyncio.run(crowd())
    assert [isinstance(one, Busy) for one in found] == [False] * inside.MAX_WAITING + [True] * 2
    assert "map" in asyncio.run(insides.look(demo, "en", given))


def test_arguments_are_named() -> None:
    with pytest.raises(ArgumentError, match="head"):
        look(ViTPipeline.from_pretrained("demo", device="cpu"), method="attention", head=1.5)


@pytest.mark.parametrize("asked", [None, [], {}, {"model": "/etc", "lang": "zh"}, {"model": "", "image": 7}])
def test_a_problem_is_a_sentence(asked: Any) -> None:
    do = Handlers(ModelPool("demo", device="cpu"), Worker())
    found = asyncio.run(do.inside(asked))
    assert [*found] == ["problem"]
    assert 'role="alert"' in found["problem"]
