from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from vit_pipeline.errors import ModelNameError
from vit_pipeline.names import KNOWN_MODELS, parse_name


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def checkpoint(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")


def test_short_names_stand_for_repositories(here: Path) -> None:
    assert parse_name("vit-base").repo == "AI-ModelScope/vit-base-patch16-224"
    assert parse_name("vit-small").repo == "timm/vit_small_patch16_224.augreg_in21k_ft_in1k"
    demo = parse_name("demo")
    assert demo.repo is None
    assert demo.folder is not None
    assert (demo.folder / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("text", "revision", "repo", "pinned"),
    [
        ("acme/tiny", None, "acme/tiny", None),
        ("acme/tiny@v1.0", None, "acme/tiny", "v1.0"),
        ("acme/tiny", "release/2", "acme/tiny", "release/2"),
        ("vit-base@v2", None, "AI-ModelScope/vit-base-patch16-224", "v2"),
        (
            "timm/vit_small_patch16_224.augreg_in21k_ft_in1k",
            None,
            "timm/vit_small_patch16_224.augreg_in21k_ft_in1k",
            None,
        ),
    ],
)
def test_repositories_and_revisions(
    here: Path, text: str, revision: str | None, repo: str, pinned: str | None
) -> None:
    meant = parse_name(text, revision)
    assert (meant.repo, meant.revision, meant.folder) == (repo, pinned, None)


@pytest.mark.parametrize(
    ("text", "repo", "revision"),
    [
        ("https://huggingface.co/google/vit-base-patch16-224", "google/vit-base-patch16-224", None),
        ("https://huggingface.co/acme/tiny/tree/main", "acme/tiny", None),
        ("https://huggingface.co/acme/tiny/tree/v1.0?x=1", "acme/tiny", "v1.0"),
        ("https://huggingface.co/acme/tiny/blob/v1.0/config.json", "acme/tiny", "v1.0"),
        ("huggingface.co/acme/tiny/", "acme/tiny", None),
        ("https://hf.co/acme/tiny#usage", "acme/tiny", None),
        ("https://modelscope.cn/models/acme/tiny", "acme/tiny", None),
        ("https://www.modelscope.cn/models/acme/tiny/summary", "acme/tiny", None),
        ("https://modelscope.cn/models/acme/tiny/files?version=master", "acme/tiny", None),
        ("https://modelscope.cn/models/acme/tiny/file/view/v2/config.json?status=1", "acme/tiny", "v2"),
        (
            "vit_base_patch16_224.augreg2_in21k_ft_in1k",
            "timm/vit_base_patch16_224.augreg2_in21k_ft_in1k",
            None,
        ),
        ("deit3_small_patch16_224.fb_in1k@v1", "timm/deit3_small_patch16_224.fb_in1k", "v1"),
    ],
)
def test_pages_and_timms_names(here: Path, text: str, repo: str, revision: str | None) -> None:
    meant = parse_name(text)
    assert (meant.repo, meant.revision, meant.folder, meant.known) == (repo, revision, None, None)


@pytest.mark.parametrize(
    ("text", "ways"),
    [
        ("vit_base_patch16_224", ("vit-base", "timm/vit_base_patch16_224.TAG")),
        ("vit_small_patch16_224", ("vit-small", "timm/vit_small_patch16_224.TAG")),
        ("deit_tiny_patch16_224", ("timm/deit_tiny_patch16_224.TAG", "fb_in1k")),
    ],
)
def test_timms_names_that_mean_several_models(here: Path, text: str, ways: tuple[str, str]) -> None:
    with pytest.raises(ModelNameError) as caught:
        parse_name(text)
    for way in ways:
        assert way in str(caught.value)
    checkpoint(here / text)
    assert parse_name(text).folder == Path(text)


@pytest.mark.parametrize(
    "text",
    [
        "https://huggingface.co/datasets/acme/tiny",
        "https://huggingface.co/spaces/acme/tiny",
        "https://huggingface.co/acme",
        "https://example.org/acme/tiny",
        "https://huggingface.co/acme/../tiny",
        "https://huggingface.co/acme/tiny/tree/..",
        "http://huggingface.co.example.org/acme/tiny",
    ],
)
def test_pages_of_no_model(here: Path, text: str) -> None:
    with pytest.raises(ModelNameError, match="owner/name"):
        parse_name(text)


def test_a_file_means_its_folder(here: Path) -> None:
    checkpoint(here / "vit")
    for name in ("model.safetensors", "config.json", "pytorch_model.bin", "model.safetensors.index.json"):
        (here / "vit" / name).touch()
        for text in (f"vit/{name}", f"./vit/{name}", str(here / "vit" / name), Path("vit", name)):
            meant = parse_name(text)
            assert meant.folder is not None
            assert meant.folder.resolve() == here / "vit"
    for name in ("vit/model-2.safetensors", "nothing/config.json"):
        with pytest.raises(ModelNameError, match="no such folder"):
            parse_name(name)
    (here / "vit" / "cat.png").touch()
    with pytest.raises(ModelNameError, match="no such folder"):
        parse_name("./vit/cat.png")


def test_a_revision_in_the_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    pinned = dataclasses.replace(KNOWN_MODELS["vit-base"], revision="v1")
    monkeypatch.setitem(KNOWN_MODELS, "vit-base", pinned)
    assert parse_name("vit-base").revision == "v1"
    assert parse_name("vit-base@v2").revision == parse_name("vit-base", "v2").revision == "v2"


def test_folders(here: Path) -> None:
    checkpoint(here / "model")
    checkpoint(here / "deep" / "er" / "model")
    for name in ("./model", "model", str(here / "model"), Path("model"), "deep/er/model"):
        meant = parse_name(name)
        assert meant.folder is not None
        assert (meant.folder / "config.json").is_file()
        assert meant.repo is None


@pytest.mark.parametrize(
    ("folder", "name", "ways"),
    [
        ("vit-base", "vit-base", ("./vit-base", "AI-ModelScope/vit-base-patch16-224")),
        ("acme/tiny", "acme/tiny", ("./acme/tiny", "acme/tiny@master")),
        ("demo", "demo", ("./demo", "demo@embedded")),
        ("vit_a.b", "vit_a.b", ("./vit_a.b", "timm/vit_a.b")),
    ],
)
def test_an_ambiguous_name_prints_the_two_ways_and_both_work(
    here: Path, folder: str, name: str, ways: tuple[str, str]
) -> None:
    checkpoint(here / folder)
    with pytest.raises(ModelNameError) as caught:
        parse_name(name)
    for way in ways:
        assert way in str(caught.value)
    assert parse_name(ways[0]).folder == Path(folder)
    other = parse_name(ways[1])
    assert other.repo is not None or other.folder != Path(folder)


@pytest.mark.parametrize(
    ("name", "revision", "says"),
    [
        ("vit-bas", None, "use vit-base, vit-small, demo"),
        ("", None, "empty"),
        ("./nothing", None, "no such folder"),
        ("acme/tiny@", None, "revision once"),
        ("acme/tiny@v1", "v2", "revision once"),
        ("https://hf.co/acme/tiny/tree/v1", "v2", "revision once"),
        ("acme/tiny", "../../etc", "not a branch or tag"),
        ("acme/..", None, "no such folder"),
        ("demo", "v1", "no revisions"),
        (".", "v1", "no revisions"),
    ],
)
def test_names_that_mean_nothing(here: Path, name: str, revision: str | None, says: str) -> None:
    with pytest.raises(ModelNameError, match=says):
        parse_name(name, revision)
