"""The structure as text, Markdown, HTML and JSON, and two structures side by side."""

from __future__ import annotations

import html.parser
import io
import json
import re
import subprocess
import sys
from typing import Any

import pytest
import torch
from rich.cells import cell_len
from rich.console import Console
from torch import nn
from vit_trees import tiny

from vit_pipeline.names import DATA_FOLDER
from vit_pipeline.structure import ModelStructure, compare, describe
from vit_pipeline.structure.text import wrap

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def base() -> ModelStructure:
    return describe("vit-base")


def test_fits_a_screen(base: ModelStructure) -> None:
    for lang in ("en", "zh"):
        for order in ("module", "execution"):
            lines = str(describe("vit-base", lang=lang, order=order)).splitlines()  # type: ignore[arg-type]
            assert len(lines) <= 40
            assert max(map(cell_len, lines)) <= 100
    assert "86,567,656" in str(base)
    assert "17.564 G" in str(base)
    assert "16.867 G" in str(base)
    assert max(map(cell_len, base.to_text(160).splitlines())) <= 160
    assert "GELUActivation" in base.to_text(160)


def test_columns_of_the_chinese_table_are_aligned() -> None:
    lines = str(describe("vit-base", lang="zh")).splitlines()
    start = next(place for place, line in enumerate(lines) if line.startswith("─")) + 1
    table = lines[start : next(place for place, line in enumerate(lines) if line.startswith("Σ"))]
    left = lines[start - 2].index("MACs")
    column = cell_len(lines[start - 2][: left + 4])
    for line in table:  # every number of MACs ends under the end of its title
        cells = [place for place in range(len(line)) if cell_len(line[:place]) == column]
        assert cells
        assert line[cells[0] - 1] in "GMk·"


def test_terminal_codes_in_names_are_not_printed() -> None:
    model = tiny()
    model.vit.add_module("\x1b[31mred", nn.ReLU())
    assert "\x1b" not in str(describe(model))


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_no_line_overflows_and_wide_is_as_compact_as_narrow(lang: Any) -> None:
    traced = describe(tiny(12), lang, torch.zeros(1, 3, 32, 32), order="execution")
    for found in (describe("vit-base", lang), traced, compare("vit-base", "vit-small", lang)):
        longest = len(found.to_text(80).splitlines())
        for width in (40, 60, 80, 100, 120, 200):
            lines = found.to_text(width).splitlines()
            assert max(map(cell_len, lines)) <= width
            assert not any(line[:1] in "，。；：、）”！？" for line in lines if line)
            assert width < 80 or len(lines) <= longest


def test_a_table_has_as_many_columns_as_fit(base: ModelStructure) -> None:
    def head(width: int) -> str:
        return base.to_text(width).splitlines()[4]

    widest = max(map(cell_len, base.to_text(300).splitlines()[5:7]))
    assert head(widest) == head(300)
    assert head(widest - 1) != head(300)
    assert any("GELUActivation  " in line for line in base.to_text(widest - 1).splitlines())


def test_chinese_breaks_between_characters_but_not_before_punctuation() -> None:
    assert wrap("注意力，权重。", 6).plain.split("\n") == ["注意", "力，权", "重。"]
    assert wrap("a longword, 值", 8).plain.split("\n") == ["a", "longword", ", 值"]


def test_a_terminal_gets_styles_and_nothing_else_more() -> None:
    structure = describe("demo")
    file = io.StringIO()
    Console(file=file, width=100, force_terminal=True, color_system="standard", no_color=True).print(
        structure
    )
    plain = re.sub(r"\x1b\[[0-9;]*m", "", file.getvalue())
    assert plain != file.getvalue()
    assert [line.rstrip() for line in plain.splitlines()] == str(structure).splitlines()


def test_in_a_notebook_its_text_is_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """There, rich would display it instead."""
    expected = str(describe("demo"))
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    assert str(describe("demo")) == expected


# The pages


