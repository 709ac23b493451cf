from __future__ import annotations

from pathlib import Path

import pytest

from vit_pipeline.errors import ImageError
from vit_pipeline.sources import find_images


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (
        "b.JPG",
        "a.png",
        "notes.txt",
        ".hidden.png",
        "sub/c.webp",
        ".git/d.png",
        "sub/[1].bmp",
        "empty/x.txt",
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_folder_gives_its_images_sorted_and_none_hidden(folder: Path) -> None:
    assert list(find_images(["."])) == ["./a.png", "./b.JPG", "./sub/[1].bmp", "./sub/c.webp"]
    assert list(find_images([folder / "sub"])) == [str(folder / "sub/[1].bmp"), str(folder / "sub/c.webp")]


def test_patterns_files_and_urls_in_the_order_given(folder: Path) -> None:
    url = "https://example.com/*.png"
    sources = [
        "data:image/png;base64," + "A" * 5000,
        "x" * 5000,
        "*.png",
        "sub/[1].bmp",
        url,
        "notes.txt",
        "gone.png",
        "**/c.*",
    ]
    rest = ["a.png", "sub/[1].bmp", url, "notes.txt", "gone.png", "sub/c.webp"]
    assert list(find_images(sources)) == [*sources[:2], *rest]


def test_links_to_folders_are_not_followed_in_circles(folder: Path) -> None:
    (folder / "sub" / "again").symlink_to(folder)
    assert len(list(find_images([folder]))) == 4


@pytest.mark.parametrize(
    ("source", "says"), [("empty", "no images in this folder"), ("*.tiff", "no file matches this pattern")]
)
def test_nothing_found_is_an_error(folder: Path, source: str, says: str) -> None:
    with pytest.raises(ImageError, match=says):
        list(find_images([source]))
