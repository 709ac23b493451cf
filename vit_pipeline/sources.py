"""What a user points at → images, by one rule for every command: files, folders, globs, URLs, lists.

Everything is given one at a time, and nothing stops the rest: what cannot be listed is an error in its place.
Leaves out reading the images (``images``).
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from .errors import ImageError
from .fetch.urls import is_data_url, is_url
from .images import source_name

_READ = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")
_NOT_READ = (".heic", ".heif", ".jxl", ".jp2")
#: What counts as an image inside a folder, by its name's ending. Also formats that may not be readable here:
#: an error that says so is better than an image that is passed over.
IMAGE_SUFFIXES = frozenset((*_READ, *_NOT_READ))
LIST_SUFFIX = ".txt"


def find_images(sources: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    """The name of every image with what to read, or with an ImageError, in the order of ``sources``.

    Args:
        sources: each of them one of these.

            - a folder: its images and those of its subfolders, sorted, hidden ones left out
            - a glob, with ``*``, ``?`` or ``[``: the files that match, sorted
            - a text file (``.txt``), an open binary file or any iterator of lines in bytes: a list of paths
              and URLs, one a line, taken as they stand; relative paths start at the working folder
            - a URL or any other path: itself, whether or not it is there (reading it says what is wrong)
            - bytes, as read from stdin, and any other image: itself
    """
    for source in sources:
        if isinstance(source, str | Path):
            yield from _expand(os.fspath(source))
        elif isinstance(source, Iterator):
            yield from _lines(source)
        else:
            yield "<stdin>" if isinstance(source, bytes) else source_name(source), source


def _expand(text: str) -> Iterator[tuple[str, Any]]:
    name = source_name(text)
    if is_url(text) or is_data_url(text):
        yield name, text
    elif os.path.isdir(text):  # noqa: PTH112 (False, not an error, for impossible names)
        found = False
        for image in _folder(text):
            found = True
            yield image
        if not found:
            yield name, ImageError(f"{name}: no images in this folder (looked for {', '.join(_READ)})")
    elif text.lower().endswith(LIST_SUFFIX) and os.path.isfile(text):  # noqa: PTH113 (the same)
        try:
            with Path(text).open("rb") as file:
                yield from _lines(file)
        except OSError as error:
            yield name, ImageError(f"{name}: this list cannot be read: {error.strerror or error}")
    elif glob.has_magic(text) and not os.path.exists(text):  # noqa: PTH110 (the same)
        matches = [path for path in sorted(glob.glob(text, recursive=True)) if os.path.isfile(path)]  # noqa: PTH113 (the same)
        if not matches:
            yield name, ImageError(f"{name}: no file matches this glob")
        yield from ((source_name(path), path) for path in matches)
    else:
        yield name, text


def _folder(top: str) -> Iterator[tuple[str, Any]]:
    """Images below a folder, sorted by name; names that start with a dot are left out."""
    todo = [(top, True)]
    while todo:
        path, is_folder = todo.pop()
        if not is_folder:
            yield source_name(path), path
            continue
        try:
            with os.scandir(path) as entries:
                found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        except OSError as error:
            name = source_name(path)
            yield name, ImageError(f"{name}: this folder cannot be read: {error.strerror or error}")
            continue
        for entry, is_folder in sorted(found, reverse=True):
            if entry[0] != "." and (is_folder or Path(entry).suffix.lower() in IMAGE_SUFFIXES):
                todo.append((os.path.join(path, entry), is_folder))  # noqa: PTH118 (keeps "./")


def _lines(file: Iterable[bytes]) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(file):
        text = os.fsdecode((line.removeprefix(b"\xef\xbb\xbf") if number == 0 else line).rstrip(b"\r\n"))
        if text.strip():
            yield source_name(text), text
