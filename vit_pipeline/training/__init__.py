"""Your own classes: a model fine-tuned on labelled images.

What was found and what becomes of it, features (``data``); the head, by logistic regression (``probe``); all
weights, by transformers' Trainer (``full``); what is written beside the weights (``card``). Here: the run as
a whole, and how it resumes. Leaves out: measuring a model on other images (``evaluation``).
"""

from __future__ import annotations

import copy
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

import torch
from filelock import FileLock, Timeout

from .. import engine, measures
from ..checkpoints.tensors import digest
from ..errors import ArgumentError, ImageError, OutputError, VitPipelineError, check_installed, reason
from ..files import file_state, replacing
from ..loading import pick_dtype
from ..pipeline import ViTPipeline
from . import card, data, probe

Method = Literal["probe", "full"]
Plan = data.Plan
Progress = Callable[[str, int, int, Mapping[str, float]], None]

_RUN = "run.json"
_ENOUGH = 100  # images to choose an epoch by
_STEPS = 100  # with fewer, the learning rate is smaller


@dataclass(frozen=True)
class Finetuned:
    """What :func:`finetune` makes. ``print`` it, or :meth:`save` it."""

    pipe: ViTPipeline  #: the new model; features, explanations and all else work as ever
    plan: data.Plan  #: the images
    measured_on: str | None  #: "test" or "val"; None: there were no images to measure with
    accuracy: measures.Rate | None
    classes: tuple[measures.ClassScores, ...]
    confusion: tuple[measures.Pair, ...]  #: the cells that are not empty, the fullest first
    history: tuple[Mapping[str, float], ...]  #: full: an entry an epoch; probe: one for each C that was tried
    recipe: Mapping[str, Any]  #: method, base model, seed and all other settings
    notes: tuple[str, ...] = ()  #: what the user should know of the training

    def to_dict(self) -> dict[str, Any]:
        """Everything but the model, ready for JSON."""
        return card.to_dict(self)

    def __str__(self) -> str:
        return card.render(self, "card.txt.j2")

    def save(self, folder: str | Path) -> None:
        """Write a new folder that plain transformers loads, complete or not at all.

        ``config.json`` with the labels, ``preprocessor_config.json``, ``model.safetensors``; ``README.md``,
        the model card; ``training.json``; ``curves.png`` where matplotlib is installed. Raises OutputError.
        """
        card.save(self, folder)


