"""An image in, the ``id2label`` prediction out: read → preprocess → forward → postprocess.

Each step can be used alone, as in the tutorial. Leaves out: what a name means and whether its files can be
trusted (``loading``), how bytes become pixels (``images``), the loop over many images (``engine``).
"""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from difflib import get_close_matches
from functools import lru_cache
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, TypeVar, Unpack, cast, overload

import torch
from safetensors import SafetensorError

from . import engine, loading
from .backends import Backend, BackendName, OpenVINO, Torch
from .checkpoints.files import CALIBRATION
from .checkpoints.folder import Calibration
from .checkpoints.processors import draft_size, quiet_transformers, seen_image, to_pixel_values
from .errors import ArgumentError, CheckpointError, VitPipelineError, printable
from .files import new_folder, template
from .images import read_image, source_name, to_data_url
from .names import DEFAULT_MODEL

if TYPE_CHECKING:
    from PIL import Image

    from .explain import Explanation
    from .fast import Agreement

R = TypeVar("R")
Pool = Literal["cls", "mean", "patches"]
Many = list[Any] | tuple[Any, ...] | Iterator[Any]


class ReadOptions(TypedDict, total=False):
    """How a pipeline reads images, as :func:`vit_pipeline.images.read_image` does."""

    allow_private: bool
    proxy: str | None
    max_pixels: int


class Options(ReadOptions, loading.LocateOptions, total=False):
    """How a pipeline is loaded, as :func:`vit_pipeline.loading.load` does."""

    device: str | torch.device
    dtype: str | torch.dtype
    backend: BackendName


@dataclass(frozen=True)
class LabelScore:
    """One class: its name, its probability (0 to 1), its index in the logits."""

    label: str
    score: float
    index: int

    def to_dict(self) -> dict[str, Any]:
        """As it stands in JSON output."""
        return asdict(self)


