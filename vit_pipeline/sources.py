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

from .errors import ImageError, reason
from .fetch.urls import is_data_url, is_url
from .images import source_name

#: What counts as an image inside a folder. Also formats that may not be readable here: an error that says so
#: is better than an image that is passed over.
SUFFIXES = tuple(".jpg .jpeg .jpe .jfif .png .webp .gif .bmp .tif .tiff .avif .heic .heif .jxl .jp2".split())


def find_images(sources: str | Path | Iterable[Any]) -> Iterator[tuple[str, Any]]:
    """The name of every image with what to read, or with an ImageError, in the order of ``sources``.

    Args:
        sources: one of the first four of these, or an iterable of them all.

            - a folder: its images and those of its subfolders, sorted, hidden ones left out
            - a glob, with ``*``, ``?`` or ``[``: the files that match, sorted
            - a text file (``.txt``), an open binary file or any iterator of lines in bytes: a list of paths
              and URLs, one a line, taken as they stand; relative paths start at the working folder
            - a URL or any other path: itself, whether or not it is there (reading it says what is wrong)
            - bytes, as read from stdin, and any other image: itself
    """
    for source in [sources] if isinstance(sources, str | Path) else sources:
        if isinstance(source, str | Path):
            found = _expand(os.fspath(source))
        elif isinstance(source, Iterator):
            found = _lines(source)
        else:
            yield "<stdin>" if isinstance(source, bytes) else source_name(source), source
            continue
        for text, error in found:
            name = source_name(text)
            yield name, ImageError(f"{name}: {error}") if error else text


def _expand(text: str) -> Iterator[tuple[str, str]]:
    """The images that a path, glob or URL means, each with what is wrong with it, if anything."""
    # os.path answers False where pathlib raises: for names that no file can have.
    if is_url(text) or is_data_url(text):
        yield text, ""
    elif os.path.isdir(text):  # noqa: PTH112
        images = _folder(text)
        yield next(images, (text, f"no images in this folder (looked for {', '.join(SUFFIXES)})"))
        yield from images
    elif text.lower().endswith(".txt") and os.path.isfile(text):  # noqa: PTH113
        try:
            with Path(text).open("rb") as file:
                yield from _lines(file)
        except OSError as error:
            yield text, f"this list cannot be read: {reason(error)}"
    elif glob.has_magic(text) and not os.path.exists(text):  # noqa: PTH110
        paths = sorted(glob.glob(text, recursive=True))
        matches = ((path, "") for path in paths if os.path.isfile(path))  # noqa: PTH113
        yield next(matches, (text, "no file matches this glob"))
        yield from matches
    else:
        yield text, ""


def _folder(top: str) -> Iterator[tuple[str, str]]:
    """Images below a folder, sorted by name; names that start with a dot are left out."""
    todo = [(top, True)]
    while todo:
        path, is_folder = todo.pop()
        if not is_folder:
            yield path, ""
            continue
        try:
            with os.scandir(path) as entries:
                found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        except OSError as error:
            yield path, f"this folder cannot be read: {reason(error)}"
            continue
        for name, is_folder in sorted(found, reverse=True):
            if name[0] != "." and (is_folder or name.lower().endswith(SUFFIXES)):
                todo.append((os.path.join(path, name), is_folder))  # noqa: PTH118 (keeps "./")


def _lines(file: Iterable[bytes]) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(file):
        text = os.fsdecode((line.removeprefix(b"\xef\xbb\xbf") if number == 0 else line).rstrip(b"\r\n"))
        if text.strip():
            yield text, ""
