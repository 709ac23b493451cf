"""Files and folders that appear complete or not at all: the one atomic write of this package."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .errors import ArgumentError, OutputError, reason


def checked_suffix(path: str | Path, allowed: Sequence[str]) -> str:
    """The ending of a file's name, in lower case. Raises ArgumentError for one that is not allowed."""
    suffix = Path(path).suffix.lower()
    if suffix not in allowed:
        either = (" or " if len(allowed) == 2 else ", ").join(allowed)
        raise ArgumentError(f"{path}: the name must end in {either}")
    return suffix


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
