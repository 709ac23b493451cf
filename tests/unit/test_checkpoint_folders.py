"""The contract with plain transformers: a folder gives the same pixels, logits and names there and here, or
it is rejected, in one line, for a true reason."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny import SIZES, change_json, change_tensors, make_checkpoint, with_new_names
from transformers import AutoImageProcessor, ViTConfig, ViTForImageClassification, ViTModel
from transformers.activations import ACT2FN
from transformers.utils import logging

from vit_pipeline import loading
from vit_pipeline.errors import CheckpointError

pytestmark = pytest.mark.slow

Change = Callable[[Path], object]
IMAGE = Image.open(Path(__file__).parents[2] / "examples" / "cat.png").convert("RGB").resize((120, 90))
NAMES = {"0": "tench", "1": "goldfish", "2": "shark", "3": "ray", "4": "cock"}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("original"))


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "vit"))


@pytest.fixture(autouse=True)
def _quiet() -> Any:
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    yield
    logging.enable_progress_bar()
    logging.set_verbosity(level)


def config(**changes: Any) -> Change:
    return lambda folder: change_json(folder / "config.json", **changes)


def null(key: str) -> Change:
    def change(folder: Path) -> None:
        raw = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**raw, key: None}))

    return change


def preprocessor(**changes: Any) -> Change:
    return lambda folder: change_json(folder / "preprocessor_config.json", **changes)


def weights(change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Change:
    return lambda folder: change_tensors(folder, change)


def added(**tensors: torch.Tensor) -> Change:
    return weights(lambda state: state | {name.replace("__", "."): t for name, t in tensors.items()})


def several(*changes: Change) -> Change:
    return lambda folder: [change(folder) for change in changes]


def as_pickle(wrap: Callable[[Any], Any] = lambda state: state, **options: Any) -> Change:
    def change(folder: Path) -> None:
        state = load_file(folder / "model.safetensors")
        (folder / "model.safetensors").unlink()
        torch.save(wrap(state), folder / "pytorch_model.bin", **options)

    return change


def in_shards(suffix: str) -> Change:
    def change(folder: Path) -> None:
        model = ViTForImageClassification.from_pretrained(folder)
        (folder / "model.safetensors").unlink()
        if suffix == ".safetensors":
            model.save_pretrained(folder, max_shard_size="20KB")
            return
        tensors = saved(model)
        names = sorted(tensors)
        files = {
            "pytorch_model-00001-of-00002.bin": names[:20],
            "pytorch_model-00002-of-00002.bin": names[20:],
        }
        for file, part in files.items():
            torch.save({name: tensors[name] for name in part}, folder / file)
        index = {"metadata": {}, "weight_map": {name: file for file, part in files.items() for name in part}}
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))

    return change


def saved(model: Any) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in model.state_dict().items()}


def nested_processor(folder: Path) -> None:
    raw = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").unlink()
    (folder / "processor_config.json").write_text(
        json.dumps({"processor_class": "ViTProcessor", "image_processor": raw})
    )


def processor_type(kind: str | None, **settings: Any) -> Change:
    def change(folder: Path) -> None:
        raw = {"image_processor_type": kind, "size": {"height": 16, "width": 16}, **settings}
        raw = {key: value for key, value in raw.items() if value is not None}
        (folder / "preprocessor_config.json").write_text(json.dumps(raw))

    return change


CROPPED = {"size": {"shortest_edge": 20}, "crop_size": {"height": 16, "width": 16}, "do_center_crop": True}

# What plain transformers loads, and gives the right answer with.
SAME: dict[str, Change] = {
    "as it is": lambda folder: None,
    # config: settings that do not change the computation
    **{
        f"{key} {value!r}": config(**{key: value})
        for key, value in (
            ("_attn_implementation", "eager"),
            ("attn_implementation", "sdpa"),
            ("transformers.js_config", {"dtype": "q8"}),
            ("vocab_size", 30522),
            ("loss_type", "cross_entropy"),
            ("label_smoothing", 0.1),
            ("num_classes", 5),
            ("padding", "same"),
            ("license", "apache-2.0"),
            ("classifier_dropout", 0.1),
            ("is_hybrid", False),
            ("function_to_apply", "sigmoid"),
            ("use_mean_pooling", False),
            ("torch_dtype", "float16"),
            ("encoder_stride", 4),
            ("hidden_dropout_prob", 0.1),
            ("gradient_checkpointing", True),
            ("pruned_heads", {}),
            ("head_dim", 8),
            ("model_type", None),
            ("num_labels", 5),
            ("problem_type", "multi_label_classification"),
            ("problem_type", "regression"),
            ("label2id", {"stale": 3}),
            ("label2id", {"thing 0": 9, "thing 1": "x"}),
            ("image_size", [16, 16]),
            ("patch_size", [4, 4]),
        )
    },
    "quantization_config null": null("quantization_config"),
    "is_hybrid null": null("is_hybrid"),
    "no labels, a number": config(id2label=None, label2id=None, num_labels=5),
    # class names
    "integers": config(id2label={str(i): i for i in range(5)}),
    "wide space": config(id2label=NAMES | {"1": "金鱼\u3000鱼"}),
    "no-break space": config(id2label=NAMES | {"1": "gold\u00a0fish"}),
    "joiners": config(id2label=NAMES | {"1": "می\u200cخواهم", "2": "👩\u200d🔬"}),
    "empty": config(id2label=NAMES | {"1": ""}),
    "control characters": config(id2label=NAMES | {"1": "a\x1b[31mb"}),
    "twice the same": config(id2label=NAMES | {"1": "tench"}),
    # activations
    **{f"hidden_act {name}": config(hidden_act=name) for name in ACT2FN if name not in ("prelu", "xielu")},
    # preprocessing
    "size int": preprocessor(size=16),
    "size list": preprocessor(size=[16, 16]),
    "scalar mean and std": preprocessor(image_mean=0.4, image_std=0.3),
    "no normalisation": preprocessor(do_normalize=False, resample=3),
    "shortest edge and crop": preprocessor(**CROPPED),
    "crop of a smaller image": preprocessor(**CROPPED | {"size": {"shortest_edge": 10}}),
    "processor_config.json": nested_processor,
    "feature_extractor_type": processor_type(None, feature_extractor_type="ViTFeatureExtractor"),
    "ViTFeatureExtractor": processor_type("ViTFeatureExtractor"),
    "no type": processor_type(None),
    "ViTImageProcessorFast": processor_type("ViTImageProcessorFast", default_to_square=True),
    "DeiTImageProcessor": processor_type("DeiTImageProcessor", crop_size={"height": 16, "width": 16}),
    "DeiTFeatureExtractor": processor_type(
        None,
        feature_extractor_type="DeiTFeatureExtractor",
        size=20,
        crop_size=16,
        do_center_crop=True,
        resample=3,
    ),
    "BeitImageProcessor": processor_type("BeitImageProcessor", do_center_crop=False),
    "CLIPImageProcessor": processor_type("CLIPImageProcessor", **CROPPED),
    "BitImageProcessor": processor_type("BitImageProcessor", **CROPPED),
    "ConvNextImageProcessor": processor_type("ConvNextImageProcessor", size={"shortest_edge": 16}),
    "SiglipImageProcessor": processor_type("SiglipImageProcessor"),
    "unknown setting": preprocessor(surprise=[1, 2], processor_class="X"),
    # weights
    "new names": weights(with_new_names),
    "shards": in_shards(".safetensors"),
    "pickle": as_pickle(),
    "old pickle": as_pickle(_use_new_zipfile_serialization=False),
    "pickle shards": in_shards(".bin"),
    "half precision": weights(lambda state: {name: t.half() for name, t in state.items()}),
    "pooler": added(vit__pooler__dense__weight=torch.ones(24, 24), vit__pooler__dense__bias=torch.ones(24)),
    "mask token": added(vit__embeddings__mask_token=torch.ones(1, 1, 24)),
    "position ids": added(vit__embeddings__position_ids=torch.arange(17)[None]),
    "a counter": added(vit__num_batches_tracked=torch.tensor(3)),
}


@pytest.mark.parametrize("case", SAME)
def test_the_same_as_in_plain_transformers(case: str, folder: Path) -> None:
    SAME[case](folder)
    plain, info = ViTForImageClassification.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True
    )
    assert not info["missing_keys"]
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil", config=plain.config)
    pixels = processor(images=IMAGE, return_tensors="pt").pixel_values
    loaded = loading.load(folder, device="cpu")
    assert torch.equal(loaded.processor(images=[IMAGE], return_tensors="pt").pixel_values, pixels)
    with torch.inference_mode():
        assert (loaded.model(pixels).logits - plain.eval()(pixels).logits).abs().max() == 0
    assert loading.class_names(loaded.model) == tuple(str(plain.config.id2label[i]) for i in range(5))
    assert loaded.model.config.problem_type == plain.config.problem_type
    assert not loaded.model.training


# What transformers reads from somewhere else, or under other names.
def as_variant(folder: Path) -> None:
    state = {name: t.half() for name, t in load_file(folder / "model.safetensors").items()}
    (folder / "model.safetensors").unlink()
    save_file(state, folder / "model.fp16.safetensors", metadata={"format": "pt"})


def with_prefix(prefix: str) -> Change:
    return weights(lambda state: {f"{prefix}{name}": tensor for name, tensor in state.items()})


OTHERWISE: dict[str, Change] = {
    "module.": with_prefix("module."),
    "model.": with_prefix("model."),
    "module. and _orig_mod.": with_prefix("module._orig_mod."),
    "state_dict": as_pickle(lambda state: {"state_dict": state, "epoch": 3}),
    "half-precision variant": as_variant,
    "no preprocessor_config.json": lambda folder: (folder / "preprocessor_config.json").unlink(),
}


@pytest.mark.parametrize("case", OTHERWISE)
def test_the_same_weights_in_other_wrappings(case: str, folder: Path, original: Path) -> None:
    OTHERWISE[case](folder)
    plain = ViTForImageClassification.from_pretrained(original).eval()
    if "half" in case:
        plain = plain.half().float()
    loaded = loading.load(folder, device="cpu")
    pixels = AutoImageProcessor.from_pretrained(original, backend="pil")(
        IMAGE, return_tensors="pt"
    ).pixel_values
    assert torch.equal(loaded.processor(images=[IMAGE], return_tensors="pt").pixel_values, pixels)
    with torch.inference_mode():
        # where the weights lie in memory, after another header, may change a last bit
        assert (loaded.model(pixels).logits - plain(pixels).logits).abs().max() < 1e-6
    if case.startswith("no "):
        assert [note for note in loaded.notes if "preprocessor_config.json" in note]


@pytest.mark.parametrize("count", [1, 2])
def test_small_heads(count: int, tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "vit", labels=count)
    loaded = loading.load(folder)
    assert loaded.model.config.num_labels == len(loading.class_names(loaded.model)) == count


def test_one_note_says_what_is_ignored(folder: Path) -> None:
    assert loading.load(folder).notes == ()
    several(config(license="x", padding="same"), SAME["pooler"])(folder)
    config(**{"\x1b[31mred": 1})(folder)
    settings, tensors = loading.load(folder).notes
    assert settings.isprintable()
    assert "license, padding" in settings
    assert "vit.pooler.dense.weight" in tensors


# --- backbones ------------------------------------------------------------------------------------------


def backbone(folder: Path, prefix: str = "", pooler: bool = True, **settings: Any) -> ViTModel:
    """A ViT without a classifier, as a folder; returns transformers' own model of it."""
    make_checkpoint(folder)
    plain = ViTModel(ViTConfig(**SIZES), add_pooling_layer=pooler).eval()
    state = {f"{prefix}{name}": tensor for name, tensor in plain.state_dict().items()}
    save_file({name: t.contiguous() for name, t in state.items()}, folder / "model.safetensors")
    config(architectures=["ViTModel"], id2label=None, label2id=None, **settings)(folder)
    return plain


