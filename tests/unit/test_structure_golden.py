"""What ``structure`` prints and writes, as files that one reads in review: tests/golden/structure.

After a change of the output that is meant, write them anew and read the diff::

    UPDATE_GOLDEN=1 python -m pytest tests/unit/test_structure_golden.py && git diff tests/golden/structure

The version of transformers, and the numbers of a trace, which depend on the CPU, are replaced by fixed ones.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from vit_pipeline.structure import Comparison, ModelStructure, compare, describe

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "structure"


@cache
def described(model: str, lang: Any, order: Any = "execution", image: str | None = None) -> ModelStructure:
    structure = describe(model, lang, image and ROOT / image, order=order, exactness=True)
    steps = tuple(
        replace(
            step,
            mean=place / -8,
            std=place / 4,
            cls_norm=None if step.cls_norm is None else place * 1.5,
            difference=None if step.difference is None else place * 1e-7,
        )
        for place, step in enumerate(structure.steps)
    )
    ramp = tuple(tuple(col / 8 for col in range(row, row + 8)) for row in range(8))
    seen = structure.seen and replace(structure.seen, image="data:,", veil="data:,", attention=ramp)
    return replace(structure, library="transformers 5", steps=steps, source=image or "", seen=seen)


@cache
def compared(lang: Any) -> Comparison:
    return compare(described("vit-base", lang), described("vit-small", lang))


def as_json(found: ModelStructure) -> str:
    return json.dumps(found.to_dict(), ensure_ascii=False, indent=1) + "\n"


def as_html(found: ModelStructure | Comparison) -> str:
    return re.sub("<style>.*?</style>", "<style>…</style>", found.to_html(), flags=re.DOTALL)


def text(width: int) -> Callable[[Any], str]:
    return lambda found: found.to_text(width) + "\n"


CASES: dict[str, tuple[Callable[[], ModelStructure | Comparison], Callable[[Any], str]]] = {}
for lang in ("en", "zh"):
    for model in ("demo", "vit-base", "vit-small"):
        CASES[f"{model}.{lang}.txt"] = (lambda m=model, la=lang: described(m, la)), text(100)
    CASES[f"demo.module.{lang}.txt"] = (lambda la=lang: described("demo", la, "module")), text(100)
    for width in (60, 80, 120, 200):
        CASES[f"vit-base.{width}.{lang}.txt"] = (lambda la=lang: described("vit-base", la)), text(width)
    traced = lambda la=lang: described("demo", la, image="examples/cat.png")  # noqa: E731
    CASES[f"demo.image.{lang}.txt"] = traced, text(100)
    CASES[f"demo.image.{lang}.html"] = traced, as_html
    CASES[f"demo.image.{lang}.md"] = traced, lambda found: found.to_markdown()
    CASES[f"demo.{lang}.json"] = (lambda la=lang: described("demo", la)), as_json
    CASES[f"vit-small.{lang}.md"] = (lambda la=lang: described("vit-small", la)), lambda f: f.to_markdown()
    both = lambda la=lang: compared(la)  # noqa: E731
    CASES[f"compare.{lang}.html"] = both, as_html
    CASES[f"compare.{lang}.md"] = both, lambda found: found.to_markdown()
    for width in (80, 100, 200):
        CASES[f"compare.{width}.{lang}.txt"] = both, text(width)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_output_is_that_of_the_golden_file(name: str) -> None:
    make, write = CASES[name]
    found = write(make())
    path = GOLDEN / name
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(found, encoding="utf-8")
    assert found == path.read_text(encoding="utf-8")


def test_every_golden_file_has_a_case() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == CASES.keys()
