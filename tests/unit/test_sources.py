from __future__ import annotations

import os
import subprocess
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from vit_pipeline.errors import ImageError
from vit_pipeline.sources import find_images


def found(sources: list[Any]) -> list[Any]:
    return [source for _, source in find_images(sources)]


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
    assert found(["."]) == ["./a.png", "./b.JPG", "./sub/[1].bmp", "./sub/c.webp"]
    assert found([folder / "sub"]) == [str(folder / "sub/[1].bmp"), str(folder / "sub/c.webp")]


def test_patterns_files_and_urls_in_the_order_given(folder: Path) -> None:
    url = "https://example.com/*.png"
    sources = [
        "data:image/png;base64," + "A" * 5000,
        "x" * 5000,
        "*.png",
        "sub/[1].bmp",
        url,
        "gone.png",
        "**/c.*",
    ]
    rest = ["a.png", "sub/[1].bmp", url, "gone.png", "sub/c.webp"]
    assert found(sources) == [*sources[:2], *rest]


def test_links_to_folders_are_not_followed_in_circles(folder: Path) -> None:
    (folder / "sub" / "again").symlink_to(folder)
    assert len(found([folder])) == 4


@pytest.mark.parametrize(
    ("source", "says"), [("empty", "no images in this folder"), ("*.tiff", "no file matches this glob")]
)
def test_nothing_found_is_an_error(folder: Path, source: str, says: str) -> None:
    ((name, error),) = find_images([source])
    assert name == source
    assert isinstance(error, ImageError)
    assert says in str(error)


def test_lists_in_files_and_from_stdin(folder: Path) -> None:
    lines = "\ufeffa.png\r\n\r\nsub\n*.png\nhttps://example.com/x.png".encode()
    (folder / "list.txt").write_bytes(lines)
    expected = ["a.png", "sub", "*.png", "https://example.com/x.png"]
    assert found(["list.txt"]) == found([BytesIO(lines)]) == expected
    assert list(find_images([b"bytes"])) == [("<stdin>", b"bytes")]


def test_what_cannot_be_listed_is_an_error_in_its_place(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.scandir

    def scandir(path: Any) -> Any:
        if str(path).endswith("sub"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    (folder / "z.png").write_bytes(b"")
    monkeypatch.setattr(os, "scandir", scandir)
    names = [(name, type(source)) for name, source in find_images(["."])]
    assert names == [("./a.png", str), ("./b.JPG", str), ("./sub", ImageError), ("./z.png", str)]


def test_folders_may_be_very_deep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(1500):
        Path("d").mkdir()
        os.chdir("d")
    Path("x.png").write_bytes(b"")
    os.chdir(tmp_path)
    try:
        assert len(found(["d"])) == 1
    finally:
        subprocess.run(["rm", "-rf", "d"], check=True)  # pytest's own way to remove it is recursive


def test_a_glob_passes_over_what_cannot_be_looked_at(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that can be listed and not entered: its files cannot even be asked what they are."""
    real = os.stat

    def stat(path: Any, **options: Any) -> Any:
        if "sub" in str(path):
            raise PermissionError(13, "Permission denied")
        return real(path, **options)

    monkeypatch.setattr(os, "stat", stat)
    assert found(["**/*.png"]) == ["a.png"]