def finetune(
    source: str | Path,
    pipe: ViTPipeline | None = None,
    out: str | Path | None = None,
    *,
    method: Method = "probe",
    epochs: int = 15,
    learning_rate: float | None = None,
    batch_size: int = 16,
    accumulate: int = 1,
    dtype: str = "float32",
    flip: bool = False,
    validation: float = 0.2,
    seed: int = 0,
    resume: bool = False,
    on_error: Callable[[VitPipelineError], None] | None = None,
    on_plan: Callable[[data.Plan], None] | None = None,
    progress: Progress | None = None,
) -> Finetuned:
    """Teach a model your own classes.

    Args:
        source: a folder of ``<class>/…/<image>``; such folders inside ``train/``, ``val/`` and ``test/``; or
            a ``.csv`` or ``.jsonl`` file with ``path`` and ``label``.
        pipe: the model to start from, with or without a classifier; None: the default one. It stays as it is.
        out: a new folder to write the model to, see :meth:`Finetuned.save`. Until that is complete, features
            and checkpoints are kept beside it, in ``<out>.unfinished``. None: nothing is written.
        method: ``"probe"``: only the head, by logistic regression on the features: exact, and quick.
            ``"full"``: all weights, from that head on (Kumar et al. 2022); the epoch with the smallest
            validation loss is kept.
        epochs, accumulate, flip: of ``"full"``. Gradients of ``accumulate`` batches are added up for a step;
            ``flip`` mirrors half of the images: good for photos, wrong for letters, digits and signs.
        learning_rate: of ``"full"``, for the head; layers below have less. None: 0.2 / the model's width, as
            for Adam the best one falls as the width grows (Yang et al. 2022); less where there are fewer than
            100 steps, in proportion: Adam's first ones are as large as any, and throw away what was learnt.
        batch_size: images in one forward pass.
        dtype: of ``"full"``: ``"bfloat16"`` for products of matrices; the weights are float32 all the same.
        validation: the share of each class that is validated with where the source has no ``val``. None is
            where there is a ``test`` and they would be few: ``"full"`` then trains on all, for all epochs.
        seed: draws everything that is drawn.
        resume: go on with an unfinished run of the same settings and images.
        on_error: called for each image that cannot be read; it is left out.
        on_plan: called before any training with what was found and what will be done.
        progress: called with ``"read"`` and images, or ``"train"`` and steps: so far, in all, and what was
            measured last (``loss``, ``accuracy``).

    Several GPUs: ``accelerate launch``; each process trains on a part of each batch's images.

    Raises ArgumentError: there are no two classes, scikit-learn is missing, or a run is resumed with other
    settings; OutputError: ``out`` or an unfinished run is there already, or nothing can be written.
    """
    check_installed("scikit-learn", "finetune", "sklearn")
    check_installed("scipy", "finetune")
    items = data.find(source)
    pipe = (pipe or ViTPipeline.from_pretrained()).on_torch()
    if pipe.dtype != torch.float32:
        raise ArgumentError(f"{pipe.name}: is loaded in {pipe.dtype}; training starts from float32 weights")
    recipe: dict[str, Any] = {"method": method, "seed": seed}
    recipe |= {"validation": validation, "batch_size": batch_size}
    if method == "full":
        from . import full  # the Trainer takes a second to import

        dtype = str(pick_dtype(dtype, torch.device("cpu"))).removeprefix("torch.")
        recipe |= {"epochs": epochs, "accumulate": accumulate, "flip": flip}
        recipe |= {"dtype": dtype, "processes": int(os.environ.get("WORLD_SIZE", "1")), **full.FIXED}
        recipe |= {} if learning_rate is None else {"learning_rate": learning_rate}
    _check(recipe)
    if method == "full" and learning_rate is None:
        a_step = batch_size * accumulate * recipe["processes"]
        steps = epochs * -(-sum(item.split not in ("val", "test") for item in items) // a_step)
        recipe["learning_rate"] = 0.2 / pipe.model.config.hidden_size * min(1, steps / _STEPS)
    say: Progress = progress or (lambda *_: None)
    recipe |= {"model": str(pipe.provenance), "weights": digest(pipe.model), "images": _listing(items)}
    with _workplace(source, out, recipe, resume) as work:
        seen = data.read(items, pipe, batch_size, work, lambda done: say("read", done, len(items), {}))
        for text in seen.errors.values():
            if on_error:
                on_error(ImageError(text))
        trained = sum(item.split != "test" for item in items)
        chooses = method == "full" and validation * trained >= _ENOUGH  # an epoch: fewer images mislead
        held_out = validation if chooses or trained == len(items) else 0
        plan, truth, of = data.make_plan(source, items, seen, seed, held_out)
        if on_plan:
            on_plan(plan)
        weights, bias, history = probe.fit_head(seen.features[of["train"]], truth[of["train"]], seed)
        tuned = _with_head(pipe, plan.labels, weights, bias)
        found: dict[str, Any] = {"accuracy": None, "classes": (), "confusion": ()}
        if method == "full":
            history = full.train(tuned, items, truth, of, work, say, **recipe)
            end = full.predict(tuned, [items[place] for place in of["train"]], batch_size).numpy()
            start = seen.features[of["train"]] @ weights.T + bias  # logits (N, C)
            before, after = (full.smoothed_loss(logits, truth[of["train"]]) for logits in (start, end))
            if after > before:
                what = f"training went from a loss of {before:.3g} to {after:.3g}, so its start is kept"
                tuned = _with_head(pipe, plan.labels, weights, bias)
                found["notes"] = (f"{what}; use more epochs, or a smaller learning rate",)
        measured_on = next((name for name in ("test", "val") if len(of[name])), None)
        if measured_on:
            places = of[measured_on]
            if method == "full":
                logits = full.predict(tuned, [items[place] for place in places], batch_size).numpy()
            else:
                logits = seen.features[places] @ weights.T + bias  # (N, C)
            right, given = truth[places], logits.argmax(axis=1)
            found |= {
                "accuracy": measures.rate(right == given),
                "classes": measures.class_scores(right, given, plan.labels),
                "confusion": measures.confusion(right, given, plan.labels),
            }
        made = Finetuned(tuned, plan, measured_on, history=tuple(history), recipe=recipe, **found)
        if out is not None and _is_main():
            made.save(out)
    return made


def _check(recipe: Mapping[str, Any]) -> None:
    """Raise ArgumentError for a setting that cannot be used."""
    if recipe["method"] not in ("probe", "full"):
        raise ArgumentError(f"method is {recipe['method']!r}; use 'probe' or 'full'")
    for name, below in (("validation", 0.0), ("learning_rate", 1e-12)):
        if not below <= recipe.get(name, 0.5) < 1:
            raise ArgumentError(f"{name} is {recipe[name]}; it has to lie between 0 and 1")
    for name in ("batch_size", "epochs", "accumulate"):
        engine.positive(name, recipe.get(name, 1))


def _with_head(pipe: ViTPipeline, labels: tuple[str, ...], weights: Any, bias: Any) -> ViTPipeline:
    """A copy with a new classifier: weights (C, D) and bias (C,)."""
    from transformers import ViTForImageClassification, ViTModel

    if not isinstance(pipe.model, ViTForImageClassification | ViTModel):
        raise ArgumentError(f"{pipe.name}: is a {type(pipe.model).__name__}, not transformers' ViT")
    config = copy.deepcopy(pipe.model.config)
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: index for index, label in enumerate(labels)}
    config.problem_type, config.architectures = "single_label_classification", ["ViTForImageClassification"]
    if hasattr(config, "function_to_apply"):
        del config.function_to_apply
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        model = ViTForImageClassification(config)
        backbone = getattr(pipe.model, "vit", pipe.model)
        model.vit.load_state_dict({k: v for k, v in backbone.state_dict().items() if k[:6] != "pooler"})
        model.classifier.weight.copy_(torch.from_numpy(weights))
        model.classifier.bias.copy_(torch.from_numpy(bias))
    notes = tuple(note for note in pipe.notes if "without a classifier" not in note)
    return ViTPipeline(model.to(pipe.device), pipe.processor, notes=notes, **pipe.reading)


