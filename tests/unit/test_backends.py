"""OpenVINO beside torch; the search for a faster way that keeps the answers; what is written for others."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Run
from PIL import Image
from tiny import SIZES, make_checkpoint
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil, ViTModel

from vit_pipeline import ViTPipeline, fast, measures
from vit_pipeline.backends import OpenVINO, on_openvino
from vit_pipeline.batch import classify
from vit_pipeline.convert import EXPORT, convert
from vit_pipeline.errors import ArgumentError, DeviceError, VitPipelineError
from vit_pipeline.fast import Agreement, faster
from vit_pipeline.features import save_features

if find_spec("openvino") is None:
    pytest.skip("openvino is not installed", allow_module_level=True)
openvino = on_openvino.library()  # imported by itself, it would report its use
PHOTOS = Path(__file__).parents[2] / "examples"
CAT = PHOTOS / "cat.png"
NATIVE = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder / "vit-pipeline" / "openvino"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty small pictures, parts of the examples, and a file that is none."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for number in range(40):
        image = Image.open(sorted(PHOTOS.glob("*.[jp][pn]g"))[number % 7]).convert("RGB")
        x, y = (int(rng.integers(size - 60)) for size in image.size)
        image.crop((x, y, x + 60, y + 60)).save(folder / f"{number:02}.png")
    (folder / "bad.png").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def exact(tiny: Path) -> ViTPipeline:
    return ViTPipeline.from_pretrained(tiny, device="cpu")


@pytest.fixture(scope="module")
def compiled(tiny: Path) -> ViTPipeline:
    return ViTPipeline.from_pretrained(tiny, backend="openvino")


def test_the_same_numbers(exact: ViTPipeline, compiled: ViTPipeline, photos: Path) -> None:
    """Logits, features and predictions, in batches of any size."""
    images = [exact.read(path) for path in sorted(photos.glob("[0-9]*.png"))]
    for count in (1, 3, 8):
        pixel_values = exact.preprocess(images[:count])
        torch.testing.assert_close(
            compiled.forward(pixel_values), exact.forward(pixel_values), atol=1e-4, rtol=0
        )
        for pool in ("cls", "mean", "patches"):
            found, wanted = (pipe.features(images[:count], pool) for pipe in (compiled, exact))
            torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)
    found, wanted = compiled(CAT, 3), exact(CAT, 3)
    assert [entry.index for entry in found.top] == [entry.index for entry in wanted.top]
    assert found.score == pytest.approx(wanted.score, abs=1e-5)
    assert str(compiled.backend) == "OpenVINO float32"
    assert "OpenVINO float32" in repr(compiled)


def test_other_shapes() -> None:
    """No classifier; oblong, without biases of q, k and v; weights in bfloat16 are converted as they are."""
    oblong: dict[str, Any] = {"image_size": [8, 24], "patch_size": [4, 8], "qkv_bias": False}
    models = [
        ViTModel(ViTConfig(**SIZES), add_pooling_layer=False),
        ViTForImageClassification(ViTConfig(**SIZES | oblong)).bfloat16(),
    ]
    for model in models:
        backend = OpenVINO(model.eval())
        size = model.config.image_size
        height, width = size if isinstance(size, list) else (size, size)
        pixel_values = torch.randn(2, 3, height, width)
        plain = model.float()
        with torch.inference_mode():
            tokens = getattr(plain, "vit", plain)(pixel_values).last_hidden_state
            torch.testing.assert_close(backend.tokens(pixel_values), tokens, atol=1e-4, rtol=0)
            if hasattr(plain, "classifier"):
                logits = plain(pixel_values).logits
                torch.testing.assert_close(backend.logits(pixel_values), logits, atol=1e-4, rtol=0)


def test_explain_looks_into_the_model_on_torch(compiled: ViTPipeline, exact: ViTPipeline) -> None:
    """Of float32 that is the model that answers; of a coarser one it is not, and an error says so."""
    np.testing.assert_array_equal(compiled.explain(CAT).attentions, exact.explain(CAT).attentions)
    assert compiled.backend.name == "openvino"
    coarse = copy.copy(compiled)
    coarse.backend = copy.copy(compiled.backend)
    coarse.backend.precision = "int8"  # type: ignore[misc]
    with pytest.raises(ArgumentError, match="on torch, not OpenVINO int8"):
        coarse.explain(CAT)


def test_threads_share_it(exact: ViTPipeline, compiled: ViTPipeline) -> None:
    batches = [torch.randn(2, 3, 16, 16) for _ in range(24)]
    with ThreadPoolExecutor(6) as threads:
        found = list(threads.map(compiled.forward, batches))
    torch.testing.assert_close(torch.cat(found), exact.forward(torch.cat(batches)), atol=1e-4, rtol=0)


def test_what_cannot_be(tiny: Path, compiled: ViTPipeline, exact: ViTPipeline) -> None:
    wrong: list[tuple[dict[str, Any], type[VitPipelineError], str]] = [
        ({"backend": "tpu"}, ArgumentError, "use 'torch' or 'openvino'"),
        ({"backend": "openvino", "device": "cuda"}, ArgumentError, "leave device out"),
        ({"backend": "openvino", "dtype": "int8"}, ArgumentError, "images of your own"),
        ({"backend": "openvino", "dtype": "int3"}, DeviceError, "use float32, bfloat16, int8"),
    ]
    if not NATIVE:
        wrong.append(({"backend": "openvino", "dtype": "bfloat16"}, DeviceError, "use float32 or int8"))
    for options, error, said in wrong:
        with pytest.raises(error, match=said):
            ViTPipeline.from_pretrained(tiny, **options)
    with pytest.raises(ArgumentError, match="start from float32 on torch"):
        faster(compiled, CAT)
    with pytest.raises(ArgumentError, match="a share from 0 to 1"):
        faster(exact, CAT, bound=2)
    with pytest.raises(DeviceError, match="use int8"):
        faster(exact, CAT, backend="openvino", dtype="float16")
    with pytest.raises(ArgumentError, match="for transformers' ViT here"):
        OpenVINO(torch.nn.Linear(2, 2))


def test_agreement_is_what_one_finds_by_hand(exact: ViTPipeline, photos: Path) -> None:
    """bfloat16 on torch: every CPU has it, natively or not."""
    tries: list[Agreement] = []
    half = faster(exact, photos, backend="torch", dtype="bfloat16", bound=0, on_try=tries.append)
    assert half.dtype == torch.bfloat16
    assert exact.dtype == torch.float32
    pixel_values = exact.preprocess([exact.read(path) for path in sorted(photos.glob("[0-9]*.png"))])
    wanted, found = (pipe.probabilities(pipe.forward(pixel_values)) for pipe in (exact, half))
    agreement = half.agreement
    assert agreement is not None
    assert tries == [agreement]
    assert agreement.setting == "torch bfloat16"
    assert agreement.same == measures.rate((wanted.argmax(-1) == found.argmax(-1)).numpy())
    assert agreement.same.images == 40
    assert agreement.change == pytest.approx(float((wanted - found).abs().max()), abs=2e-3)
    assert agreement.change > 0


@pytest.mark.slow
def test_int8_and_the_steps_down_from_it(
    exact: ViTPipeline, photos: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("nncf")
    tries: list[Agreement] = []
    pipe = faster(exact, photos, backend="openvino", dtype="int8", bound=0.5, on_try=tries.append)
    assert [one.setting for one in tries] == ["OpenVINO int8"]
    assert tries[0].calibrated == 40
    assert pipe.backend.precision == "int8"
    pixel_values = exact.preprocess([exact.read(path) for path in sorted(photos.glob("[0-9]*.png"))])
    assert 0 < (pipe.forward(pixel_values) - exact.forward(pixel_values)).abs().max() < 1  # logits to ±8
    tries.clear()
    # A model that hardly knows: the classes' logits nearly equal, which rounding to 8 bits turns about
    torch.manual_seed(1)
    unsure = ViTPipeline(copy.deepcopy(exact.model), exact.processor)
    torch.nn.init.normal_(unsure.model.classifier.weight, std=1e-3)
    torch.nn.init.zeros_(unsure.model.classifier.bias)
    pipe = faster(unsure, photos, backend="openvino", dtype="int8", bound=1, on_try=tries.append)
    settings = ["OpenVINO int8"] * 2 + ["OpenVINO bfloat16"] * NATIVE + ["OpenVINO float32"]
    assert [one.setting for one in tries] == settings[: max(len(tries), 3)]  # bfloat16 may hold here
    assert [one.holds for one in tries] == [False] * (len(tries) - 1) + [True]
    assert tries[0].same.value < 1
    assert str(pipe.backend) == tries[-1].setting
    assert capfd.readouterr().out == ""  # nncf draws progress bars


@pytest.mark.long
def test_graphs_are_made_once(
    exact: ViTPipeline, cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of the same weights and images; damaged, it is made again; without a cache it works, too."""
    pytest.importorskip("nncf")
    made: list[float] = []
    quantised, converted = on_openvino._quantised, on_openvino.converted

    def counted(graph: Any, images: Any, alpha: float) -> Any:
        made.append(alpha)
        return quantised(graph, images, alpha)

    def counted_too(module: on_openvino.Tensors) -> Any:
        made.append(0)
        return converted(module)

    monkeypatch.setattr(on_openvino, "_quantised", counted)
    monkeypatch.setattr(on_openvino, "converted", counted_too)
    monkeypatch.setattr(on_openvino, "KEPT", 2)
    pixel_values = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    first = OpenVINO(exact.model, "int8", pixel_values).logits(pixel_values)
    again = OpenVINO(exact.model, "int8", pixel_values).logits(pixel_values)
    torch.testing.assert_close(again, first, atol=1e-5, rtol=0)
    assert made == [0, 0.5]
    OpenVINO(exact.model, "int8", pixel_values, 0.9)
    OpenVINO(exact.model)
    assert made == [0, 0.5, 0.9]
    other = ViTPipeline(copy.deepcopy(exact.model), exact.processor)
    torch.nn.init.zeros_(other.model.classifier.bias)
    assert (OpenVINO(other.model).logits(pixel_values) - first).abs().max() > 1e-3
    OpenVINO(exact.model, "int8", pixel_values[:3])
    assert made == [0, 0.5, 0.9, 0, 0.5]
    assert len([*cache.iterdir()]) == 2
    for damaged in ("model.xml", "model.bin"):
        for path in cache.rglob(damaged):
            path.write_text("<net")
        made.clear()
        torch.testing.assert_close(
            OpenVINO(exact.model).logits(pixel_values), exact.forward(pixel_values), atol=1e-4, rtol=0
        )
        assert made == [0]
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert OpenVINO(exact.model, "int8", pixel_values).logits(pixel_values).shape == (4, 5)


