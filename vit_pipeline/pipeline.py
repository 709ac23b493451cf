"""An image in, the ``id2label`` prediction out: read → preprocess → forward → postprocess.

Each step can be used alone, as in the tutorial. Leaves out: what a name means and whether its files can be
trusted (``loading``), how bytes become pixels (``images``), folders of images (``batch``).
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import torch

from . import loading
from .errors import ArgumentError, CheckpointError, ImageError, VitPipelineError
from .images import read_image, source_name
from .names import DEFAULT_MODEL
from .prediction import LabelScore, Prediction
from .preprocessing import to_pixel_values

if TYPE_CHECKING:
    from PIL import Image

Pool = Literal["cls", "mean", "patches"]


class ViTPipeline:
    """A checked ViT image classifier. ``model``, ``processor``, ``device`` are the plain objects below it.

    >>> pipe = ViTPipeline.from_pretrained("demo")
    >>> image = pipe.read("examples/cat.png")            # a PIL image, RGB, upright
    >>> pixel_values = pipe.preprocess(image)            # (1, 3, 32, 32)
    >>> logits = pipe.forward(pixel_values)              # (1, 10)
    >>> print(pipe.postprocess(logits)[0])
    Predicted class: cat
    """

    def __init__(self, loaded: loading.LoadedModel, *, allow_private: bool = False) -> None:
        self.model = loaded.model
        self.processor = loaded.processor
        self.labels = loaded.labels
        self.provenance = loaded.provenance
        self.notes = loaded.notes
        self.device: torch.device = loaded.model.device
        self.dtype: torch.dtype = loaded.model.dtype
        self.allow_private = allow_private

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path = DEFAULT_MODEL,
        revision: str | None = None,
        *,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "float32",
        refresh: bool = False,
        progress: loading.Progress | None = None,
        expected_sha256: Mapping[str, str] | None = None,
        allow_private: bool = False,
    ) -> ViTPipeline:
        """Load a model by name, from ModelScope, a folder, or the package itself.

        Args:
            allow_private: let URLs lead to private addresses (your own network).

        The other arguments, and what is raised, are those of :func:`vit_pipeline.loading.load`.
        """
        loaded = loading.load(
            name,
            revision,
            device=device,
            dtype=dtype,
            refresh=refresh,
            progress=progress,
            expected_sha256=expected_sha256,
        )
        return cls(loaded, allow_private=allow_private)

    def __repr__(self) -> str:
        dtype = str(self.dtype).removeprefix("torch.")
        return f"ViTPipeline({self.provenance}, {len(self.labels)} classes, {self.device}, {dtype})"

    # The four steps of the tutorial

    def read(self, source: Any) -> Image.Image:
        """One upright RGB image from a URL, path, bytes, file, ``data:`` URL, PIL image, array or tensor.

        Raises ImageError. The forms are listed at :func:`vit_pipeline.images.read_image`.
        """
        return read_image(source, allow_private=self.allow_private)

    def preprocess(self, images: Image.Image | Sequence[Image.Image]) -> torch.Tensor:
        """Resize, rescale, normalise as the checkpoint says: RGB images → (B, 3, H, W), on the device."""
        batch = images if isinstance(images, Sequence) else [images]
        return torch.stack([to_pixel_values(self.processor, image) for image in batch]).to(self.device)

    @torch.inference_mode()
    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) → logits (B, C), before softmax."""
        logits: torch.Tensor = self.model(pixel_values.to(self.device)).logits
        return logits

    def postprocess(
        self, logits: torch.Tensor, top_k: int = 5, sources: Sequence[str] | None = None
    ) -> list[Prediction]:
        """Logits (B, C) → probabilities → the ``top_k`` classes of each image, best first.

        Softmax; the sigmoid for a checkpoint that says ``multi_label_classification``. ``top_k`` larger than
        the number of classes gives them all. Raises ArgumentError.
        """
        top_k = _count("top_k", top_k)
        if logits.ndim != 2 or logits.shape[1] != len(self.labels):
            raise ArgumentError(f"logits have the shape {tuple(logits.shape)}, not (B, {len(self.labels)})")
        several = self.model.config.problem_type == "multi_label_classification"
        scores = logits.float().sigmoid() if several else logits.float().softmax(-1)  # (B, C)
        if not bool(torch.isfinite(scores).all()):
            raise CheckpointError(f"{self.provenance.name}: the logits are not finite: use dtype float32")
        values, indices = scores.topk(min(top_k, len(self.labels)))  # (B, k)
        names = sources if sources is not None else [""] * len(logits)
        results = []
        for name, row, columns in zip(names, values.tolist(), indices.tolist(), strict=True):
            top = tuple(LabelScore(self.labels[i], score, i) for score, i in zip(row, columns, strict=True))
            best = top[0]
            results.append(Prediction(best.label, best.score, best.index, top, name, self.provenance.name))
        return results

    # Images to predictions

    @overload
    def __call__(
        self,
        inputs: list[Any] | tuple[Any, ...],
        top_k: int = ...,
        batch_size: int = ...,
        *,
        on_error: Literal["return"],
    ) -> list[Prediction | VitPipelineError]: ...
    @overload
    def __call__(
        self, inputs: list[Any] | tuple[Any, ...], top_k: int = ..., batch_size: int = ...
    ) -> list[Prediction]: ...
    @overload
    def __call__(self, inputs: Any, top_k: int = ..., batch_size: int = ...) -> Prediction: ...
    def __call__(
        self,
        inputs: Any,
        top_k: int = 5,
        batch_size: int = 8,
        *,
        on_error: Literal["raise", "return"] = "raise",
    ) -> Any:
        """One image → a Prediction; a list or tuple of images → a list of them, in the same order.

        Args:
            inputs: anything :meth:`read` takes, or a list or tuple of it.
            top_k: how many classes each prediction lists.
            batch_size: images in one forward pass.
            on_error: ``"raise"`` the first image's ImageError, or ``"return"`` it in the image's place,
                so that one bad image does not lose the others.
        """
        top_k, batch_size = _count("top_k", top_k), _count("batch_size", batch_size)
        if on_error not in ("raise", "return"):
            raise ArgumentError(f"on_error is {on_error!r}; use 'raise' or 'return'")
        single = not isinstance(inputs, list | tuple)
        results: list[Prediction | VitPipelineError] = []
        for chunk in _chunks([inputs] if single else inputs, batch_size):
            pixels, chunk_results = self._prepare(chunk, raising=on_error == "raise")
            if pixels:
                names = [source_name(chunk[place]) for place in pixels]
                logits = self.forward(torch.stack(list(pixels.values())))
                for place, prediction in zip(pixels, self.postprocess(logits, top_k, names), strict=True):
                    chunk_results[place] = prediction
            results += [chunk_results[place] for place in range(len(chunk))]
        return results[0] if single else results

    def _prepare(
        self, sources: Sequence[Any], raising: bool
    ) -> tuple[dict[int, torch.Tensor], dict[int, Prediction | VitPipelineError]]:
        """By place in ``sources``: pixel values (3, H, W) of the good images, errors of the bad ones."""
        pixels: dict[int, torch.Tensor] = {}
        errors: dict[int, Prediction | VitPipelineError] = {}
        for place, source in enumerate(sources):
            try:
                pixels[place] = to_pixel_values(self.processor, self.read(source), source_name(source))
            except ImageError as error:
                if raising:
                    raise
                errors[place] = error
        return pixels, errors

    def stream(
        self, inputs: Iterable[Any], batch_size: int = 8, **options: Any
    ) -> Iterator[Prediction | VitPipelineError]:
        """Predictions and errors for any number of images, one at a time, in order, in bounded memory.

        Decodes in threads while the model is at work. The options are those of
        :func:`vit_pipeline.batch.stream`: ``top_k``, ``threads``, ``jpeg_draft``, ``compile``.
        """
        from .batch import stream

        return stream(self, inputs, batch_size, **options)

    def features(self, inputs: Any, pool: Pool = "cls", batch_size: int = 8) -> torch.Tensor:
        """What the classifier's head sees: hidden states after the final LayerNorm, in float32 on the CPU.

        Args:
            inputs: one image or a list of them, as for calling the pipeline.
            pool: ``"cls"`` the CLS token, (B, D); ``"mean"`` the mean of the patch tokens, (B, D);
                ``"patches"`` all patch tokens, row by row of the image, (B, N, D).
            batch_size: images in one forward pass.

        Raises ImageError, ArgumentError. Source: Dosovitskiy et al. 2021, equation 4.
        """
        if pool not in ("cls", "mean", "patches"):
            raise ArgumentError(f"pool is {pool!r}; use 'cls', 'mean' or 'patches'")
        sources = inputs if isinstance(inputs, list | tuple) else [inputs]
        chunks = []
        for chunk in _chunks(sources, _count("batch_size", batch_size)):
            pixels, _ = self._prepare(chunk, raising=True)
            chunks.append(self._pooled(torch.stack(list(pixels.values())).to(self.device), pool))
        if not chunks:
            raise ArgumentError("no images were given")
        return torch.cat(chunks)  # outside inference mode: a plain tensor, fit for training a probe on

    @torch.inference_mode()
    def _pooled(self, pixel_values: torch.Tensor, pool: Pool) -> torch.Tensor:
        tokens: torch.Tensor = self.model.vit(pixel_values).last_hidden_state.float().cpu()  # (B, 1 + N, D)
        if pool == "patches":
            return tokens[:, 1:]
        return tokens[:, 0] if pool == "cls" else tokens[:, 1:].mean(dim=1)


def predict(
    image: Any,
    model: str | Path = DEFAULT_MODEL,
    *,
    revision: str | None = None,
    top_k: int = 5,
    device: str = "auto",
    dtype: str = "float32",
    allow_private: bool = False,
) -> Any:
    """An image in, its Prediction out (a list in, a list out). The model stays loaded between calls.

    >>> print(predict("examples/cat.png", model="demo"))
    Predicted class: cat

    The arguments are those of :meth:`ViTPipeline.from_pretrained` and of calling a pipeline.
    """
    with _LOCK:
        pipe = _kept(model, revision, device, dtype, allow_private)
    return pipe(image, top_k)


_LOCK = threading.Lock()


@lru_cache(maxsize=2)
def _kept(
    model: str | Path, revision: str | None, device: str, dtype: str, allow_private: bool
) -> ViTPipeline:
    return ViTPipeline.from_pretrained(
        model, revision, device=device, dtype=dtype, allow_private=allow_private
    )


def _chunks(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    items = list(items)
    return (items[start : start + size] for start in range(0, len(items), size))


def _count(name: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ArgumentError(f"{name} is {value!r}; a whole number of at least 1 is needed")
    return value


__all__ = ["LabelScore", "Prediction", "ViTPipeline", "predict"]
