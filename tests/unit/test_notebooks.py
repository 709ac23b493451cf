"""The tutorial: both notebooks run offline, show what they showed, and take whatever model they are given."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import nbformat
import pytest
import torch
from hub_server import HubServer
from make_timm import timm_config, write_timm
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

ROOT = Path(__file__).parents[2]
REPO = "AI-ModelScope/vit-base-patch16-224"
# put before everything else: no connection leaves this machine
GUARD = """
import socket

def _local(host):
    return host in (None, "", "localhost", "127.0.0.1", "::1")

def _connect(self, address, connect=socket.socket.connect):
    if self.family in (socket.AF_INET, socket.AF_INET6) and not _local(address[0]):
        raise OSError(f"{address} is outside")
    return connect(self, address)

def _getaddrinfo(host, *rest, getaddrinfo=socket.getaddrinfo, **more):
    if not _local(host):
        raise socket.gaierror(f"{host} is outside")
    return getaddrinfo(host, *rest, **more)

socket.socket.connect, socket.getaddrinfo = _connect, _getaddrinfo
"""


def load_build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("notebooks_build", ROOT / "notebooks" / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


build = load_build()
NOTEBOOKS: dict[str, Path] = build.NOTEBOOKS


def read(lang: str) -> NotebookNode:
    notebook = nbformat.read(NOTEBOOKS[lang], as_version=4)
    nbformat.validate(notebook)
    return notebook


def codes(notebook: NotebookNode) -> dict[str, NotebookNode]:
    return {cell.id: cell for cell in notebook.cells if cell.cell_type == "code"}


def texts(cell: NotebookNode) -> str:
    """What a cell says; images as their number, since their pixels depend on the fonts."""
    parts, images = [], 0
    for output in cell.outputs:
        data = output.get("data", {})
        parts.append(output.get("text", data.get("text/markdown", data.get("text/plain", ""))))
        images += "image/png" in data
    text = re.sub(r"<PIL\.\S+ image .*?>|<Figure size .*?>", "", "\n".join(parts))
    return f"{text}\n{images} images"


def assert_same(now: str, then: str, where: str) -> None:
    """Equal, but for the last digit of a rounded number, and the version of transformers."""
    number = r"(?<![\w.])\d+\.\d+"
    now, then = (re.sub(r"transformers [\d.]+", "transformers", text) for text in (now, then))
    assert re.sub(number, "#", now) == re.sub(number, "#", then), f"{where}: run make notebooks"
    pairs = zip(re.findall(number, now), re.findall(number, then), strict=True)
    assert all(float(a) == pytest.approx(float(b), rel=0.01, abs=0.11) for a, b in pairs), where


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No hub within reach, and nothing in its cache."""
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VIT_PIPELINE_HUB_TIMEOUT", "1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