def test_a_backbones_answers_are_neighbours(photos: Path) -> None:
    torch.manual_seed(0)
    model = ViTModel(ViTConfig(**SIZES), add_pooling_layer=False)
    backbone = ViTPipeline(model, ViTImageProcessorPil(size={"height": 16, "width": 16}))
    pipe = faster(backbone, photos, backend="openvino", dtype="float32")
    assert pipe.agreement is not None
    assert pipe.agreement.same.value == 1
    assert pipe.agreement.same.images == 40


def test_the_fastest_that_holds(exact: ViTPipeline, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several ways; where nothing is faster, or too few answers hold, it is the pipeline itself."""
    speeds = {"OpenVINO float32": 3.0, "bfloat16": 2.0, "float32": 1.0}
    answers = fast._Trial._answers

    def timed(trial: Any, backend: Any) -> tuple[torch.Tensor, float]:
        return answers(trial, backend)[0], speeds[str(backend)]

    monkeypatch.setattr(fast._Trial, "_answers", timed)
    ways = [("openvino", "float32"), ("torch", "bfloat16")]
    monkeypatch.setattr(fast, "_settings", lambda *_: ways)
    assert str(faster(exact, photos, bound=0.5).backend) == "OpenVINO float32"
    speeds["bfloat16"] = 4.0
    assert str(faster(exact, photos, bound=0.5).backend) == "bfloat16"
    speeds["float32"] = 5.0
    assert faster(exact, photos, bound=0.5) is exact
    assert faster(exact, photos / "bad.png") is exact  # nothing to compare


def test_int8_is_not_chosen_by_a_few_images(exact: ViTPipeline, photos: Path) -> None:
    tries: list[Agreement] = []
    faster(exact, photos, on_try=tries.append)
    assert "OpenVINO int8" not in [one.setting for one in tries]
    assert "OpenVINO float32" in [one.setting for one in tries]


def test_a_sample_of_all_images(exact: ViTPipeline, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By chance from everywhere, the same for the same seed, each once."""
    monkeypatch.setattr(fast, "IMAGES", 12)
    every = {
        exact.preprocess(exact.read(path)).numpy().tobytes(): number
        for number, path in enumerate(sorted(photos.glob("[0-9]*.png")))
    }
    places = set()
    for seed in range(8):
        found = fast._sample(exact, [photos], seed)
        numbers = [every[one[None].numpy().tobytes()] for one in found]
        assert len(numbers) in (11, 12)  # one file is no image
        assert len(set(numbers)) == len(numbers)
        assert torch.equal(found, fast._sample(exact, [photos], seed))
        places |= set(numbers)
    assert len(places) > 35


def test_a_run_says_how_it_was_computed(exact: ViTPipeline, photos: Path, tmp_path: Path) -> None:
    """In its first line; a resumed run may have measured another speed, not used another precision."""
    pipe = faster(exact, photos, backend="openvino", dtype="float32")
    classify(photos, tmp_path / "out.jsonl", pipe)
    header = json.loads((tmp_path / "out.jsonl").read_text("utf-8").splitlines()[0])["vit_pipeline"]
    assert header["dtype"] == "OpenVINO float32"
    assert header["agreement"]["same"]["images"] == 40
    again = faster(exact, photos, backend="openvino", dtype="float32")
    assert classify(photos, tmp_path / "out.jsonl", again).classified == 0
    with pytest.raises(VitPipelineError, match="dtype"):
        classify(photos, tmp_path / "out.jsonl", exact)
    save_features(CAT, tmp_path / "cat.npz", pipe)
    assert str(np.load(tmp_path / "cat.npz")["computed"]) == "OpenVINO float32"


def test_by_command(run: Run, photos: Path, tiny: Path, tmp_path: Path) -> None:
    common = ["--model", str(tiny), "--backend", "openvino"]
    code, out, err = run("predict", str(CAT), *common)
    assert code == 0
    assert "OpenVINO float32: 1 of 1 answers as in float32" in err
    assert "on cpu, OpenVINO float32" in err
    assert "Predicted class: thing" in out
    output = tmp_path / "out.jsonl"
    code, _, err = run("classify", str(photos), "-o", str(output), *common)
    assert code == 1  # one file is no image
    assert "OpenVINO float32: 40 of 40 answers" in err
    listing = "".join(f"{path}\n" for path in sorted(photos.glob("[0-9]*.png")))
    code, _, err = run(
        "classify", "--from-file", "-", "-o", str(tmp_path / "list.jsonl"), *common, stdin=listing.encode()
    )
    assert code == 0
    assert "OpenVINO float32: 40 of 40 answers" in err
    assert len((tmp_path / "list.jsonl").read_text("utf-8").splitlines()) == 41  # none is lost to the sample
    code, _, err = run("predict", str(CAT), *common, "--fast")
    assert (code, err.strip()) == (
        2,
        "error: --fast chooses backend and dtype itself: leave --backend and --dtype out",
    )
    code, _, err = run("predict", str(CAT), *common, "--dtype", "int3")
    assert code != 0
    assert err.startswith("error: dtype 'int3' is not there on cpu with openvino")


def test_a_resumed_run_is_computed_as_before(
    run: Run, photos: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--fast measures, and another time another way may win; records of two ways are never mixed."""
    speeds = {"OpenVINO float32": 2.0, "OpenVINO bfloat16": 0.5, "float32": 1.0, "bfloat16": 0.5}
    answers = fast._Trial._answers

    def timed(trial: Any, backend: Any) -> tuple[torch.Tensor, float]:
        return answers(trial, backend)[0], speeds[str(backend)]

    monkeypatch.setattr(fast._Trial, "_answers", timed)
    for first, second in (("OpenVINO float32", "float32"), ("float32", "OpenVINO float32")):
        speeds[first], speeds[second] = 2.0, 1.0
        output = tmp_path / f"{first}.csv"
        command = ["classify", str(CAT), "-o", str(output), "--model", str(tiny), "--fast"]
        code, _, err = run(*command)
        assert code == 0
        assert f"on cpu, {first};" in err
        speeds[first], speeds[second] = 1.0, 2.0
        command.insert(1, str(photos / "00.png"))
        code, _, err = run(*command)
        assert code == 0, err
        assert f"on cpu, {first};" in err
        assert "2 images" in err
        assert "1 of them from before" in err
    code, _, err = run("predict", str(CAT), "--model", str(tiny), "--dtype", "int8")
    assert code != 0
    assert "with the backend 'openvino' only" in err


@pytest.mark.slow
def test_nothing_is_reported_to_anybody(tmp_path: Path, tiny: Path) -> None:
    """OpenVINO's usage reports leave files in the home folder before they are sent."""
    script = (
        "import sys; from vit_pipeline import ViTPipeline\n"
        f"pipe = ViTPipeline.from_pretrained({str(tiny)!r}, backend='openvino')\n"
        f"print(pipe({str(CAT)!r}).label, sys.modules['openvino_telemetry'])"
    )
    environment = {key: value for key, value in os.environ.items() if key != "CI"}
    command = [sys.executable, "-c", script]
    done = subprocess.run(
        command, env=environment | {"HOME": str(tmp_path)}, capture_output=True, text=True, check=True
    )
    assert done.stdout.split()[-1] == "None"
    assert not (tmp_path / "intel").exists()


@pytest.mark.slow
@pytest.mark.parametrize("to", ["openvino", "onnx"])
def test_a_graph_for_others(tiny: Path, exact: ViTPipeline, tmp_path: Path, to: Any, run: Run) -> None:
    """With labels and preprocessing beside it, and how far it is from torch; read by OpenVINO alone."""
    if to == "onnx":
        pytest.importorskip("onnxscript")
    folder = tmp_path / to
    code, out, err = run("convert", str(tiny), str(folder), "--to", to)
    assert (code, out) == (0, f"{folder}\n")
    assert "on 8 random images it differs from torch: logits by at most" in err
    assert "torchvision" not in err
    graph = {"openvino": "model.xml", "onnx": "model.onnx"}[to]
    settings = {"config.json", "preprocessor_config.json", EXPORT, graph}
    assert settings <= {path.name for path in folder.iterdir()}
    config = json.loads((folder / "config.json").read_text("utf-8"))
    assert list(config["id2label"].values()) == list(exact.labels)
    processor = ViTImageProcessorPil.from_pretrained(folder)
    image = exact.read(CAT)
    pixels = processor(images=[image] * 3, return_tensors="np").pixel_values
    found = openvino.Core().compile_model(folder / graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(pixels)
    wanted = exact.forward(exact.preprocess([image] * 3)).numpy()
    off = np.abs(found["logits"] - wanted).max()
    assert off < 1e-4
    assert found["tokens"].shape == (3, 17, 24)
    about = json.loads((folder / EXPORT).read_text("utf-8"))
    assert about["largest_difference"]["logits"] < 1e-4
    with pytest.raises(VitPipelineError, match="not empty"):
        convert(tiny, folder, to=to)
