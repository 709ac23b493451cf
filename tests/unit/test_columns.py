"""Columns in, columns out; and the example on Ray, its processes killed."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import PATIENCE, wait_for

from vit_pipeline import ViTPipeline
from vit_pipeline.batch import Classifier
from vit_pipeline.errors import ArgumentError, ModelError

ROOT = Path(__file__).parents[2]
PHOTOS = sorted(str(path) for path in (ROOT / "examples").glob("*.[jp][pn]g"))


@pytest.fixture(scope="module")
def pipe() -> ViTPipeline:
    return ViTPipeline.from_pretrained("demo", device="cpu")


def test_paths_or_bytes_in_classes_out(pipe: ViTPipeline, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    paths = [*PHOTOS[:2], str(tmp_path / "bad.png"), *PHOTOS[2:], str(tmp_path / "none.png")]
    classify = Classifier("demo", device="cpu", top_k=2, batch_size=3)
    found = classify({"path": paths, "id": list(range(len(paths)))})
    assert list(found) == ["path", "id", "label", "score", "top", "error"]
    assert found["path"] == paths
    for path, *row in zip(paths, *(found[name] for name in ("label", "score", "top", "error")), strict=True):
        if path in PHOTOS:
            expected = pipe(path, 2)
            assert row[0] == expected.label
            assert row[1] == pytest.approx(expected.score, abs=1e-6)
            assert [one["label"] for one in row[2]] == [one.label for one in expected.top]
            assert row[3] == ""
        else:
            assert (row[0], row[2]) == ("", [])
            assert np.isnan(row[1])
            assert Path(path).name in row[3]
    encoded = np.array([Path(path).read_bytes() for path in PHOTOS], dtype=object)  # as Ray has it
    again = classify({"bytes": encoded, "path": np.array(PHOTOS)})
    assert "bytes" not in again
    assert again["label"] == [label for label in found["label"] if label]
    nameless = classify({"bytes": [b"no image", encoded[0]]})
    assert "not an image" in nameless["error"][0]
    assert nameless["label"][1] == again["label"][0]
    assert classify({"path": []}) == {"path": [], "label": [], "score": [], "top": [], "error": []}


def test_nothing_is_overwritten(pipe: ViTPipeline) -> None:
    classify = Classifier(pipe, prefix="predicted_")
    found = classify({"path": PHOTOS[:1], "label": ["the truth"]})
    assert found["label"] == ["the truth"]
    assert found["predicted_label"] == [pipe(PHOTOS[0]).label]
    with pytest.raises(ArgumentError, match="'label' already; give a prefix"):
        Classifier(pipe)({"path": PHOTOS[:1], "label": ["the truth"]})
    with pytest.raises(ArgumentError, match="the batch has image"):
        Classifier(pipe)({"image": PHOTOS[:1]})
    with pytest.raises(ArgumentError, match="top_k"):
        Classifier(pipe, top_k=0)
    with pytest.raises(ModelError):
        Classifier("no-such-model")({"path": PHOTOS[:1]})


def test_it_travels_without_its_model() -> None:
    """To another process, as datasets' workers have it: the options, not the weights."""
    classify = Classifier("demo", device="cpu")
    classify({"path": PHOTOS[:1]})
    packed = pickle.dumps(classify)
    assert len(packed) < 1000
    assert pickle.loads(packed)({"path": PHOTOS[:1]}) == classify({"path": PHOTOS[:1]})


@pytest.mark.long
def test_a_forked_process_does_not_wait_for_threads_that_it_has_not(tmp_path: Path) -> None:
    """As datasets' workers are, which may begin after the model has run in their parent."""
    script = f"""
import multiprocessing
from vit_pipeline.batch import Classifier
classify, batch = Classifier("demo", device="cpu"), {{"path": {PHOTOS!r}}}
wanted = classify(batch)["label"]
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert [found["label"] for found in pool.map(classify, [batch] * 4)] == [wanted] * 4
"""
    environment = os.environ | {"OMP_NUM_THREADS": "2"}
    command = [sys.executable, "-W", "ignore", "-c", script]
    subprocess.run(command, env=environment, check=True, timeout=PATIENCE)


@pytest.mark.long
def test_on_ray_every_row_once_though_actor_and_driver_are_killed(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    parquet = pytest.importorskip("pyarrow.parquet")
    images, output = tmp_path / "images", tmp_path / "labels"
    images.mkdir()
    for number in range(2000):
        source = Path(PHOTOS[number % len(PHOTOS)])
        (images / f"{number:04}{source.suffix}").symlink_to(source)
    (images / "bad.png").write_bytes(b"no image")
    script = str(ROOT / "examples" / "ray_classify.py")
    command = [sys.executable, script, str(images), str(output), "--model", "demo", "--local-cpus", "4"]
    environment = os.environ | {"RAY_TMPDIR": f"/tmp/ray-{os.getpid()}", "PYTHONPATH": str(ROOT)}

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, start_new_session=True)

    def actors(run: subprocess.Popen[Any]) -> list[int]:
        listing = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True)
        lines = [line.split(None, 1) for line in listing.stdout.splitlines()[1:]]
        return [int(pid) for pid, args in lines if args.startswith("ray::MapWorker(MapBatches(Classifier))")]

    def rows() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for path in output.glob("*.parquet"):
            found += parquet.read_table(path).to_pylist()
        return found

    run = start()
    wait_for(lambda: any(output.glob("*.parquet")), "the first rows")
    os.kill(actors(run)[0], signal.SIGKILL)
    time.sleep(1)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait(PATIENCE)
    assert start().wait(2 * PATIENCE) == 0
    found = rows()
    assert len(found) == 2001
    assert len({row["path"] for row in found}) == 2001
    assert [Path(row["path"]).name for row in found if row["error"]] == ["bad.png"]