def _listing(items: list[data.Item]) -> dict[str, Any]:
    """What tells whether images or labels have changed, without reading them."""
    found = blake2b(digest_size=16)
    for item in items:
        found.update(repr((item.name, item.label, item.split, file_state(item.image))).encode())
    return {"count": len(items), "digest": found.hexdigest()}


def _is_main() -> bool:
    return os.environ.get("RANK", "0") == "0"  # as accelerate launch and torchrun set it


@contextmanager
def _workplace(
    source: str | Path, out: str | Path | None, recipe: Mapping[str, Any], resume: bool
) -> Iterator[Path | None]:
    """A folder for what an unfinished run keeps; it goes when the run is finished.

    Raises OutputError: ``out`` is there, or another run is; ArgumentError: the unfinished one was another.
    """
    if out is None:
        yield None
        return
    target = Path(out)
    if target.resolve().is_relative_to(Path(source).resolve()):
        raise ArgumentError(f"{out}: is inside {source}, where it would be a class; name a place outside")
    work = target.with_name(f"{target.name}.unfinished")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise OutputError(f"{target}: is there already; name a new folder")
    lock = FileLock(work / "lock", blocking=False)
    try:
        work.mkdir(parents=True, exist_ok=True)
        if _is_main():
            lock.acquire()
            _check_run(work, json.loads(json.dumps(recipe)), resume)
    except Timeout as error:
        raise OutputError(f"{work}: another run is at work there; wait, or name another output") from error
    except OSError as error:
        raise OutputError(f"{work}: cannot be written: {reason(error)}") from error
    try:
        yield work
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.barrier()  # others may still be reading a checkpoint
        if _is_main():
            shutil.rmtree(work, ignore_errors=True)
    except ArgumentError:  # there is nothing to resume: other images or settings are needed
        shutil.rmtree(work, ignore_errors=True)
        raise
    finally:
        lock.release()


def _check_run(work: Path, recipe: dict[str, Any], resume: bool) -> None:
    path = work / _RUN
    if not path.exists():
        with replacing(path) as partial:
            partial.write_text(json.dumps(recipe, indent=2), encoding="utf-8")
        return
    if not resume:
        raise OutputError(f"{work}: has an unfinished run; resume it, or delete that folder")
    before = json.loads(path.read_text(encoding="utf-8"))
    different = [
        "the images or labels" if key == "images" else f"{key} (was {before.get(key)}, is {value})"
        for key, value in recipe.items()
        if before.get(key) != value
    ]
    if different:
        what = f"that run had other settings: {', '.join(different)}"
        raise ArgumentError(f"{work}: {what}; use the same ones, or name another output")


__all__ = ["Finetuned", "Plan", "finetune"]
