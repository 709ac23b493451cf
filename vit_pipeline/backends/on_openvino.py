"""The same model compiled by OpenVINO for this CPU: in float32, in bfloat16 where it has that, or in int8.

int8 is post-training quantisation by nncf: weights and activations are rounded to 8 bits, the ranges of the
activations found on images of the user's own. Leaves out which of these to take (``fast``).
"""

from __future__ import annotations

import copy
import io
import logging
import os
import shutil
import sys
import threading
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import ViTForImageClassification, ViTModel

from ..checkpoints.config import pair
from ..checkpoints.processors import quiet_transformers
from ..checkpoints.tensors import digest
from ..errors import ArgumentError, DeviceError, OutputError, check_installed
from ..files import new_folder

PRECISIONS = ("float32", "bfloat16", "int8")
KEPT = 4  #: graphs in the user's cache, each as large as the weights; int8 a quarter of that


class OpenVINO:
    """``model``, a ViT of transformers, compiled.

    Args:
        model: any device and dtype; a copy on the CPU in float32 is what is converted.
        precision: one of ``PRECISIONS``.
        calibration: for ``int8``, pixel values (B, 3, H, W) of a few hundred images.
        alpha: for ``int8``, how much of the activations' range SmoothQuant moves into the weights, 0 to 1.

    Raises ArgumentError where OpenVINO or nncf is not installed; DeviceError for a precision that this CPU
    does not have. Source: Xiao et al. 2023 (SmoothQuant).
    """

    name: Literal["openvino"] = "openvino"
    device = torch.device("cpu")

    def __init__(
        self,
        model: Any,
        precision: str = "float32",
        calibration: torch.Tensor | None = None,
        alpha: float = 0.5,
    ) -> None:
        self.precision = precision
        if not isinstance(model, ViTForImageClassification | ViTModel):
            raise ArgumentError(f"model is a {type(model).__name__}; OpenVINO is for transformers' ViT here")
        self._lock = threading.Lock()  # one request, which two threads must not share
        core = library().Core()
        native = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if precision == "auto":
            self.precision = precision = "bfloat16" if native else "float32"
        if precision not in PRECISIONS:
            raise DeviceError(f"dtype {precision!r} is not for OpenVINO; use {', '.join(PRECISIONS)}")
        if precision == "bfloat16" and not native:
            raise DeviceError("this CPU does not compute in bfloat16; use float32 or int8")
        if precision == "int8" and calibration is None:
            raise ArgumentError(
                "int8 is calibrated on images of your own: use vit_pipeline.fast.faster(pipe, images)"
            )
        if precision == "int8" and calibration is not None:
            graph = _int8_graph(model, calibration, alpha)
        else:
            graph = _graph(model)
        between = "bf16" if native and precision != "float32" else "f32"  # what is not int8 in int8
        settings = {"INFERENCE_PRECISION_HINT": between, "PERFORMANCE_HINT": "LATENCY"}
        self._compiled = core.compile_model(graph, "CPU", settings)

    def logits(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self._run(pixel_values, "logits")

    def tokens(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self._run(pixel_values, "tokens")

    def _run(self, pixel_values: torch.Tensor, output: str) -> torch.Tensor:
        with self._lock:
            return torch.from_numpy(self._compiled(pixel_values.float().cpu().numpy())[output])

    def __str__(self) -> str:
        return f"OpenVINO {self.precision}"


def library() -> Any:
    """OpenVINO. It reports its use to Google Analytics unless one opts out; here it does not."""
    check_installed("openvino", "the backend 'openvino'")
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # cannot be imported
    import openvino

    return openvino


class Tensors(torch.nn.Module):
    """The model with tensors for an answer, as exporters want it: (B, 3, H, W) → ``names``.

    logits (B, C), if there is a classifier, and tokens (B, 1 + N, D). In float32 on the CPU.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        plain = model.dtype == torch.float32 and model.device.type == "cpu"
        self.model = model if plain else copy.deepcopy(model).cpu().float()
        self.names = [*["logits"] * hasattr(model, "classifier"), "tokens"]
        self.eval()
        self.example = torch.zeros(2, model.config.num_channels, *pair(model.config.image_size))

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        tokens = getattr(self.model, "vit", self.model)(pixel_values).last_hidden_state
        return (self.model.classifier(tokens[:, 0]), tokens) if "logits" in self.names else (tokens,)


def converted(module: Tensors) -> Any:
    """OpenVINO's graph of the model, for any number of images."""
    with warnings.catch_warnings(), quiet_transformers():
        warnings.simplefilter("ignore")  # the tracer's, about sizes that do not change here
        graph = library().convert_model(
            module, example_input=module.example, input=[-1, *module.example.shape[1:]]
        )
    for port, name in zip((*graph.inputs, *graph.outputs), ["pixel_values", *module.names], strict=True):
        port.get_tensor().set_names({name})
    return graph


def graph_cache() -> Path:
    """Where the last few graphs are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vit-pipeline" / "openvino"


def _graph(model: Any) -> Any:
    return _kept(model, (), lambda: converted(Tensors(model)))


def _int8_graph(model: Any, calibration: torch.Tensor, alpha: float) -> Any:
    check_installed("nncf", "int8")
    images = calibration.float().cpu().numpy()  # (B, 3, H, W)
    parts = version("nncf"), "symmetric", alpha, blake2b(images.tobytes()).hexdigest()
    return _kept(model, parts, lambda: _quantised(_graph(model), images, alpha))


def _kept(model: Any, parts: tuple[object, ...], make: Callable[[], Any]) -> Any:
    """A graph from the user's cache, or made and put there: that takes seconds, in int8 minutes."""
    versions = [version(package) for package in ("torch", "transformers", "openvino")]
    whole = type(model).__name__, str(model.config), digest(model), versions, parts
    folder = (cache := graph_cache()) / blake2b(repr(whole).encode(), digest_size=16).hexdigest()
    with suppress(RuntimeError, OSError):  # not there, or damaged
        graph = library().Core().read_model(folder / "model.xml")
        os.utime(folder)
        return graph
    graph = make()
    with suppress(OutputError, OSError):  # without a cache it works, too
        shutil.rmtree(folder, ignore_errors=True)
        with new_folder(folder) as partial:
            library().save_model(graph, partial / "model.xml", compress_to_fp16=False)
        for old in sorted(cache.iterdir(), key=lambda path: path.stat().st_mtime)[:-KEPT]:
            shutil.rmtree(old, ignore_errors=True)
    return graph


def _quantised(graph: Any, images: Any, alpha: float) -> Any:
    library()  # nncf reports its use by the same package
    with redirect_stdout(io.StringIO()), warnings.catch_warnings():  # it draws progress bars
        warnings.simplefilter("ignore")
        import nncf

        nncf.set_log_level(logging.ERROR)
        smooth = nncf.AdvancedSmoothQuantParameters(convolution=-1, matmul=alpha)
        return nncf.quantize(
            graph,
            nncf.Dataset([image[None] for image in images]),
            model_type=nncf.ModelType.TRANSFORMER,
            # Symmetric ranges, not this type's own: of the embedded model more answers stay (benchmarks)
            preset=nncf.QuantizationPreset.PERFORMANCE,
            subset_size=len(images),
            advanced_parameters=nncf.AdvancedQuantizationParameters(smooth_quant_alphas=smooth),
        )
