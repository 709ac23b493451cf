from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from tiny import change_json, change_tensors, make_checkpoint, with_new_names
from transformers import ViTForImageClassification, ViTImageProcessorPil

from vit_pipeline import ViTPipeline, loading
from vit_pipeline.errors import CheckpointError, DeviceError
from vit_pipeline.loading import has_native_bfloat16, pick_device, pick_dtype


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("original"))


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "tiny"))


def pixels(side: int = 16) -> torch.Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("form", ["old names", "new names", "pickle", "bfloat16 file"])
def test_logits_equal_those_of_transformers(folder: Path, form: str) -> None:
    expected_model = ViTForImageClassification.from_pretrained(folder).eval()
    if form == "new names":
        change_tensors(folder, with_new_names)
    if form == "bfloat16 file":
        change_tensors(folder, lambda tensors: {name: t.bfloat16() for name, t in tensors.items()})
        expected_model = expected_model.bfloat16().float()
    if form == "pickle":
        torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
    loaded = loading.load(folder)
    with torch.inference_mode():
        difference = (loaded.model(pixels()).logits - expected_model(pixels()).logits).abs().max()
    assert difference == 0
    assert not loaded.model.training
    assert loaded.model.dtype == torch.float32
    assert loading.class_names(loaded.model) == tuple(f"thing {i}" for i in range(5))
    note = f"{folder}: no safetensors file; read pytorch_model.bin with weights_only=True"
    assert loaded.notes == ((note,) if form == "pickle" else ())


def test_provenance_names_the_bytes(folder: Path) -> None:
    import hashlib

    found = loading.load(folder).provenance
    assert (found.source, found.revision, found.folder) == ("folder", None, folder)
    assert found.sha256 == {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
        for name in ("config.json", "preprocessor_config.json", "model.safetensors")
    }
    loading.load(folder, expected_sha256=found.sha256)
    with pytest.raises(CheckpointError, match="not the file you pinned"):
        loading.load(folder, expected_sha256={"model.safetensors": "0" * 64})
    with pytest.raises(CheckpointError, match="not among its files"):
        loading.load(folder, expected_sha256={"other.bin": "0" * 64})


class Exploit:
    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (Path("exploited"),)


def test_a_pickle_beside_safetensors_is_never_opened(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Exploit()))
    assert loading.load(folder).notes == ()


def test_load_config_needs_no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert loading.load_config(folder).num_hidden_layers == 2
    base = loading.load_config("vit-base")
    assert (base.hidden_size, base.num_hidden_layers, base.id2label[0]) == (768, 12, "tench, Tinca tinca")
    assert len(base.id2label) == 1000
    assert loading.load_config("vit-small").hidden_size == 384
    assert loading.load_config("demo").id2label[3] == "cat"


def test_the_processor_is_the_checkpoints_own(folder: Path) -> None:
    change_json(folder / "preprocessor_config.json", resample=0, image_mean=[0.1, 0.2, 0.3], crop_size=None)
    loaded = loading.load(folder)
    assert loaded.processor.resample == 0
    assert list(loaded.processor.image_mean) == [0.1, 0.2, 0.3]
    raw = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(
        json.dumps({k: v for k, v in raw.items() if k != "image_processor_type"} | {"size": 16})
    )
    assert loading.load(folder).processor.size["height"] == 16


def test_loading_is_silent_and_leaves_logging_as_it_was(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from transformers.utils import logging

    logging.set_verbosity_info()
    try:
        loading.load(folder)
        assert logging.get_verbosity() == logging.INFO
        assert logging.is_progress_bar_enabled()
    finally:
        logging.set_verbosity_warning()
    assert capfd.readouterr() == ("", "")


def test_where_files_are_looked_for_is_passed_to_the_hub(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, object]] = []

    def download(repo: str, revision: str | None, **options: object) -> object:
        asked.append(options)
        return SimpleNamespace(folder=folder, revision="master", source="ModelScope")

    monkeypatch.setattr(loading.hub, "download", download)
    loading.load("acme/vit")
    loading.load("acme/vit", cache_dir="/cache", local_files_only=True, token="secret", refresh=True)
    assert asked[0] == {"weights": True}
    assert asked[1]["cache_dir"] == "/cache"
    assert asked[1]["local_files_only"] is asked[1]["refresh"] is True
    assert asked[1]["token"] == "secret"


def test_a_pair_from_memory_is_checked(folder: Path) -> None:
    loaded = loading.load(folder)
    ViTPipeline(loaded.model, loaded.processor)
    ViTPipeline(loaded.model.vit, loaded.processor)
    with pytest.raises(CheckpointError, match="do not fit each other"):
        ViTPipeline(loaded.model, ViTImageProcessorPil())
    loaded.model.config.id2label = {0: "a", 1: "b"}
    with pytest.raises(CheckpointError, match="5 outputs but 2 class names"):
        ViTPipeline(loaded.model, loaded.processor)
    with pytest.raises(TypeError, match="max_pixel"):
        ViTPipeline(loaded.model, loaded.processor, max_pixel=1)  # type: ignore[call-arg]


def test_devices() -> None:
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type in ("cpu", "cuda", "mps")
    for name, says in (("gpu", "means nothing"), ("cpu:3", "has 1 of kind cpu"), ("xpu", "0 of kind xpu")):
        with pytest.raises(DeviceError, match=says):
            pick_device(name)
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError, match="0 of kind cuda; use auto or cpu"):
            pick_device("cuda")


def test_dtypes(folder: Path) -> None:
    cpu = torch.device("cpu")
    assert pick_dtype("float32", cpu) == torch.float32
    assert pick_dtype(torch.bfloat16, cpu) == torch.bfloat16
    assert pick_dtype("auto", cpu) == (torch.bfloat16 if has_native_bfloat16(cpu) else torch.float32)
    assert pick_dtype("auto", torch.device("mps")) == torch.float32
    with pytest.raises(DeviceError, match="'int8' is unknown"):
        pick_dtype("int8", cpu)
    with pytest.raises(DeviceError, match="'float16' is not for cpu; use float32"):
        pick_dtype("float16", cpu)
    assert pick_dtype(torch.float16, torch.device("cuda:0")) == torch.float16
    assert loading.load(folder, dtype="bfloat16").model.dtype == torch.bfloat16
