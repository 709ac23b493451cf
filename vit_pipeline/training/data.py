"""Labelled images → what a model is trained on and what it is measured on, checked before any training.

All images go through the engine once: it finds those that cannot be read and those that are there twice, and
takes the features that the head is fitted to. Leaves out: what is labelled (``labelled``).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .. import engine
from ..errors import ArgumentError, ImageError, VitPipelineError, printable
from ..files import kept_arrays
from ..labelled import find_splits, read_labelled

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from ..pipeline import ViTPipeline

    Array = NDArray[Any]

SPLITS = ("train", "val", "test")
_CHUNK = 64  # batches in one file of the cache
_UNEQUAL = 10  # times as many images: worth a word


class Item(NamedTuple):
    """A labelled image as it was found."""

    name: str
    image: Any  #: what to read, or an ImageError
    label: str
    split: str  #: "train", "val", "test"; "" where the source does not say


class Seen(NamedTuple):
    """What reading the images has shown; a row each."""

    features: Array  #: (N, D), float32: what the head sees
    digests: Array  #: (N,), of the pixel values: equal for images that the model cannot tell apart
    errors: Mapping[int, str]  #: place → why that image could not be read


def find(source: str | Path) -> list[Item]:
    """All labelled images of a folder or table. Raises ArgumentError where they show no two classes."""
    path = Path(source)
    splits: Mapping[str, Path] = find_splits(path) if path.is_dir() else {}
    if splits and "train" not in splits:
        raise ArgumentError(f"{path}: has {', '.join(splits)} but no train to train on")
    items = [
        Item(*one, split)
        for split in ([name for name in SPLITS if name in splits] or [""])
        for one in read_labelled(path, split or None)
    ]
    readable = (item for item in items if not isinstance(item.image, ImageError))
    check_classes(path, {item.label for item in readable if item.split in ("", "train")})
    return items


def check_classes(source: object, labels: set[str]) -> None:
    """ArgumentError unless there are two: with one, whatever the model says is right."""
    if len(labels) < 2:
        found = f"only the class {min(labels)}" if labels else "no class"
        raise ArgumentError(
            f"{source}: {found} has images to train on; two are needed, such as a folder of other things"
        )


def read(
    items: Sequence[Item],
    pipe: ViTPipeline,
    batch_size: int,
    cache: Path | None,
    progress: Callable[[int], None],
) -> Seen:
    """Read every image once, in bounded memory.

    Args:
        cache: a folder; what is in it from an earlier run is not computed again. None: nothing is kept.
        progress: called with the number of images so far.
    """

    def compute(pixel_values: torch.Tensor, _: list[str]) -> list[tuple[Array, bytes]]:
        features = pipe.pooled(pixel_values).numpy()  # (B, D)
        digests = (blake2b(image, digest_size=16).digest() for image in pixel_values.numpy())
        return [*zip(features, digests, strict=True)]

    def rows(start: int, part: Sequence[Item]) -> Iterator[tuple[Array, bytes, str]]:
        pairs = ((item.name, item.image) for item in part)
        nothing, done = np.zeros(pipe.model.config.hidden_size, np.float32), start
        with closing(engine.run(pairs, pipe.preparer(), compute, batch_size=batch_size)) as batches:
            for batch in batches:
                for _, found in batch:
                    yield (nothing, b"", str(found)) if isinstance(found, VitPipelineError) else (*found, "")
                progress(done := done + len(batch))

    def part(start: int) -> dict[str, Array]:
        features, digests, errors = zip(*rows(start, items[start : start + size]), strict=True)
        return {
            "features": np.stack(features),
            "digests": np.array(digests, "V16"),
            "errors": np.array(errors),
        }

    size = _CHUNK * batch_size  # whole batches: a resumed run computes the same, to the bit
    parts = []
    for start in range(0, len(items), size):
        path = cache / f"features-{start}.npz" if cache else None
        parts.append(kept_arrays(path, partial(part, start), "; make room, then resume"))
    features, digests, errors = (np.concatenate([one[name] for one in parts]) for name in parts[0])
    return Seen(features, digests, {int(place): str(errors[place]) for place in np.flatnonzero(errors != "")})


@dataclass(frozen=True)
class Plan:
    """What is trained on and what is measured on, and why. ``print`` it."""

    source: str
    labels: tuple[str, ...]  #: sorted; their places are the classes' indices
    counts: Mapping[str, Mapping[str, int]]  #: split → label → images
    notes: tuple[str, ...]  #: what was found, and what is done about it

    def __str__(self) -> str:
        use = {"train": "to train on", "val": "to validate with", "test": "to test with"}
        said = [f"{sum(of.values()):,} {use[split]}" for split, of in self.counts.items() if any(of.values())]
        first = f"{self.source}: {len(self.labels):,} classes; images: {', '.join(said)}"
        return "\n".join(map(printable, (first, *self.notes)))


def make_plan(
    source: object, items: Sequence[Item], seen: Seen, seed: int, validation: float
) -> tuple[Plan, Array, Mapping[str, Array]]:
    """Decide what becomes of each image.

    Args:
        seed: draws the images to validate with, where the source does not say which.
        validation: their share of each class; 0: none.

    Returns the plan, the images' classes (N,), and split → places among ``items``.

    Raises ArgumentError where images of no two classes are left.
    """
    notes = [f"{len(seen.errors):,} cannot be read: left out"] if seen.errors else []
    copies: defaultdict[bytes, list[int]] = defaultdict(list)
    for place, digest in enumerate(seen.digests.tolist()):
        if place not in seen.errors:
            copies[digest].append(place)
    kept, unclear = list[int](), list[int]()
    within, across = list[tuple[int, int]](), list[tuple[int, int]]()  # a split; the first, its copy
    for places in copies.values():
        first = places[0]  # train comes before val, and that before test
        if len({items[place].label for place in places}) > 1:
            unclear += places
            continue
        kept.append(first)
        for place in places[1:]:
            (within if items[place].split == items[first].split else across).append((first, place))
    if unclear:
        one = ", ".join(f"{items[place].name} ({items[place].label})" for place in unclear[:2])
        notes.append(f"{len(unclear):,} are the same image under several labels: left out, such as {one}")
    if twice := across + within:
        also = f", {len(across):,} of them across train, val and test" if across else ""
        one = f"{items[twice[0][1]].name} is {items[twice[0][0]].name}"
        notes.append(f"{len(twice):,} are copies{also}: left out, the first stays; such as {one}")

    trained = {items[place].label for place in kept if items[place].split in ("", "train")}
    check_classes(source, trained)
    labels = tuple(sorted(trained))
    if lost := sorted({item.label for item in items} - trained):
        notes.append(f"no images to train on: {len(lost):,} classes are left out: {', '.join(lost[:5])}")
    classes = {label: index for index, label in enumerate(labels)}
    truth = np.array([classes.get(item.label, -1) for item in items])
    left = np.array([place for place in sorted(kept) if truth[place] >= 0])
    splits = np.array([items[place].split or "train" for place in left])
    if "val" not in splits and validation:
        said = "" if "test" in splits else "; the accuracy is theirs"
        notes.append(
            f"no val: {validation:.0%} of each class are drawn to validate with, by seed {seed}{said}"
        )
        draw = np.random.default_rng(seed)
        for index in range(len(labels)):
            own = draw.permutation(np.flatnonzero((truth[left] == index) & (splits == "train")))
            count = max(round(validation * len(own)), 1) if len(own) > 1 else 0
            splits[own[: min(count, len(own) - 1)]] = "val"
    elif "val" not in splits:
        notes.append("no val, and none is drawn: all of train is trained on")
    of = {split: left[splits == split] for split in SPLITS}
    tables = {split: np.bincount(truth[found], minlength=len(labels)).tolist() for split, found in of.items()}
    counts = {split: dict(zip(labels, table, strict=True)) for split, table in tables.items()}
    few, many = min(labels, key=counts["train"].__getitem__), max(labels, key=counts["train"].__getitem__)
    if (ratio := counts["train"][many] / counts["train"][few]) >= _UNEQUAL:
        notes.append(
            f"{many} has {ratio:,.0f} times as many images to train on as {few}: each image counts the same, "
            "so small classes are named too seldom; look at their recall"
        )
    if single := sum(count == 1 for count in counts["train"].values()):
        notes.append(f"{single:,} classes have a single image to train on: too few to trust")
    return Plan(str(source), labels, counts, tuple(notes)), truth, of
