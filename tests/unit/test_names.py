from __future__ import annotations

from pathlib import Path

import pytest

from vit_pipeline.errors import ModelNameError
from vit_pipeline.names import parse_name


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
        ("acme/tiny", "../../etc", "not a branch or tag"),
        ("acme/..", None, "no such folder"),
        ("demo", "v1", "no revisions"),
        (".", "v1", "no revisions"),
    ],
)
def test_names_that_mean_nothing(here: Path, name: str, revision: str | None, says: str) -> None:
    with pytest.raises(ModelNameError, match=says):
        parse_name(name, revision)