@pytest.mark.parametrize("pooler", [True, False])
def test_a_backbone_is_loaded_without_labels(pooler: bool, tmp_path: Path) -> None:
    plain = backbone(tmp_path / "dino", pooler=pooler)
    loaded = loading.load(tmp_path / "dino")
    pixels = torch.randn(2, 3, 16, 16)
    with torch.inference_mode():
        ours, theirs = loaded.model(pixels), plain(pixels)
    assert torch.equal(ours.last_hidden_state, theirs.last_hidden_state)
    assert (ours.pooler_output is None) != pooler
    assert loading.class_names(loaded.model) == ()
    assert isinstance(loaded.model, ViTModel)
    assert "without a classifier" in loaded.notes[-1]


def test_masked_image_models_are_backbones(tmp_path: Path) -> None:
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

    torch.manual_seed(0)
    settings = ViTMAEConfig(**SIZES, decoder_hidden_size=12, decoder_num_attention_heads=2, mask_ratio=0.0)
    mae = ViTMAEForPreTraining(settings).eval()
    mae.save_pretrained(tmp_path)
    loaded = loading.load(tmp_path)
    pixels = torch.randn(2, 3, 16, 16)
    with torch.inference_mode():
        noise = torch.arange(16.0).expand(2, 16)  # keeps the patches in their order
        expected = mae.vit(pixels, noise=noise).last_hidden_state
        assert (loaded.model(pixels).last_hidden_state - expected).abs().max() < 1e-5
    assert loading.class_names(loaded.model) == ()