class Page(html.parser.HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "srcset")]
        if tag not in ("meta", "br", "wbr"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_html_is_whole_and_self_contained(lang: Any) -> None:
    structure = describe("vit-base", lang=lang)
    for text in (structure.to_html(), structure._repr_html_()):
        page = Page(text)
        assert page.open == []
        assert page.links == []
        assert "script" not in page.tags
        shown = [depth for _, depth in structure._shown()]
        assert page.tags.count("details") == sum(map(int.__lt__, shown, shown[1:]))
        assert len(re.findall(r"<details [^>]*open", text)) == 1  # the rest is folded: it fits a slide
        assert "url(" not in text
        assert "@import" not in text
        for row in structure.rows[1:]:
            if row.class_name == "ModuleList":
                continue
            assert row.text in html.unescape(text)
            assert f"{row.params_total:,}" in text
    assert structure.to_html().startswith("<!doctype html>")
    assert not structure._repr_html_().startswith("<!doctype")


def test_hostile_names_cannot_break_out() -> None:
    bad = '<script>alert("1")</script>|`x`{{ 7 }}\n| [bold]'
    model = tiny()
    model.vit.add_module(bad, type(bad, (nn.Module,), {})())
    structure = describe(model)
    assert bad in {row.label for row in structure.rows}
    assert "[bold]" in str(structure)
    for page in (structure.to_html(), structure.to_markdown()):
        assert "<script" not in page
        assert "{{ 7 }}" in page
    table = [line for line in structure.to_markdown().splitlines() if line.startswith("|")]
    assert {line.count("|") for line in table} == {10}
    compared = compare(model, "demo")
    assert "<script" not in compared.to_html()
    assert "<script" not in compared.to_markdown()


def test_dict_is_json_and_says_everything(base: ModelStructure) -> None:
    entry = json.loads(json.dumps(base.to_dict()))
    assert entry == base.to_dict()  # plain lists and numbers, no tuples
    assert entry["params"] == 86_567_656
    assert entry["weight_bytes"] == {
        "float32": 346_270_624,
        "bfloat16": 173_135_312,
        "float16": 173_135_312,
        "int8": 86_567_656,
    }
    query = next(row for row in entry["rows"] if row["role"] == "query")
    assert query["path"] == "vit.layers.0.attention.q_proj"
    assert query["shown_path"] == "vit.layers.0–11.attention.q_proj"
    assert query["class_name"] == "Linear"
    assert query["tutorial_paths"] == ["vit.encoder.layer.0.attention.attention.query"]
    assert query["checkpoint_key"] == "vit.encoder.layer.0.attention.attention.query"
    assert (query["in_shape"], query["out_shape"]) == ([1, 197, 768], [1, 197, 768])
    assert (query["params"], query["cost"]["macs"], query["repeat"]) == (590_592, 197 * 768 * 768, 12)
    assert query["equation"] == "Eq. 2"
    assert (
        sum(row["cost"]["macs_timm"] * row["repeat"] for row in entry["rows"]) == entry["cost"]["macs_timm"]
    )


def test_markdown_has_every_row_and_column(base: ModelStructure) -> None:
    lines = [line for line in base.to_markdown().splitlines() if line.startswith("|")]
    assert len(lines) == len(base.rows) + 2
    assert "vit.encoder.layer.0.attention.attention.query" in base.to_markdown()


# Side by side


def test_comparison_shows_both_and_what_differs() -> None:
    comparison = compare("vit-base", "vit-small")
    assert comparison.settings == {
        "hidden_size": (768, 384),
        "num_attention_heads": (12, 6),
        "intermediate_size": (3072, 1536),
        "layer_norm_eps": (1e-12, 1e-6),
    }
    text = str(comparison)
    assert "–" not in text.replace("0–11", "")  # no row is missing
    assert max(map(cell_len, text.splitlines())) <= 100
    assert "85,798,656" in text
    assert "21,665,664" in text
    assert json.loads(json.dumps(comparison.to_dict())) == comparison.to_dict()
    assert Page(comparison.to_html()).open == []


def test_comparison_of_a_model_with_itself_has_no_difference() -> None:
    comparison = compare("demo", describe("demo"))
    assert comparison.settings == {}
    for text in (str(comparison), comparison.to_html(), comparison.to_markdown()):
        assert "≠" not in text
        assert "setting" not in text


def test_comparison_marks_only_what_differs() -> None:
    deeper = tiny(4)
    deeper.vit.layernorm.weight = None
    lines = [line for line in str(compare(tiny(2), deeper)).splitlines() if line.endswith("≠")]
    assert [line.lstrip("│├└ ").split()[0] for line in lines] == ["vit", "layers.0–1", "layernorm"]


def test_comparison_shows_what_only_one_has() -> None:
    changed = tiny(4)
    changed.vit.layers[2].dropout.p = 0.5
    changed.vit.add_module("extra", nn.Linear(2, 2))
    lines = str(compare(tiny(2), changed, lang="zh")).splitlines()
    alone = [line for line in lines if " –" in line and "·" not in line.partition(" – ")[0]]
    assert all(line.endswith("≠") for line in alone)
    layer = f"{sum(parameter.numel() for parameter in changed.vit.layers[0].parameters()):,}"
    assert [line.lstrip("│├└ ").split()[0] for line in alone if layer in line] == ["layers.2", "layers.3"]
    (extra,) = [line for line in alone if "extra" in line]
    assert "Σ" not in extra
    assert " 6 " in extra
    swapped = str(compare(changed, tiny(2), lang="zh"))
    assert sum(line.endswith("≠") for line in swapped.splitlines()) == sum(
        line.endswith("≠") for line in lines
    )


# The files that ship


def test_names_of_imagenet_classes() -> None:
    names = (DATA_FOLDER / "imagenet1k_labels.txt").read_text(encoding="utf-8").splitlines()
    assert len(names) == 1000
    known = {
        0: "tench, Tinca tinca",
        134: "crane",
        207: "golden retriever",
        281: "tabby, tabby cat",
        285: "Egyptian cat",
        517: "crane",
        638: "maillot",
        639: "maillot, tank suit",
        967: "espresso",
        999: "toilet tissue, toilet paper, bathroom tissue",
    }
    assert {index: names[index] for index in known} == known
    assert sorted(name for name in names if names.count(name) > 1) == ["crane", "crane"]


@pytest.mark.long
def test_structure_needs_no_more_than_torch_and_transformers() -> None:
    # not scipy: transformers itself imports it with its ViT, where it is installed
    code = (
        "import sys; from vit_pipeline.structure import describe; describe('vit-base').to_html(); "
        "print(*sorted({name.split('.')[0] for name in sys.modules} & "
        "{'modelscope', 'gradio', 'torchvision', 'matplotlib', 'pyarrow', 'pandas', 'sklearn'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
