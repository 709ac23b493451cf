"""Labelled folders and tables, hostile ones too; and labels → a model's classes."""

from __future__ import annotations

import json
import os
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from vit_pipeline.errors import ArgumentError, ImageError
from vit_pipeline.labelled import match_labels, read_labelled
from vit_pipeline.names import IMAGENET_LABELS, IMAGENET_SYNSETS

IMAGENET = IMAGENET_LABELS.read_text("utf-8").splitlines()


def make(top: Path, *names: str) -> Path:
    """Empty files, and a folder where a name ends in a slash."""
    for name in names:
        path = top / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.touch()
    return top


def rows(source: Path, split: str | None = None) -> list[tuple[str, str]]:
    """(path within the source's folder, label)."""
    top = source if source.is_dir() else source.parent
    return [(os.path.relpath(image, top), label) for _, image, label in read_labelled(source, split)]


def test_a_folder_of_class_folders(tmp_path: Path) -> None:
    make(tmp_path, "dog/b.png", "dog/sub/a.jpg", "cat/1.png", "cat/notes.md", ".git/x.png", "stray.png")
    found = read_labelled(tmp_path)
    assert (found.split, dict(found.counts)) == (None, {"cat": 1, "dog": 2})
    expected = [("cat/1.png", "cat"), ("dog/b.png", "dog"), ("dog/sub/a.jpg", "dog")]
    assert rows(tmp_path) == expected
    assert list(found) == list(found)


def test_splits(tmp_path: Path) -> None:
    make(tmp_path, "train/cat/1.png", "Validation/cat/2.png", "test/cat/3.png")
    assert rows(tmp_path) == [("test/cat/3.png", "cat")]
    assert rows(tmp_path, "val") == [("Validation/cat/2.png", "cat")]
    assert rows(tmp_path, "train") == [("train/cat/1.png", "cat")]
    (tmp_path / "test/cat/3.png").unlink()
    (tmp_path / "test/cat").rmdir()
    (tmp_path / "test/unlabelled.png").touch()
    assert read_labelled(tmp_path).split == "val"


def test_train_is_never_taken_unasked_and_may_be_a_class(tmp_path: Path) -> None:
    only = make(tmp_path / "only", "train/cat/1.png")
    with pytest.raises(ArgumentError, match=r"no test or val split; it has train$"):
        read_labelled(only)
    vehicles = make(tmp_path / "vehicles", "train/1.png", "bus/2.png")
    assert dict(read_labelled(vehicles).counts) == {"bus": 1, "train": 1}
    assert dict(read_labelled(make(tmp_path / "words", "train/1.png", "test/2.png")).counts) == {
        "test": 1,
        "train": 1,
    }
    with pytest.raises(ArgumentError, match=r"no val split; it has none$"):
        read_labelled(vehicles, "val")


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_tables(tmp_path: Path, suffix: str) -> None:
    url = "https://example.com/x.png"
    content = [("a/1.png", "猫"), ("../2, 3.png", "<b>"), (str(tmp_path / "z.png"), ".."), (url, "0")]
    table = tmp_path / f"labels{suffix}"
    lines = ["\ufefflabel,more,path", *(f'{label},,"{path}"' for path, label in content), ""]
    if suffix == ".jsonl":
        labels = [*(label for _, label in content[:-1]), 0]
        pairs = zip(content, labels, strict=True)
        lines = [json.dumps({"path": path, "label": label}) for (path, _), label in pairs] + ["", " "]
    table.write_text("\n".join(lines), encoding="utf-8")
    found = read_labelled(table)
    assert dict(found.counts) == {"猫": 1, "<b>": 1, "..": 1, "0": 1}
    images = [image for _, image, _ in found]
    assert images[-1] == url
    assert [os.path.normpath(image) for image in images[:-1]] == [
        str(tmp_path / "a/1.png"),
        str(tmp_path.parent / "2, 3.png"),
        str(tmp_path / "z.png"),
    ]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("x.csv", "path,label\na.png,cat\nb.png,\n", "row 2 has no path and label"),
        ("x.csv", "path,label\na.png\n", "row 1 has"),
        ("x.csv", "a.png,cat\nb.png,dog\n", "row 1 has"),
        ("x.csv", "path,label\n", "no labelled images"),
        ("x.jsonl", '{"path": "a", "label": "b"}\n["a", "b"]\n', "row 2 has"),
        ("x.jsonl", "[" * 100_000, "row 1 has"),
        ("x.txt", "a", "cannot be read: Not a directory"),
        ("x.csv/", "", "no labelled images"),
        ("cat/1.txt", "", "no labelled images"),
    ],
)
def test_nothing_labelled_is_one_line(tmp_path: Path, name: str, content: str, says: str) -> None:
    make(tmp_path, name)
    if content:
        (tmp_path / name).write_text(content)
    with pytest.raises(ArgumentError, match=says):
        read_labelled(tmp_path / name if "/" not in name or name.endswith("/") else tmp_path / "cat")
    with pytest.raises(ArgumentError, match="No such file"):
        read_labelled(tmp_path / "gone.csv")


