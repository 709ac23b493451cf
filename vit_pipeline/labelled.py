"""Images that people have labelled, one at a time; and which of a model's classes their labels mean.

Leaves out: what counts as an image in a folder (``sources``), reading it (``images``).
"""

from __future__ import annotations

import csv
import json
import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from .errors import ArgumentError, ImageError, reason
from .fetch.urls import is_data_url, is_url
from .images import source_name
from .names import IMAGENET_LABELS, IMAGENET_SYNSETS
from .sources import find_images

_SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


@dataclass(frozen=True)
class Labelled:
    """Labelled images. Iterating lists them from the disk, in the same order each time, one by one."""

    source: Path  #: a folder of class folders, or a table
    split: str | None  #: "train", "val" or "test", where the source has them
    counts: Mapping[str, int]  #: label → images; 0 for a class folder without any

    def __iter__(self) -> Iterator[tuple[str, Any, str]]:
        """Each image's name, what to read (or an ImageError), and its label."""
        if self.source.is_file():
            yield from _table(self.source)
            return
        for folder in _subfolders(self.source):
            for name, image in find_images(folder):
                yield name, image, folder.name


def read_labelled(source: str | Path, split: str | None = None) -> Labelled:
    """Labelled images, counted before any of them is read.

    Args:
        source: a folder of ``<class>/…/<image>``; such folders inside ``train/``, ``val/`` and ``test/``; or
            a ``.csv`` or ``.jsonl`` file with ``path`` (relative to it, or a URL) and ``label``.
        split: ``train``, ``val`` or ``test``; None: ``test`` where there is one, then ``val``.

    Raises ArgumentError: nothing there is labelled, or there is no such split.
    """
    path = Path(source)
    splits = {} if path.suffix.lower() in (".csv", ".jsonl") and path.is_file() else find_splits(path)
    chosen = split or next((name for name in ("test", "val") if name in splits), None)
    if chosen not in splits and (chosen or splits):
        raise ArgumentError(
            f"{path}: no {chosen or 'test or val'} split; it has {', '.join(splits) or 'none'}"
        )
    counts: Counter[str] = Counter()
    found = Labelled(splits[chosen] if chosen else path, chosen, counts)
    for _, image, label in found:
        counts[label] += not isinstance(image, ImageError)
    if not counts:
        raise ArgumentError(f"{path}: no labelled images; sort them into folders named after their classes")
    return found


def find_splits(folder: Path) -> dict[str, Path]:
    """train, val, test → their folders; none where others are beside them: ``train`` may be a class."""
    inside = _subfolders(folder)
    if not all(path.name.lower() in _SPLITS for path in inside):
        return {}
    return {_SPLITS[path.name.lower()]: path for path in inside if _subfolders(path)}


def _subfolders(folder: Path) -> list[Path]:
    """Sorted; without hidden ones, and without links that lead back to where they are."""
    try:
        inside = sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.is_dir())
    except OSError as error:
        advice = "name a folder of class folders, or a .csv or .jsonl of path and label"
        raise ArgumentError(f"{folder}: cannot be read: {reason(error)}; {advice}") from error
    here = folder.resolve()
    return [path for path in inside if not here.is_relative_to(path.resolve())]


def _table(path: Path) -> Iterator[tuple[str, Any, str]]:
    number = 0
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            is_csv = path.suffix.lower() == ".csv"
            rows: Iterator[Any] = csv.DictReader(file) if is_csv else map(json.loads, filter(str.strip, file))
            for row in rows:
                image, label = (str(row[key]) for key in ("path", "label") if row[key] not in (None, ""))
                if not (is_url(image) or is_data_url(image)):
                    image = os.path.join(path.parent, image)  # noqa: PTH118 (keeps "./")
                yield source_name(image), image, label
                number += 1
    except OSError as error:
        raise ArgumentError(f"{path}: cannot be read: {reason(error)}") from error
    except (LookupError, TypeError, ValueError, RecursionError, csv.Error) as error:
        advice = "a .csv names its columns path and label in its first line; a line of .jsonl has both keys"
        raise ArgumentError(f"{path}: row {number + 1} has no path and label; {advice}") from error


def match_labels(
    given: Iterable[str], labels: Sequence[str], mapping: Mapping[str, Any] | str | Path | None = None
) -> dict[str, int | None]:
    """The index of the model's class that each label means; None: images with that label are left out.

    Args:
        given: the images' labels. Each is looked for by name (case, ``_`` and ``-`` aside; one name of
            ``"tabby, tabby cat"`` is enough where no other class has it), by its ImageNet-1k synset
            (``n02123045``, ``n02123045-tabby``), and, if all of them are numbers, by index.
        labels: the model's, in the order of its outputs.
        mapping: label → the model's label or index, or None to leave its images out; a dict or a ``.json``.

    Raises ArgumentError, with the labels that mean none of the model's classes, or several.
    """
    said = _read_mapping(Path(mapping)) if isinstance(mapping, str | Path) else mapping or {}
    given = list(given)
    whole, names = defaultdict[str, set[int]](set), defaultdict[str, set[int]](set)
    for index, label in enumerate(labels):
        whole[_plain(label)].add(index)
        for name in label.split(","):
            names[_plain(name)].add(index)
    imagenet = (path.read_text("utf-8").splitlines() for path in (IMAGENET_SYNSETS, IMAGENET_LABELS))
    of_model = enumerate(zip(*imagenet, labels, strict=False))
    synsets = {synset: {index} for index, (synset, label, own) in of_model if label == own}
    indices = {str(index): {index} for index in range(len(labels))}
    only_indices = all(_number(label) in indices for label in given)

    def find(label: str) -> int | None:
        text = str(said.get(label, label))
        may_mean = [whole[_plain(text)], names[_plain(text)], synsets.get(text.partition("-")[0], set())]
        if only_indices or label in said:
            may_mean.append(indices.get(_number(text), set()))
        return next((min(classes) for classes in may_mean if len(classes) == 1), None)

    found = {label: find(label) for label in given if said.get(label, label) is not None}
    if lost := [label for label, index in found.items() if index is None]:
        near = get_close_matches(lost[0], labels, 1)
        lost[0] += f" (perhaps {near[0]})" if near else ""
        what = f"{len(lost):,} of {len(given):,} labels are no class of the model, or several"
        advice = 'write a mapping, {"label": "class of the model", "one to leave out": null}'
        raise ArgumentError(f"{what}; {advice}: {', '.join(lost)}")
    return {label: found.get(label) for label in given}


def _read_mapping(path: Path) -> Mapping[str, Any]:
    try:
        mapping = json.loads(path.read_text("utf-8-sig"))
    except (OSError, ValueError) as error:
        raise ArgumentError(f"{path}: this mapping cannot be read: {reason(error)}") from error
    if not isinstance(mapping, dict):
        raise ArgumentError(f'{path}: a mapping is one JSON object, such as {{"n02123045": "tabby"}}')
    return mapping


def _plain(name: str) -> str:
    return " ".join(re.split(r"[\s_-]+", unicodedata.normalize("NFKC", name).casefold())).strip()


def _number(text: str) -> str:
    return text.lstrip("0") or "0"
