"""What a run over many images reads: folders, patterns, URLs, files; lists in text files and on stdin.

Everything is passed on one at a time, and nothing stops the rest: what cannot be listed becomes an error in
its place. Leaves out what counts as an image inside a folder (``sources``), and reading it (``images``).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..errors import ImageError
from ..images import source_name
from ..sources import find_images

#: the ending of a text file with one path or URL a line
LIST_SUFFIX = ".txt"
STDIN = "-"


def find_inputs(
    sources: Iterable[str | Path], stdin: Iterable[bytes] = ()
) -> Iterator[tuple[str, str | ImageError]]:
    """The name of every input, with what to read; in the order of ``sources``.

    Args:
        sources: what :func:`vit_pipeline.sources.find_images` takes; also text files (``.txt``) with one
            path or URL a line, and ``-`` for such lines from ``stdin``. A line is taken as it stands: no
            patterns, no folders; relative paths start at the working folder; empty lines are left out.
        stdin: the lines for ``-``.
    """
    for source in sources:
        text = os.fspath(source)
        if text == STDIN:
            yield from _lines(stdin)
        elif text.lower().endswith(LIST_SUFFIX) and os.path.isfile(text):  # noqa: PTH113 (False for any text)
            try:
                with Path(text).open("rb") as file:
                    yield from _lines(file)
            except OSError as error:
                reason = error.strerror or error
                yield source_name(text), ImageError(f"{text}: this list cannot be read: {reason}")
        else:
            try:
                for found in find_images([text]):
                    yield source_name(found), found
            except ImageError as error:  # an empty folder, one that cannot be read, a pattern without matches
                yield source_name(text), error


def _lines(file: Iterable[bytes]) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(file):
        text = os.fsdecode((line.removeprefix(b"\xef\xbb\xbf") if number == 0 else line).rstrip(b"\r\n"))
        if text.strip():
            yield source_name(text), text
