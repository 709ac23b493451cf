"""Files and folders that appear complete or not at all: the one atomic write of this package."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import ArgumentError, OutputError, reason

if TYPE_CHECKING:
    from jinja2 import Template
    from numpy.typing import NDArray


def checked_suffix(path: str | Path, allowed: Sequence[str]) -> str:
    """The ending of a file's name, in lower case. Raises ArgumentError for one that is not allowed."""
    suffix = Path(path).suffix.lower()
    if suffix not in allowed:
        either = (" or " if len(allowed) == 2 else ", ").join(allowed)
        raise ArgumentError(f"{path}: the name must end in {either}")
    return suffix


def file_state(path: Any) -> dict[str, int]:
    """A file's size and time of change, which tell it from one that was there before; nothing of no file."""
    with suppress(OSError, TypeError, ValueError):
        status = os.stat(path)  # noqa: PTH116 (a URL, too, stays as it is)
        return {"size": status.st_size, "mtime_ns": status.st_mtime_ns}
    return {}


def template(path: Path, **filters: Callable[..., str]) -> Template:
    """A jinja2 template: it escapes what it writes into HTML, and whatever it names must be there."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    pages = Environment(
        loader=FileSystemLoader(path.parent),
        autoescape=".html" in path.suffixes,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters |= filters
    return pages.get_template(path.name)


def kept_arrays(
    path: Path | None, compute: Callable[[], dict[str, NDArray[Any]]], advice: str = ""
) -> dict[str, NDArray[Any]]:
    """What ``compute`` returns, computed once: from then on it is read from ``path``, an ``.npz``.

    Raises OutputError, ``advice`` behind it, where it cannot be written.
    """
    import numpy as np

    if path and path.exists():
        with np.load(path) as kept:
            return dict(kept)
    found = compute()
    if path:
        with replacing(path, advice) as partial, partial.open("wb") as file:
            np.savez(file, allow_pickle=False, **found)
    return found


@contextmanager
def replacing(path: str | Path, advice: str = "") -> Iterator[Path]:
    """A new file beside ``path`` to write to; it takes that name at the end of a ``with`` without an error.

    Deleted, it takes no name. Raises OutputError, ``advice`` behind it, where the system does not allow it.
    """
    target = Path(path)
    try:
        partial = target.with_name(f".{target.name}.{secrets.token_hex(8)}{target.suffix}")
        partial.touch(exist_ok=False)
        try:
            yield partial
            if partial.exists():
                with partial.open("rb+") as file:
                    os.fsync(file.fileno())
                partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{target}: cannot be written: {reason(error)}{advice}") from error


@contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """A folder beside ``path`` to write into; it takes that name at the end of a ``with`` without an error.

    Raises OutputError where ``path`` is there already and not empty, or the system does not allow it.
    """
    target = Path(path)
    try:
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            what = "is there already and not empty" if target.is_dir() else "is a file"
            raise OutputError(f"{target}: {what}; name a new folder")
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix=f".{target.name}.", dir=target.parent, ignore_cleanup_errors=True
        ) as partial:
            yield Path(partial)
            (mode := Path(partial, ".mode")).touch()  # what this process gives a new file
            rights = mode.stat().st_mode & 0o666
            mode.unlink()
            for path in (Path(partial), *Path(partial).iterdir()):  # safetensors makes its file private
                path.chmod(rights | (rights & 0o444) >> 2 if path.is_dir() else rights)
            if target.exists():
                target.rmdir()
            os.replace(partial, target)  # noqa: PTH105 (a folder)
    except OSError as error:
        raise OutputError(f"{target}: cannot be written: {reason(error)}") from error