def test_a_classifier_that_is_claimed_must_be_there(folder: Path) -> None:
    weights(lambda state: {name: t for name, t in state.items() if "classifier" not in name})(folder)
    with pytest.raises(CheckpointError, match=r"lack classifier\.weight"):
        loading.load(folder)


# --- rejected -------------------------------------------------------------------------------------------


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return bytearray, (3 * 10**9,)


class Shell:
    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return os.system, ("touch exploited",)


class Exploit:
    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (Path("exploited"),)


def poison(name: str, value: float = float("nan")) -> Change:
    return weights(lambda state: state | {name: torch.full_like(state[name], value)})


def file(name: str, content: bytes = b"x") -> Change:
    return lambda folder: (folder / name).write_bytes(content)


def without(name: str) -> Change:
    return lambda folder: (folder / name).unlink()


def deflated(folder: Path) -> None:
    as_pickle()(folder)
    path = folder / "pytorch_model.bin"
    with zipfile.ZipFile(path) as old:
        parts = {info.filename: old.read(info) for info in old.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name, content in parts.items():
            new.writestr(name, content)
        new.writestr("archive/data/zeros", bytes(10**8))


def long_pickle(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with zipfile.ZipFile(folder / "pytorch_model.bin", "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + b"]" * 10**7 + b".")


def pipe(name: str) -> Change:
    def change(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return change


def quantised(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    name = "vit.encoder.layer.0.output.dense.weight"
    return state | {name: state[name].to(torch.int8)}


REJECTED: dict[str, tuple[Change, str]] = {
    # code
    "auto_map": (config(auto_map={"AutoModel": "m.M"}), "code of its own"),
    "auto_map of the processor": (preprocessor(auto_map={"AutoImageProcessor": "m.M"}), "code of its own"),
    "exploit": (
        several(without("model.safetensors"), file("pytorch_model.bin", pickle.dumps(Exploit()))),
        "than tensors",
    ),
    "exploit in a zip": (as_pickle(lambda state: {"a": Exploit()}), "than tensors"),
    "a shell": (
        as_pickle(lambda state: {"a": Shell()}),
        r"than tensors \(Trying to load .*GLOBAL \w+\.system",
    ),
    "bytearray": (as_pickle(lambda state: {"a": Bomb()}), "no tensor's"),
    "old bytearray": (
        as_pickle(lambda state: {"a": Bomb()}, _use_new_zipfile_serialization=False),
        "no tensor's",
    ),
    "millions of lists": (long_pickle, "too long"),
    "no table": (as_pickle(lambda state: [1, 2]), "table of tensors"),
    # another computation
    "bert": (config(model_type="bert"), "'bert'"),
    "swin": (config(model_type="swin"), "'swin'"),
    "deit": (config(model_type="deit"), "'deit'"),
    "dinov2": (config(model_type="dinov2"), "'dinov2'"),
    "escapes": (config(model_type="\x1b[31mswin"), "swin"),
    "pruned_heads": (config(pruned_heads={"0": [1]}), "pruned_heads"),
    "is_hybrid": (config(is_hybrid=True), "is_hybrid"),
    "quantization_config": (config(quantization_config={"quant_method": "bitsandbytes"}), "quantised"),
    "quantization_config {}": (config(quantization_config={}), "quantised"),
    "per_layer_config": (config(per_layer_config={"0": {"hidden_act": "relu"}}), "per_layer_config"),
    "int8 weights": (weights(quantised), "the type int8"),
    "registers": (added(vit__embeddings__register_tokens=torch.ones(1, 4, 24)), "register_tokens"),
    "layer scale": (added(vit__encoder__layer__0__lambda1=torch.ones(24)), "lambda1"),
    "another head": (added(head__weight=torch.ones(5, 24)), r"head\.weight"),
    # config and weights do not fit
    "more layers": (config(num_hidden_layers=3), r"lack vit\.layers\.2"),
    "fewer layers": (config(num_hidden_layers=1), r"unexpected vit\.layers\.1"),
    "another width": (config(hidden_size=27), "shape"),
    "another head width": (config(head_dim=99), "shape"),
    "more pixels": (config(image_size=32), "position_embeddings has the shape"),
    "head width as text": (config(head_dim="8"), "no model"),
    "no bias": (config(qkv_bias=False), "unexpected"),
    "fewer names": (config(id2label={"0": "a"}), "5 outputs .* 1 class names"),
    "no names": (config(id2label=None, label2id=None), "5 outputs .* 2 class names"),
    "gap in the names": (config(id2label={"0": "a", "1": "b", "2": "c", "3": "d", "9": "e"}), "class 4"),
    "a name that is a list": (config(id2label=NAMES | {"1": ["x"]}), "class 1"),
    "renamed": (weights(lambda s: {n.replace("layernorm_before", "norm1"): t for n, t in s.items()}), "lack"),
    "nan bias": (poison("classifier.bias"), "not finite"),
    "nan norm": (poison("vit.encoder.layer.0.layernorm_after.weight"), "not finite"),
    "infinite": (poison("vit.embeddings.cls_token", float("inf")), "not finite"),
    # out of bounds
    "3000 layers": (config(num_hidden_layers=3000), "allowed: 1 to 128"),
    "wide": (config(hidden_size=10**9), "hidden_size"),
    "wide MLP": (config(intermediate_size=10**9), "intermediate_size"),
    "many tokens": (config(image_size=4096, patch_size=1), "tokens"),
    "many classes": (config(id2label=None, label2id=None, num_labels=10**9), "num_labels"),
    "gray": (config(num_channels=1), "num_channels"),
    "eps": (config(layer_norm_eps=-1.0), "layer_norm_eps"),
    "text": (config(hidden_size="24"), "hidden_size"),
    "activation": (config(hidden_act="os.system"), "os.system"),
    "shortest_edge 4096": (preprocessor(size={"shortest_edge": 4096}), "4096"),
    "size 4096": (preprocessor(size=4096), "4096"),
    "crop_pct": (
        preprocessor(
            image_processor_type="ConvNextImageProcessor", size={"shortest_edge": 16}, crop_pct=1e-5
        ),
        "crop_pct",
    ),
    "shards without their list": (
        lambda folder: (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors"),
        "the list is missing",
    ),
    "size of no number": (preprocessor(size={"height": "16", "width": 16}), "size"),
    "size 20": (preprocessor(size=20), "do not fit each other"),
    "no resize": (preprocessor(do_resize=False), "do not fit each other"),
    "std 0": (preprocessor(image_std=[0.5, 0, 0.5]), "image_std"),
    "mean of two": (preprocessor(image_mean=[0.5, 0.5]), "image_mean"),
    "filter 9": (preprocessor(resample=9), "resample"),
    "no such processor": (preprocessor(image_processor_type="NoSuchProcessor"), "'NoSuchProcessor'"),
    **{
        kind: (preprocessor(image_processor_type=kind, **settings), f"'{kind}'")  # would take memory, files
        for kind, settings in (
            ("Qwen2VLImageProcessor", {"min_pixels": 10**12, "max_pixels": 10**12}),
            ("GLPNImageProcessor", {"size_divisor": 10**6}),
            ("OneFormerImageProcessor", {"repo_path": "acme/files", "class_info_file": "classes.json"}),
        )
    },
    "a tokenizer": (preprocessor(image_processor_type="BertTokenizer"), "'BertTokenizer'"),
    # files
    "half a config": (file("config.json", b'{"model_type":'), "not a JSON object"),
    "a list": (file("config.json", b"[]"), "not a JSON object"),
    "no config": (without("config.json"), r"config\.json is missing"),
    "no weights": (without("model.safetensors"), r"model\.safetensors is missing"),
    "cut": (
        lambda f: file("model.safetensors", (f / "model.safetensors").read_bytes()[:-400])(f),
        "cut short",
    ),
    "header": (file("model.safetensors", struct.pack("<Q", 2**62) + b"{}"), "header claims"),
    "html": (file("model.safetensors", b"<!DOCTYPE html><html></html>"), "not a safetensors file"),
    "lfs": (file("model.safetensors", b"version https://git-lfs.github.com/spec/v1\n"), "git lfs pull"),
    "a shard is missing": (
        several(in_shards(".safetensors"), lambda f: sorted(f.glob("model-*"))[1].unlink()),
        "model-00002-of-.* is missing",
    ),
    "a shard elsewhere": (
        several(
            without("model.safetensors"),
            file("model.safetensors.index.json", b'{"weight_map": {"a": "../x.safetensors"}}'),
        ),
        "files beside it",
    ),
    "deflated": (deflated, "compressed"),
    "config is a pipe": (pipe("config.json"), "not a regular file"),
    "weights are a pipe": (pipe("model.safetensors"), "not a regular file"),
    # other kinds of checkpoints, named for what they are
    **{
        name: (several(without("model.safetensors"), file(name)), words)
        for name, words in (
            ("last.pth", "PyTorch file"),
            ("ViT-B_16.npz", "JAX"),
            ("tf_model.h5", "TensorFlow"),
            ("flax_model.msgpack", "Flax"),
            ("model.onnx", "ONNX"),
            ("vit.gguf", "GGUF"),
        )
    },
    "PEFT adapter": (
        several(without("model.safetensors"), without("config.json"), file("adapter_config.json", b"{}")),
        "PEFT adapter",
    ),
}


@pytest.mark.parametrize("case", REJECTED)
def test_rejected_for_a_true_reason(
    case: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    change, reason = REJECTED[case]
    change(folder)
    with pytest.raises(CheckpointError, match=reason) as caught:
        loading.load(folder, device="cpu")
    assert str(caught.value).isprintable()
    assert str(folder) in str(caught.value)
    assert len(str(caught.value)) < 400
    assert not (tmp_path / "exploited").exists()


# --- what a hostile folder may cost ---------------------------------------------------------------------

COSTS = """
import resource, sys, time
from vit_pipeline import loading
from vit_pipeline.errors import CheckpointError
loading.load(sys.argv[1], device="cpu")
for folder in sys.argv[2:]:
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    try:
        loading.load(folder, device="cpu")
    except CheckpointError:
        seconds = time.process_time() - start
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        assert seconds < 2 and grown < 300, (folder, seconds, grown)
    else:
        raise AssertionError(folder)
"""
COSTLY: dict[str, Change] = {
    "3000 layers": config(num_hidden_layers=3000),
    "128 wide layers": config(
        num_hidden_layers=128, hidden_size=16384, intermediate_size=65536, head_dim=16384
    ),
    "width": config(hidden_size=16384, num_attention_heads=256),
    "image": config(image_size=2048, patch_size=16),
    "classes": config(id2label=None, label2id=None, num_labels=100_000),
    "shortest edge": preprocessor(size={"shortest_edge": 4096}),
    "size": preprocessor(size=4096),
    "largest size": preprocessor(size=1024, do_center_crop=False),
    "deflated": deflated,
    "bytearray": REJECTED["bytearray"][0],
    "old bytearray": REJECTED["old bytearray"][0],
    "lists": long_pickle,
    "long config": file("config.json", b" " * 10**8),
    "deep config": file("config.json", b"[" * 10**7),
    "deep processor": file("preprocessor_config.json", b'{"a":' * 10**6),
    "expanded": as_pickle(lambda state: state | {"classifier.weight": torch.zeros(1).expand(10**5, 10**5)}),
    "header": lambda f: file("model.safetensors", struct.pack("<Q", 2**24) + b"[" * 2**24)(f),
}


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux")
def test_what_is_rejected_costs_little(original: Path, tmp_path: Path) -> None:
    for case, change in COSTLY.items():
        change(Path(shutil.copytree(original, tmp_path / case)))
    folders = [str(original), *(str(tmp_path / case) for case in COSTLY)]
    done = subprocess.run(
        [sys.executable, "-c", COSTS, *folders], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-2000:]
