"""Faster than float32 on torch, and how far the answers stay the same: measured, on the user's own images.

Nothing is traded silently: what holds too few of float32's answers is not used. Leaves out how a model is
computed (``backends``).
"""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import normalize

from . import engine, measures
from .backends import Backend, OpenVINO, Torch
from .errors import ArgumentError, DeviceError, VitPipelineError, check_installed
from .loading import has_native_bfloat16, pick_dtype
from .pipeline import ViTPipeline
from .sources import find_images

IMAGES = 500  #: at most so many are compared …
CALIBRATION = (
    300  #: … of which int8 takes the first to find its ranges; the others, if they are enough, judge
)
ENOUGH = 200  #: images to judge by
ALPHAS = 0.5, 0.95  #: of SmoothQuant: the first was best for the embedded model, the second is nncf's own


@dataclass(frozen=True)
class Agreement:
    """One way of computing beside float32 on torch. ``print(agreement)`` is a line for the user."""

    setting: str  #: such as ``OpenVINO int8``
    same: measures.Rate  #: images with the same label; of a backbone: with the same most similar image
    change: float  #: the largest change of a score, or of a cosine similarity
    speed: float  #: images/s, the model alone
    exact_speed: float  #: the same in float32 on torch
    holds: bool  #: ``same`` reaches the bound
    calibrated: int = 0  #: on so many of the images

    def to_dict(self) -> dict[str, Any]:
        """As it stands in a run's first line."""
        return asdict(self)

    def __str__(self) -> str:
        same = self.same
        calibrated = f" (calibrated on {self.calibrated} images)" if self.calibrated else ""
        return (
            f"{self.setting}{calibrated}: {same.hits} of {same.images} answers as in float32 "
            f"({same.value:.1%} [{same.low:.1%}, {same.high:.1%}]), "
            f"scores change by at most {self.change:.2g}; "
            f"the model alone {self.speed:.1f} images/s, in float32 {self.exact_speed:.1f}"
        )


def faster(
    pipe: ViTPipeline,
    sources: str | Path | Iterable[Any],
    *,
    backend: str | None = None,
    dtype: str | torch.dtype = "auto",
    bound: float = 0.99,
    batch_size: int = 8,
    seed: int = 0,
    on_try: Callable[[Agreement], None] | None = None,
) -> ViTPipeline:
    """The same model computed faster, as far as its answers on some of these images stay the same.

    Args:
        pipe: in float32, on torch.
        sources: as :func:`vit_pipeline.sources.find_images` takes them; an iterator is read to its end.
        backend: ``"torch"`` or ``"openvino"``, in ``dtype``, or where that holds too few answers in the next
            more exact one; None: whatever is the fastest here.
        dtype: ``"int8"`` (OpenVINO only), ``"bfloat16"``, ``"float16"`` (a GPU only), ``"float32"``;
            ``"auto"``: of the backend, the fastest.
        bound: the share of answers, 0 to 1, that must be those of float32.
        batch_size: images in one forward pass.
        seed: of the choice of images: up to 500 of all of them, by chance.
        on_try: called with each comparison.

    Returns a pipeline; its ``agreement`` is None where nothing is both faster and close enough, or no image
    could be read. Raises ArgumentError; DeviceError for a dtype that this machine does not have.
    """
    if pipe.backend.name != "torch" or pipe.dtype != torch.float32:
        raise ArgumentError(f"{pipe.name}: is loaded as {pipe.backend}; start from float32 on torch")
    if not 0 <= bound <= 1:
        raise ArgumentError(f"the bound is {bound}; a share from 0 to 1 is needed")
    first_that_holds = backend is not None and str(dtype) != "auto"
    wanted = _settings(pipe, backend, str(dtype).removeprefix("torch."))
    pixel_values = _sample(pipe, sources, seed) if wanted else torch.zeros(0)  # (B, 3, H, W)
    if not len(pixel_values):
        return pipe
    if not first_that_holds and len(pixel_values) < ENOUGH:  # int8 fits the few that it is calibrated on
        wanted = [way for way in wanted if way != ("openvino", "int8")]
    trial = _Trial(pipe, pixel_values, bound, batch_size, on_try or (lambda _: None))
    best, speed = pipe, trial.speed
    for way in wanted:
        for tried, agreement in trial.each(*way):
            if agreement.holds and first_that_holds:
                return tried
            if agreement.holds and agreement.speed > speed:
                best, speed = tried, agreement.speed
    return best


