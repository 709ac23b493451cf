from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Run
from PIL import Image
from pyarrow import parquet

from vit_pipeline import ViTPipeline, cli
from vit_pipeline.errors import ArgumentError, ImageError, OutputError, VitPipelineError
from vit_pipeline.features import save_features, similar, stream_features

PHOTOS = Path(__file__).parents[2] / "examples"
NAMES = [str(PHOTOS / name) for name in ("cat.png", "coffee.png", "rocket.jpg", "astronaut.png")]


@pytest.fixture(scope="module")
def pipe() -> ViTPipeline:
    return ViTPipeline.from_pretrained("demo", device="cpu")


@pytest.fixture
def variants(tmp_path: Path) -> Path:
    """The cat and the rocket, each a little changed, in a folder."""
    folder = tmp_path / "variants"
    folder.mkdir()
    for name in ("cat.png", "rocket.jpg"):
        image = Image.open(PHOTOS / name).convert("RGB")
        width, height = image.size
        for number in range(3):
            box = (number * 8, 0, width - 8 * number, height - 8)
            image.crop(box).save(folder / f"{Path(name).stem}{number}.png")
    return folder


@pytest.mark.parametrize("pool", ["cls", "mean", "patches"])
@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_files_hold_names_and_features(pipe: ViTPipeline, tmp_path: Path, suffix: str, pool: str) -> None:
    path = tmp_path / f"features{suffix}"
    errors: list[VitPipelineError] = []
    sources = [*NAMES[:2], str(tmp_path / "gone.png"), *NAMES[2:]]
    assert save_features(sources, path, pipe, pool=pool, batch_size=3, on_error=errors.append) == 4
    assert [type(error) for error in errors] == [ImageError]
    if suffix == ".npz":
        with np.load(path) as table:
            names, values = table["source"].tolist(), table["features"]
            assert str(table["model"]) == "demo"
    else:
        read = parquet.read_table(path)
        names, values = read["source"].to_pylist(), np.array(read["features"].to_pylist(), np.float32)
        assert read.schema.metadata[b"model"] == b"demo"
    assert names == NAMES
    expected = pipe.features(NAMES, pool=pool).numpy()
    assert values.shape == expected.shape
    np.testing.assert_allclose(values, expected, atol=1e-5)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_nothing_to_write_gives_no_file(pipe: ViTPipeline, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"features{suffix}"
    assert save_features(["gone.png"], path, pipe, on_error=lambda _: None) == 0
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_leaves_nothing_behind(pipe: ViTPipeline, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"must end in \.npz or \.parquet"):
        save_features(NAMES, tmp_path / "features.csv", pipe)
    with pytest.raises(OutputError, match="cannot be written"):
        save_features(NAMES, tmp_path / "gone" / "features.npz", pipe)
    (tmp_path / "old.npz").write_bytes(b"old")
    with pytest.raises(ImageError):
        save_features([*NAMES, "gone.png"], tmp_path / "old.npz", pipe)
    assert (tmp_path / "old.npz").read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["old.npz"]


def test_streaming_reads_no_further_than_it_must(pipe: ViTPipeline) -> None:
    asked: list[str] = []

    def sources() -> object:
        for name in NAMES * 5:
            asked.append(name)
            yield name

    stream = stream_features(sources(), pipe, batch_size=2)
    names, features = next(stream)
    assert (names, features.shape) == (NAMES[:2], (2, 192))
    assert len(asked) <= 10
    stream.close()  # type: ignore[attr-defined]


def test_an_image_that_preprocessing_rejects_does_not_stop_the_others(tmp_path: Path, run: Run) -> None:
    """3000×1 pixels, and a checkpoint that crops."""
    model = Path(__file__).parents[1] / "golden" / "timm_vit_small_mini"
    images = tmp_path / "images"
    images.mkdir()
    for name in ("a.png", "c.png"):
        Image.open(NAMES[0]).save(images / name)
    Image.new("RGB", (60_000, 1)).save(images / "b.png")
    output = tmp_path / "features.npz"
    code, _, err = run("features", images, "-o", output, "--model", model)
    assert (code, "b.png" in err, "<PIL" in err) == (1, True, False)
    with np.load(output) as table:
        assert [Path(name).name for name in table["source"]] == ["a.png", "c.png"]
    code, out, err = run("similar", NAMES[2], images, "--json", "--model", model)
    assert (code, len(out.splitlines()), "b.png" in err) == (1, 2, True)


def test_every_image_is_read_once(pipe: ViTPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    real = ViTPipeline.read

    def read(self: ViTPipeline, source: str, **options: object) -> Image.Image:
        asked.append(source)
        return real(self, source, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(ViTPipeline, "read", read)
    save_features(NAMES, tmp_path / "f.npz", pipe)
    assert sorted(asked) == sorted(NAMES)


def test_similar_finds_the_same_subject_first(pipe: ViTPipeline, variants: Path) -> None:
    images = sorted(str(path) for path in variants.iterdir())
    found = similar(variants / "cat0.png", images, pipe, top_k=4)
    assert [Path(neighbour.source).name[:3] for neighbour in found] == ["cat", "cat", "roc", "roc"]
    assert str(variants / "cat0.png") not in [neighbour.source for neighbour in found]
    similarities = [neighbour.similarity for neighbour in found]
    assert similarities == sorted(similarities, reverse=True)
    query, other = pipe.features([variants / "cat0.png", found[0].source])
    assert similarities[0] == pytest.approx(torch.cosine_similarity(query, other, dim=0).item(), abs=1e-5)
    assert len(similar(NAMES[0], images, pipe, top_k=100, batch_size=4)) == 6
    for wrong in ({"top_k": 0}, {"pool": "patches"}):
        with pytest.raises(ArgumentError):
            similar(NAMES[0], images, pipe, **wrong)


@pytest.mark.slow
def test_the_commands(
    tmp_path: Path, variants: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["vit-pipeline", *arguments, "--model", "demo"])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        return (int(caught.value.code or 0), *capfd.readouterr())

    code, out, _ = run("similar", str(variants / "cat1.png"), str(variants), "--top-k", "2")
    assert code == 0
    assert [Path(line.split("  ")[1]).name for line in out.splitlines()] == ["cat0.png", "cat2.png"]
    code, out, _ = run("similar", str(variants / "cat1.png"), str(variants), "--json")
    assert len([json.loads(line)["similarity"] for line in out.splitlines()]) == 5
    (variants / "bad.png").write_bytes(b"bad")
    output = tmp_path / "features.npz"
    code, out, err = run("features", str(variants), str(tmp_path / "*.gif"), "-o", str(output))
    assert (code, out) == (1, "")
    assert "features of 6 images, 2 errors" in err
    with np.load(output) as table:
        assert table["features"].shape == (6, 192)
    assert run("features", str(variants), "-o", "features.txt")[0] == 2