def test_empty_unreadable_and_circular_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "a/1.png", "a/sub/2.png", "empty/", "locked/3.png")
    for link, to in (
        ("a/again", tmp_path),
        ("loop", tmp_path),
        ("up", tmp_path.parent),
        ("self", tmp_path / "self"),
    ):
        (tmp_path / link).symlink_to(to)
    (tmp_path / "linked").symlink_to(tmp_path / "a" / "sub")
    real = os.scandir

    def scandir(path: Any) -> Any:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    found = read_labelled(tmp_path)
    assert dict(found.counts) == {"a": 2, "empty": 0, "linked": 1, "locked": 0}
    errors = {label: str(image) for _, image, label in found if isinstance(image, ImageError)}
    assert sorted(errors) == ["empty", "locked"]
    assert "no images in this folder" in errors["empty"]
    assert "Permission denied" in errors["locked"]


@pytest.mark.slow
def test_a_class_of_any_size_takes_little_memory(tmp_path: Path) -> None:
    """Its names are sorted; nothing else is held."""
    make(tmp_path, "a/", "b/")
    for number in range(20_000):
        os.close(os.open(tmp_path / "ab"[number % 2] / f"{number}.png", os.O_CREAT))
    tracemalloc.start()
    try:
        assert sum(read_labelled(tmp_path).counts.values()) == 20_000
        assert tracemalloc.get_traced_memory()[1] < 6e6
    finally:
        tracemalloc.stop()


# Labels → classes


def test_labels_are_matched_by_name() -> None:
    labels = ["tabby, tabby cat", "Golden Retriever", "猫", "<b>", "..", "hot dog"]
    given = ["tabby_cat", "golden-retriever", "猫", "<b>", "..", "hot  DOG", "Tabby"]
    assert match_labels(given, labels) == dict(zip(given, [0, 1, 2, 3, 4, 5, 0], strict=True))
    assert match_labels(["Ångström"], ["a", "A\u030angstro\u0308m"]) == {
        "Ångström": 1
    }  # as macOS writes names


def test_a_complete_label_goes_before_one_name_of_it() -> None:
    assert match_labels(["maillot", "tank suit"], IMAGENET) == {"maillot": 638, "tank suit": 639}
    assert match_labels(["a"], ["b, a", "a"]) == {"a": 1}


def test_synsets() -> None:
    """ImageNet's folders are sorted by synset, and so are its classes."""
    synsets = IMAGENET_SYNSETS.read_text("utf-8").split()
    assert synsets == sorted(set(synsets))
    assert list(match_labels(synsets, IMAGENET).values()) == list(range(1000))
    given = ["n02123045-tabby", "n02085620-Chihuahua", "n02012849", "n03126707"]
    assert list(match_labels(given, IMAGENET).values()) == [281, 151, 134, 517]
    for labels in (["cat", "dog"], IMAGENET[:281], ["x"] * 1000):
        with pytest.raises(ArgumentError):
            match_labels(["n02123045"], labels)
    assert match_labels(["n02123045"], ["dog", "n02123045"]) == {"n02123045": 1}


def test_indices_only_where_all_are() -> None:
    assert match_labels(["0", "02", "10"], [*"abcdefghijk"]) == {"0": 0, "02": 2, "10": 10}
    assert match_labels(["0", "1"], ["1", "0"]) == {"0": 1, "1": 0}
    for given in (["0", "b"], ["0", "11"], ["-1"], ["9" * 5000], ["²"]):
        with pytest.raises(ArgumentError):
            match_labels(given, [*"abcdefghijk"])


def test_mappings(tmp_path: Path) -> None:
    mapping = {"kitten": "cat", "puppy": 1, "x": None, "third": "n02123045", "never": "seen"}
    labels = ["cat", "dog", "n02123045, tabby"]
    expected = {"kitten": 0, "puppy": 1, "x": None, "third": 2, "dog": 1}
    path = tmp_path / "mapping.json"
    path.write_text("\ufeff" + json.dumps(mapping), encoding="utf-8")
    for said in (mapping, path, str(path)):
        assert match_labels(expected, labels, said) == expected
    assert match_labels(["crane"], IMAGENET, {"crane": "n03126707"}) == {"crane": 517}
    for content, says in (("[]", "one JSON object"), ("{", "cannot be read"), (None, "No such file")):
        path.unlink(missing_ok=True)
        if content:
            path.write_text(content)
        with pytest.raises(ArgumentError, match=says):
            match_labels(["cat"], labels, path)


def test_what_means_nothing_or_several_classes_is_listed() -> None:
    with pytest.raises(ArgumentError) as caught:
        match_labels(["crane", "goldfish", "hot_dogg", "<i>"], IMAGENET)
    message = str(caught.value)
    assert message.startswith("3 of 4 labels are no class of the model, or several")
    assert message.endswith(": crane (perhaps crane), hot_dogg, <i>")
    with pytest.raises(ArgumentError, match=r"hot_dogg \(perhaps hotdog, hot dog, red hot\)|hot_dogg"):
        match_labels(["hot_dogg"], IMAGENET)
    with pytest.raises(ArgumentError):
        match_labels(["cat"], ["dog", "bird"], {"cat": "mouse"})
