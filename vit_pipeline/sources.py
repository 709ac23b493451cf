"""What a user points at becomes a list of images: files, folders, globs, URLs.

Leaves out reading them (``images``).
"""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from .errors import ImageError
from .fetch.urls import is_data_url, is_url

_READ = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
_NOT_READ = (".heic", ".heif", ".avif", ".jxl", ".jp2")
#: What counts as an image inside a folder, by its name's ending. Also formats that cannot be read: an error
#: that says so is better than an image that is passed over.
IMAGE_SUFFIXES = frozenset((*_READ, *_NOT_READ))


def find_images(
    sources: Iterable[str | Path], on_error: Callable[[ImageError], None] | None = None
) -> Iterator[str]:
    """Every image that ``sources`` point at, in their order, one at a time.

    A folder gives its images and those of its subfolders, sorted, hidden ones left out; a pattern with
    ``*``, ``?`` or ``[`` the files that match, sorted; a URL or any other path itself, whether or not it is
    there (reading it says what is wrong).

    A folder without images, one that cannot be listed and a pattern that matches nothing are an ImageError,
    given to ``on_error``, or raised where there is none.
    """
    for source in sources:
        try:
            yield from _expand(os.fspath(source))
        except ImageError as error:
            if on_error is None:
                raise
            on_error(error)


def _expand(text: str) -> Iterator[str]:
    if is_url(text) or is_data_url(text):
        yield text
    elif os.path.isdir(text):  # noqa: PTH112 (False, not an error, for impossible names)
        found = False
        for path in _walk(text):
            found = True
            yield path
        if not found:
            endings = ", ".join(_READ)
            raise ImageError(f"{text}: no images in this folder (looked for {endings})")
    elif glob.has_magic(text) and not os.path.exists(text):  # noqa: PTH110 (the same)
        matches = [path for path in sorted(glob.glob(text, recursive=True)) if Path(path).is_file()]
        if not matches:
            raise ImageError(f"{text}: no file matches this pattern")
        yield from matches
    else:
        yield text


def _walk(folder: str) -> Iterator[str]:
    """Images below a folder, sorted by name; names that start with a dot are left out."""
    try:
        entries = os.scandir(folder)
    except OSError as error:
        raise ImageError(f"{folder}: this folder cannot be read: {error.strerror}") from error
    with entries:
        found = sorted(
            (entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries if entry.name[0] != "."
        )
    for name, is_folder in found:
        path = os.path.join(folder, name)  # noqa: PTH118 (keeps "./")
        if is_folder:
            yield from _walk(path)
        elif Path(name).suffix.lower() in IMAGE_SUFFIXES:
            yield path