Run = Callable[..., NotebookNode]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Execute a notebook outside the repository, with another MODEL if one is given, as far as a cell."""

    def run(lang: str = "en", model: Any = None, last: str = "") -> NotebookNode:
        notebook = read(lang)
        if last:
            place = [cell.id for cell in notebook.cells].index(last)
            del notebook.cells[place + 1 :]
        if model is not None:
            parameters = codes(notebook)["parameters"]
            assert 'MODEL = "vit-base"' in parameters.source
            parameters.source = parameters.source.replace('"vit-base"', repr(str(model)))
        notebook.cells.insert(0, nbformat.v4.new_code_cell(GUARD, id="guard"))
        return build.execute(notebook, tmp_path)

    return run


def test_code_is_the_same_in_both_but_for_the_language() -> None:
    english, chinese = codes(read("en")), codes(read("zh"))
    assert list(english) == list(chinese)
    assert len(english) > 35
    assert next(iter(english.values())).source == 'MODEL = "vit-base"\nLANG = "en"'
    assert next(iter(chinese.values())).source == 'MODEL = "vit-base"\nLANG = "zh"'
    for name in list(english)[1:]:
        assert english[name].source == chinese[name].source, name
    assert [cell.cell_type for cell in read("en").cells] == [cell.cell_type for cell in read("zh").cells]


@pytest.mark.parametrize("lang", NOTEBOOKS)
def test_committed_notebook_is_what_build_makes(lang: str) -> None:
    committed, built = read(lang), build.compose(lang)
    for ours, theirs in zip(committed.cells, built.cells, strict=True):
        same = (ours.id, ours.source, ours.metadata) == (theirs.id, theirs.source, theirs.metadata)
        assert same, f"{ours.id}: run make notebooks"
    assert committed.metadata == built.metadata


@pytest.mark.parametrize("lang", NOTEBOOKS)
def test_committed_notebook_is_whole_and_self_contained(lang: str) -> None:
    text = NOTEBOOKS[lang].read_text(encoding="utf-8")
    assert len(text.encode()) < 2_000_000
    for unwanted in ("http://", "attachment:", "cdn.", "cdnjs", str(ROOT), "site-packages", "/home/"):
        assert unwanted not in text, unwanted
    cells = codes(read(lang)).values()
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [
        output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"
    ]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 8
    assert "](data:image/png;base64," in text  # the diagram
    collapsed = {cell.id for cell in cells if cell.metadata.get("jupyter", {}).get("source_hidden")}
    assert collapsed == {"setup", "solution-1", "solution-2", "solution-3", "solution-4"}


@pytest.mark.slow
@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("lang", NOTEBOOKS)
def test_runs_offline_and_shows_what_is_committed(run: Run, lang: str) -> None:
    now, then = codes(run(lang)), codes(read(lang))
    for name, cell in then.items():
        assert_same(texts(now[name]), texts(cell), name)
    assert "ModelScope" in texts(now["load"])
    assert "demo (embedded)" in texts(now["load"])
    assert "torch.Size([1, 3, 32, 32])" in texts(now["preprocess"])
    assert "torch.Size([1, 10])" in texts(now["forward"])
    assert "Predicted class: cat" in texts(now["predict"])
    assert {"en": "of 10 classes", "zh": "共 10 类"}[lang] in texts(now["predict"])


@pytest.mark.long
@pytest.mark.slow
def test_takes_the_model_from_the_hub(hub: HubServer, run: Run, tiny_files: dict[str, bytes]) -> None:
    hub.add(REPO, tiny_files)
    cells = codes(run())
    said = texts(cells["load"])
    assert f"vit-base (ModelScope {REPO}), 5 classes" in said
    assert "demo" not in said
    assert hub.downloads == ["config.json", "model.safetensors", "preprocessor_config.json"]
    assert "torch.Size([1, 3, 16, 16])" in texts(cells["preprocess"])
    assert "Predicted class: thing" in texts(cells["predict"])


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.usefixtures("offline")
def test_other_errors_are_not_hidden_behind_the_demo_model(run: Run) -> None:
    with pytest.raises(CellExecutionError, match="ModelNameError"):
        run(model="vit-bass", last="load")


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.usefixtures("offline")
def test_runs_on_a_model_shaped_like_vit_b16(run: Run, tmp_path: Path) -> None:
    """Random weights, all of its layers: about half a minute."""
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil

    torch.manual_seed(0)
    ViTForImageClassification(ViTConfig(num_labels=1000)).save_pretrained(tmp_path / "b16")
    ViTImageProcessorPil().save_pretrained(tmp_path / "b16")
    cells = codes(run(model=tmp_path / "b16"))
    assert "224×224 px  →  14×14 = 196 patches, 16×16 px  →  1 + 196 tokens" in texts(cells["sizes"])
    assert "torch.Size([1, 1000])" in texts(cells["forward"])
    assert "1 / 197" in texts(cells["one-patch"])


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.usefixtures("offline")
def test_runs_on_a_timm_checkpoint(run: Run, tmp_path: Path) -> None:
    config = timm_config("vit_tiny_patch16_224", depth=2, embed_dim=24, num_heads=3)
    cells = codes(run(model=write_timm(tmp_path / "timm", config), last="restored"))
    assert "torch.Size([1, 3, 224, 224])" in texts(cells["preprocess"])
    assert "Predicted class: " in texts(cells["predict"])


# before everything else: vit_pipeline is missing, and %pip says what it would do
MISSING = """
import importlib.util
from IPython import get_ipython

def _find(name, find=importlib.util.find_spec):
    return None if name == "vit_pipeline" else find(name)

importlib.util.find_spec = _find
get_ipython().register_magic_function(lambda line: print("pip", line), magic_name="pip")
"""


def install_cell(lang: str, folder: Path) -> NotebookNode:
    """The install cell as it ended in ``folder``, where vit_pipeline cannot be imported."""
    notebook = read(lang)
    cells = codes(notebook)
    notebook.cells = [nbformat.v4.new_code_cell(MISSING, id="missing"), cells["parameters"], cells["install"]]
    for cell in notebook.cells:
        cell.metadata["tags"] = ["raises-exception"]  # its error is an output, too
    return build.execute(notebook, folder).cells[-1]


@pytest.mark.slow
@pytest.mark.parametrize("lang", NOTEBOOKS)
def test_without_a_clone_nothing_is_installed(lang: str, tmp_path: Path) -> None:
    (output,) = install_cell(lang, tmp_path).outputs
    assert output.output_type == "error"
    (said,) = output.traceback
    assert "vit_pipeline" in said
    assert ("克隆" in said) == (lang == "zh")
    assert ("Clone" in said) == (lang == "en")


@pytest.mark.slow
def test_in_a_clone_that_clone_is_installed(tmp_path: Path) -> None:
    clone = tmp_path / "a clone"
    (clone / "vit_pipeline").mkdir(parents=True)
    (clone / "vit_pipeline" / "pipeline.py").touch()
    (clone / "notebooks").mkdir()
    (output,) = install_cell("en", clone / "notebooks").outputs
    assert output.text == f'pip install --quiet -c "{clone / "constraints.txt"}" "{clone}[notebook]"\n'