def _settings(pipe: ViTPipeline, backend: str | None, dtype: str) -> list[tuple[str, str]]:
    """Backend and precision, the least exact first, from the one that is asked for."""
    if backend not in (None, "torch", "openvino"):
        raise ArgumentError(f"backend is {backend!r}; use 'torch' or 'openvino'")
    on_cpu, native = pipe.device.type == "cpu", has_native_bfloat16(pipe.device)
    halves = [*["float16"] * (pipe.device.type == "cuda"), *["bfloat16"] * native]
    if backend == "torch" and dtype == "int8":
        raise DeviceError("dtype 'int8' is there with the backend 'openvino' only")
    if backend == "torch" and dtype != "auto":
        return [] if pick_dtype(dtype, pipe.device) == torch.float32 else [("torch", dtype)]
    if backend == "openvino":
        check_installed("openvino", "the backend 'openvino'")
        if not on_cpu:
            raise DeviceError("the backend 'openvino' computes on the CPU: use device cpu")
        if dtype == "int8":
            check_installed("nncf", "int8")
    has_int8 = dtype == "int8" or find_spec("nncf") is not None
    there = on_cpu and backend != "torch" and find_spec("openvino") is not None
    ways = [("openvino", name) for name in (*["int8"] * has_int8, *["bfloat16"] * native, "float32") if there]
    if backend != "openvino":
        ways += [("torch", name) for name in halves]
    if dtype == "auto":
        return ways
    if (backend, dtype) not in ways:
        has = ", ".join(name for _, name in ways)
        raise DeviceError(f"dtype {dtype!r} is not there on {pipe.device} with {backend}; use {has}")
    return ways[ways.index((backend or "", dtype)) :]


class _Trial:
    """One model's answers in float32 on torch, and others beside them."""

    def __init__(
        self,
        pipe: ViTPipeline,
        pixel_values: torch.Tensor,
        bound: float,
        batch_size: int,
        on_try: Callable[[Agreement], None],
    ) -> None:
        self._pipe, self._bound, self._batch_size, self._on_try = pipe, bound, batch_size, on_try
        self._all = pixel_values
        apart = len(pixel_values) >= CALIBRATION + ENOUGH
        self._judges = pixel_values[CALIBRATION:] if apart else pixel_values
        self._exact, self.speed = self._answers(pipe.backend)

    def each(self, backend: str, precision: str) -> Iterator[tuple[ViTPipeline, Agreement]]:
        """The pipeline in that setting, and how it agrees; of int8 up to the first that holds."""
        if backend == "torch":
            model = copy.deepcopy(self._pipe.model).to(pick_dtype(precision, self._pipe.device))
            yield self._judge(Torch(model), model)
        elif precision != "int8":
            yield self._judge(OpenVINO(self._pipe.model, precision))
        else:
            images = self._all[:CALIBRATION]
            for alpha in ALPHAS:
                compiled = OpenVINO(self._pipe.model, precision, images, alpha)
                tried, agreement = self._judge(compiled, calibrated=len(images))
                yield tried, agreement
                if agreement.holds:
                    return

    def _judge(
        self, backend: Backend, model: Any = None, calibrated: int = 0
    ) -> tuple[ViTPipeline, Agreement]:
        found, speed = self._answers(backend)
        same = measures.rate((found.argmax(-1) == self._exact.argmax(-1)).numpy())
        change = float((found - self._exact).abs().max())
        name, holds = f"{'torch ' * (backend.name == 'torch')}{backend}", same.value >= self._bound
        agreement = Agreement(name, same, change, speed, self.speed, holds, calibrated)
        self._on_try(agreement)
        tried = copy.copy(self._pipe)
        tried.model, tried.backend, tried.agreement = model or self._pipe.model, backend, agreement
        return tried, agreement

    def _answers(self, backend: Backend) -> tuple[torch.Tensor, float]:
        """The scores of all classes, or how alike the images are to each other; and images/s."""
        labels, pixels = self._pipe.labels, self._judges

        def compute(batch: torch.Tensor) -> torch.Tensor:
            return (backend.logits(batch) if labels else backend.tokens(batch)[:, 0]).float().cpu()

        compute(pixels[: self._batch_size])  # the first pass allocates
        began = time.perf_counter()
        batches = torch.split(pixels, self._batch_size)
        found = torch.cat([compute(batch) for batch in batches])  # (B, C) or (B, D)
        speed = len(pixels) / (time.perf_counter() - began)
        if labels:
            return self._pipe.probabilities(found), speed
        alike = normalize(found, dim=-1) @ normalize(found, dim=-1).T
        return alike.fill_diagonal_(-1), speed


def _sample(pipe: ViTPipeline, sources: Any, seed: int) -> torch.Tensor:
    """Pixel values of some of the images, each as likely as any other; of none, (0,)."""
    chance, kept = random.Random(seed), list[tuple[int, tuple[str, Any]]]()
    for number, item in enumerate(find_images(sources)):  # Vitter 1985, algorithm R
        place = number if number < IMAGES else chance.randrange(number + 1)
        if place < IMAGES:
            kept[place : place + 1] = [(number, item)]
    chance.shuffle(kept)  # those that calibrate and those that judge are alike
    items = [item for _, item in kept if not isinstance(item[1], VitPipelineError)]
    found: list[torch.Tensor] = []
    with closing(engine.run(items, pipe.preparer(), lambda pixels, _: [*pixels])) as batches:
        for batch in batches:
            found += [result for _, result in batch if isinstance(result, torch.Tensor)]
    return torch.stack(found) if found else torch.zeros(0)


__all__ = ["Agreement", "faster"]