@dataclass(frozen=True)
class Prediction:
    """What the model says of one image. ``print(prediction)`` reads like the tutorial's last line."""

    label: str  #: the likeliest class
    score: float  #: its probability, 0 to 1
    index: int  #: its index in the logits
    top: tuple[LabelScore, ...]  #: the likeliest classes, best first
    source: str  #: the image's name
    model: str  #: the model's name
    calibrated: float | None = None  #: about so many of such answers are right; None: not evaluated
    unlike: bool | None = None  #: whether the image is unlike those that the model was evaluated on
    #: what the model saw, a data: URL; for notebooks
    seen: str = field(default="", repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """``source, model, label, score, index, top``, as it stands in JSON output; and of a model that was
        calibrated, ``calibrated, unlike``.
        """
        found = {name: getattr(self, name) for name in ("source", "model", "label", "score", "index")}
        found |= {"top": [entry.to_dict() for entry in self.top]}
        if self.calibrated is not None:
            found |= {"calibrated": self.calibrated, "unlike": self.unlike}
        return found

    def to_hf(self) -> list[dict[str, Any]]:
        """The list of ``{"label", "score"}`` that ``transformers.pipeline("image-classification")`` gives."""
        return [{"label": entry.label, "score": entry.score} for entry in self.top]

    def __str__(self) -> str:
        return f"Predicted class: {printable(self.label)}"

    def _repr_html_(self) -> str:
        return template(Path(__file__).with_name("prediction.html.j2")).render(prediction=self)


class ViTPipeline:
    """A ViT image classifier. ``model``, ``processor``, ``device`` are the plain Hugging Face objects.

    >>> pipe = ViTPipeline.from_pretrained("demo")
    >>> image = pipe.read("examples/cat.png")            # a PIL image, RGB, upright
    >>> pixel_values = pipe.preprocess(image)            # (1, 3, 32, 32)
    >>> logits = pipe.forward(pixel_values)              # (1, 10)
    >>> print(pipe.postprocess(logits)[0])
    Predicted class: cat
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        *,
        provenance: loading.Provenance | None = None,
        notes: Sequence[str] = (),
        calibration: Calibration | None = None,
        backend: Backend | None = None,
        **reading: Unpack[ReadOptions],
    ) -> None:
        """Take objects in memory as they are: your own model, fresh from a fine-tune.

        Args:
            model: a ``ViTForImageClassification`` on its device, or a ``ViTModel``, which has features only.
                It is put into ``eval()`` mode.
            processor: its image processor.
            provenance: where both are from; None: from memory, to be checked here.
            notes: what the user should know about them, a line each.
            calibration: what ``evaluate`` has found out about the model.
            backend: what computes; None: the model itself, on torch.
            reading: :class:`ReadOptions`.

        Raises ArgumentError for other objects; CheckpointError where model, processor and class names do not
        fit each other.
        """
        signature(read_image).bind("", **reading)  # TypeError for an unknown option
        if not isinstance(model, torch.nn.Module):
            raise ArgumentError(f"model is a {type(model).__name__}; from_pretrained takes a name")
        if not callable(processor):
            raise ArgumentError(f"processor is {processor!r}; give the model's image processor")
        self.model: Any = model.eval()
        self.backend: Backend = backend or Torch(self.model)
        self.agreement: Agreement | None = None  # with float32 on torch, where that was measured
        self.processor = processor
        self.labels = loading.class_names(model)
        self.provenance = provenance or loading.Provenance(type(model).__name__, "memory", None, None)
        self.notes, self.calibration = tuple(notes), calibration
        self.reading = reading
        if provenance is None:
            loading.check_pair(model, processor, self.name)

    @classmethod
    def from_pretrained(
        cls, name: str | Path = DEFAULT_MODEL, revision: str | None = None, **options: Unpack[Options]
    ) -> ViTPipeline:
        """Load a model by name, from ModelScope, a folder, or the package itself, and check it.

        Args:
            name: ``vit-base``, ``vit-small``, ``demo``, ``owner/name`` or ``owner/name@revision`` on
                ModelScope, or a folder.
            revision: a branch or tag.
            options: :class:`ReadOptions`, those of :func:`vit_pipeline.loading.load`, and ``backend``:
                ``"openvino"`` computes on the CPU, faster there and not to the last bit the same, in
                ``dtype`` ``float32`` or ``bfloat16``; :func:`vit_pipeline.fast.faster` has ``int8``.

        Raises ModelError, DeviceError; ArgumentError for another backend, or one that is not installed.
        """
        given: dict[str, Any] = {**options}
        for key in given.keys() - Options.__annotations__.keys():
            near = get_close_matches(key, ["model", *Options.__annotations__], 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise TypeError(f"{key!r} is no option of a pipeline{hint}")
        reading = {key: given.pop(key) for key in ReadOptions.__annotations__ if key in given}
        backend = given.pop("backend", "torch")
        if backend == "torch":
            return cls(**vars(loading.load(name, revision, **given)), **reading)
        if backend != "openvino":
            raise ArgumentError(f"backend is {backend!r}; use 'torch' or 'openvino'")
        if str(given.pop("device", "auto")) not in ("auto", "cpu"):
            raise ArgumentError("the backend 'openvino' computes on the CPU: leave device out")
        precision = str(given.pop("dtype", "float32")).removeprefix("torch.")
        loaded = loading.load(name, revision, device="cpu", **given)
        return cls(**vars(loaded), backend=OpenVINO(loaded.model, precision), **reading)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write model and processor into a new or empty folder, complete or not at all.

        Plain transformers loads it, and so does :meth:`from_pretrained`. Raises OutputError.
        """
        with new_folder(folder) as partial_folder:
            self.write_files(partial_folder)

    def write_files(self, folder: Path) -> None:
        """The same into a folder that somebody else completes. Raises OSError."""
        with quiet_transformers():
            try:
                self.model.save_pretrained(folder)
            except SafetensorError as error:
                raise OSError(str(error)) from error  # such as a full disk
            self.processor.save_pretrained(folder)
        if self.calibration:
            (folder / CALIBRATION).write_text(json.dumps(asdict(self.calibration)), "utf-8")

    @property
    def name(self) -> str:
        """The model's name, as the user said it."""
        return self.provenance.name

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.backend.device

    @property
    def dtype(self) -> torch.dtype:
        """The number format of its weights."""
        return cast(torch.dtype, self.model.dtype)

    def __repr__(self) -> str:
        return f"ViTPipeline({self.provenance}, {len(self.labels)} classes, {self.device}, {self.backend})"

    # The four steps of the tutorial

    def read(self, source: Any, *, draft: tuple[int, int] | None = None) -> Image.Image:
        """One upright RGB image from a URL, path, bytes, file, ``data:`` URL, PIL image, array or tensor.

        Raises ImageError. The forms, and ``draft``, are those of :func:`vit_pipeline.images.read_image`.
        """
        return read_image(source, draft=draft, **self.reading)

    def preprocess(self, images: Image.Image | Sequence[Image.Image]) -> torch.Tensor:
        """Resize, rescale, normalise as the checkpoint says: RGB images → (B, 3, H, W), on the device."""
        batch = images if isinstance(images, Sequence) else [images]
        return torch.stack([to_pixel_values(self.processor, image) for image in batch]).to(self.device)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) → logits (B, C), before softmax."""
        if not self.labels:
            raise CheckpointError(
                f"{self.name}: a backbone without a classifier: use features, or fine-tune it"
            )
        return self.backend.logits(pixel_values)

    def probabilities(self, logits: torch.Tensor, function_to_apply: str | None = None) -> torch.Tensor:
        """Logits (B, C) → the score of each class, (B, C), in float32.

        As ``transformers.pipeline`` does: softmax; the sigmoid for a head of one class and for a config that
        says ``multi_label_classification``; the logits themselves for ``regression``; or what is asked for,
        ``"softmax"``, ``"sigmoid"`` or ``"none"``. Raises ArgumentError, CheckpointError.
        """
        if logits.ndim != 2 or logits.shape[1] != len(self.labels):
            raise ArgumentError(f"logits have the shape {tuple(logits.shape)}, not (B, {len(self.labels)})")
        problem, scores = self.model.config.problem_type, logits.float()  # (B, C)
        one_each = problem == "multi_label_classification" or len(self.labels) == 1
        usual = "none" if problem == "regression" else "sigmoid" if one_each else "softmax"
        function = function_to_apply or usual
        if function not in ("softmax", "sigmoid", "none"):
            raise ArgumentError(f"function_to_apply is {function!r}; use 'softmax', 'sigmoid' or 'none'")
        if function != "none":
            scores = scores.softmax(-1) if function == "softmax" else scores.sigmoid()
        if not bool(torch.isfinite(scores).all()):
            raise CheckpointError(f"{self.name}: the logits are not finite: use dtype float32")
        return scores

    def postprocess(
        self,
        logits: torch.Tensor,
        top_k: int = 5,
        sources: Sequence[str] | None = None,
        function_to_apply: str | None = None,
    ) -> list[Prediction]:
        """Logits (B, C) → :meth:`probabilities` → the ``top_k`` classes of each image, best first.

        ``top_k`` larger than the number of classes gives them all. Raises ArgumentError, CheckpointError.
        """
        top_k, scores = engine.positive("top_k", top_k), self.probabilities(logits, function_to_apply)
        values, indices = scores.topk(min(top_k, len(self.labels)))  # (B, k)
        names = sources if sources is not None else [""] * len(logits)
        honest: list[Any] = [(None, None)] * len(names)
        if self.calibration and not function_to_apply:
            honest = self.calibration.judge(logits)
        results = []
        for name, row, columns, more in zip(names, values.tolist(), indices.tolist(), honest, strict=True):
            top = tuple(LabelScore(self.labels[i], score, i) for score, i in zip(row, columns, strict=True))
            results.append(Prediction(top[0].label, top[0].score, top[0].index, top, name, self.name, *more))
        return results

    # Images to predictions

    @overload
    def __call__(
        self, inputs: Many, top_k: int = ..., batch_size: int = ..., *, on_error: Literal["return"]
    ) -> list[Prediction | VitPipelineError]: ...
    @overload
    def __call__(self, inputs: Many, top_k: int = ..., batch_size: int = ...) -> list[Prediction]: ...
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
        """One image → a Prediction; a list or any other iterable of images → a list of them, in order.

        Args:
            inputs: anything :meth:`read` takes, or an iterable of it.
            top_k: how many classes each prediction lists.
            batch_size: images in one forward pass.
            on_error: ``"raise"`` the first image's ImageError, or ``"return"`` it in the image's place,
                so that one bad image does not lose the others.
        """
        if on_error not in ("raise", "return"):
            raise ArgumentError(f"on_error is {on_error!r}; use 'raise' or 'return'")

        predict = self.predictor(top_k)

        def compute(pixel_values: torch.Tensor, names: list[str]) -> list[Prediction]:
            images = (seen_image(self.processor, one[None]) for one in pixel_values)
            seen = (to_data_url(image, "JPEG", quality=90, subsampling=0) for image in images)
            pairs = zip(predict(pixel_values, names), seen, strict=True)
            return [replace(prediction, seen=url) for prediction, url in pairs]

        many = is_many(inputs)
        results = self._each(inputs if many else [inputs], compute, batch_size, threads=1)
        found = [*(map(or_raise, results) if on_error == "raise" else results)]
        return found if many else found[0]

    def stream(
        self,
        inputs: Iterable[Any],
        batch_size: int = 8,
        *,
        top_k: int = 5,
        threads: int | None = None,
        jpeg_draft: bool = False,
        function_to_apply: str | None = None,
    ) -> Iterator[Prediction | VitPipelineError]:
        """A Prediction or an error for each of any number of images, in order, in bounded memory.

        Args:
            inputs: anything that :meth:`read` takes, from any iterable; read a few batches ahead.
            batch_size: images in one forward pass.
            top_k: how many classes each prediction lists.
            threads: how many read and preprocess while the model is at work; None: one a core.
            jpeg_draft: decode large JPEGs at a reduced size: quicker, with slightly different pixels.
            function_to_apply: as for :meth:`probabilities`.

        Raises ArgumentError, DeviceError, and what ``inputs`` itself raises.
        """
        compute = self.predictor(engine.positive("top_k", top_k), function_to_apply)
        return self._each(inputs, compute, batch_size, threads, jpeg_draft)

    def features(self, inputs: Any, pool: Pool = "cls", batch_size: int = 8) -> torch.Tensor:
        """What the classifier's head sees: hidden states after the final LayerNorm, in float32 on the CPU.

        Args:
            inputs: one image or an iterable of them, as for calling the pipeline.
            pool: ``"cls"`` the CLS token, (B, D); ``"mean"`` the mean of the patch tokens, (B, D);
                ``"patches"`` all patch tokens, row by row of the image, (B, N, D).
            batch_size: images in one forward pass.

        Raises ImageError, ArgumentError. Source: Dosovitskiy et al. 2021, equation 4.
        """
        many = inputs if is_many(inputs) else [inputs]
        results = self._each(many, lambda pixels, _: [*self.pooled(pixels, pool)], batch_size, threads=1)
        found = [*map(or_raise, results)]
        if not found:
            raise ArgumentError("no images were given")
        return torch.stack(found)  # outside inference mode: a plain tensor, fit for training a probe on

    def pooled(self, pixel_values: torch.Tensor, pool: Pool = "cls") -> torch.Tensor:
        """(B, 3, H, W) → features, as :meth:`features` gives them."""
        if pool not in ("cls", "mean", "patches"):
            raise ArgumentError(f"pool is {pool!r}; use 'cls', 'mean' or 'patches'")
        tokens = self.backend.tokens(pixel_values).float().cpu()
        patches = tokens[:, 1:]  # of (B, 1 + N, D)
        return patches if pool == "patches" else patches.mean(dim=1) if pool == "mean" else tokens[:, 0]

    def explain(self, image: Any, target: str | int | None = None) -> Explanation:
        """Where the decision for one image came from, and how far to trust that.

        Args:
            image: anything that :meth:`read` takes.
            target: the class to explain, by its label or index; None: the predicted one.

        Raises ImageError, ArgumentError. See :class:`vit_pipeline.explain.Explanation`.
        """
        from .explain import explain

        plain = self.on_torch()
        if plain.backend.precision != self.backend.precision:
            raise ArgumentError(f"{self.name}: explain looks into the model on torch, not {self.backend}")
        return explain(plain, self.preprocess(self.read(image)), source_name(image), target)

    def on_torch(self) -> ViTPipeline:
        """The same model as transformers computes it; itself, unless another backend does."""
        if self.backend.name == "torch":
            return self
        found = copy.copy(self)
        found.backend, found.agreement = Torch(self.model), None
        return found

    # What the engine runs

    def preparer(self, *, jpeg_draft: bool = False) -> engine.Prepare:
        """For :func:`vit_pipeline.engine.run`: read an image and preprocess it."""
        draft = draft_size(self.processor) if jpeg_draft else None
        return lambda name, source: to_pixel_values(self.processor, self.read(source, draft=draft), name)

    def predictor(
        self, top_k: int = 5, function_to_apply: str | None = None
    ) -> Callable[[torch.Tensor, list[str]], list[Prediction]]:
        """For :func:`vit_pipeline.engine.run`: pixel values (B, 3, H, W) and B names → predictions."""
        return lambda pixel_values, names: self.postprocess(
            self.forward(pixel_values), top_k, names, function_to_apply
        )

    def _each(
        self,
        inputs: Iterable[Any],
        compute: engine.Compute[R],
        batch_size: int,
        threads: int | None,
        jpeg_draft: bool = False,
    ) -> Iterator[R | VitPipelineError]:
        items = ((source_name(source), source) for source in inputs)
        prepare = self.preparer(jpeg_draft=jpeg_draft)
        batches = engine.run(items, prepare, compute, batch_size=batch_size, threads=threads)
        return (result for batch in batches for _, result in batch)


@overload
def predict(
    image: Many,
    model: str | Path = ...,
    *,
    revision: str | None = ...,
    top_k: int = ...,
    **options: Unpack[Options],
) -> list[Prediction]: ...
@overload
def predict(
    image: Any,
    model: str | Path = ...,
    *,
    revision: str | None = ...,
    top_k: int = ...,
    **options: Unpack[Options],
) -> Prediction: ...
def predict(
    image: Any,
    model: str | Path = DEFAULT_MODEL,
    *,
    revision: str | None = None,
    top_k: int = 5,
    **options: Unpack[Options],
) -> Any:
    """An image in, its Prediction out (a list in, a list out). The model stays loaded between calls.

    >>> print(predict("examples/cat.png", model="demo"))
    Predicted class: cat

    The arguments are those of :meth:`ViTPipeline.from_pretrained` and of calling a pipeline.
    """
    return kept_pipeline(model, revision, **options)(image, top_k)


def kept_pipeline(model: str | Path, revision: str | None = None, **options: Unpack[Options]) -> ViTPipeline:
    """A pipeline as :meth:`ViTPipeline.from_pretrained` loads it; the last two stay loaded."""
    with _LOCK:
        return _kept(model, revision, **options)


_LOCK = threading.Lock()
_kept = lru_cache(maxsize=2)(ViTPipeline.from_pretrained)


def is_many(inputs: Any) -> bool:
    """Whether these are several images: not text, bytes, an image's array, an open file or a row."""
    one = isinstance(inputs, str | bytes | bytearray | memoryview | Mapping) or hasattr(inputs, "read")
    many = isinstance(inputs, Iterable) or hasattr(inputs, "__getitem__")  # such as torch's Dataset
    return many and not one and getattr(inputs, "ndim", 1) == 1


def or_raise(result: R | VitPipelineError) -> R:
    """The result of one image; its error is raised."""
    if isinstance(result, VitPipelineError):
        raise result
    return result


__all__ = ["LabelScore", "Prediction", "ViTPipeline", "predict"]
