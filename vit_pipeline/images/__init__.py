"""Anything that holds an image → one upright RGB image: the only door for images in this package.

``read_image`` takes a URL, a path, bytes, an open file, a ``data:`` URL, a Pillow image, a numpy array or a
torch tensor. What may go wrong, a hostile file included, ends in an ``ImageError`` of one line. Resizing and
normalization are left to the checkpoint's own processor.
"""

from __future__ import annotations

import base64
import binascii
import os
import sys
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from ..errors import FetchError, ImageError, printable, reason
from ..fetch.urls import is_data_url, is_url, shortened, without_password
from .arrays import array_name, from_array, is_array

if TYPE_CHECKING:
    from PIL import Image

#: Width times height. A telephone's 48 megapixels fit, and their memory stays bounded (``decode.py``).
MAX_PIXELS = 50_000_000
#: Bytes of one file, URL or ``data:`` URL.
MAX_BYTES = 64 * 1024 * 1024
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIC")
#: Read from paths only: the most complex decoders. AVIF's trusts its bitstream over the container, where the
#: size was checked: 4 kB made it take 1 GB.
LOCAL_FORMATS = ("TIFF", "AVIF", "HEIC")


def read_image(
    source: Any,
    *,
    allow_private: bool = False,
    proxy: str | None = None,
    max_pixels: int = MAX_PIXELS,
    max_bytes: int = MAX_BYTES,
    formats: Collection[str] = FORMATS,
    draft: tuple[int, int] | None = None,
) -> Image.Image:
    """One upright image, mode RGB, of its own: nothing of the source is changed or kept open.

    The orientation is applied, transparency laid on white, 16 bits scaled to 8, and of a file of several
    frames the first is taken. A plain RGB or gray file gives exactly ``Image.open(path).convert("RGB")``.

    Args:
        source: URL (http, https), ``data:`` URL, path, ``Path``, bytes, binary file object, Pillow image,
            numpy array ((H, W), (H, W, 1), (H, W, 3) or (H, W, 4); uint8, bool, uint16, or float 0…1), torch
            tensor ((C, H, W), same dtypes), or ``{"bytes": …, "path": …}`` as in rows of ``datasets``.
        allow_private: also fetch URLs of private addresses (your own network).
        proxy: ``"http://host:port"`` for URLs, or ``"env"`` for the environment's.
        max_pixels: width times height; more is rejected before it is decoded, and a JPEG decoded at 1/2, 1/4
            or 1/8 of its size. Whoever raises it allows for more memory as well.
        max_bytes: bytes of a file; more is rejected.
        formats: of ``FORMATS``, those that are allowed; ``LOCAL_FORMATS`` are for paths only.
        draft: (width, height) in pixels: a large JPEG may be decoded at 1/2, 1/4 or 1/8 of its size, but not
            smaller than this. Quicker, and with slightly different pixels.

    Raises:
        ImageError: it cannot be read; for a URL ``FetchError``, and ``UnsafeURLError`` where it must not be.
    """
    name, source = shortened(source_name(source)), _of_row(source)
    url = is_url(source) or is_data_url(source)
    local = isinstance(source, str | os.PathLike) and not url
    try:
        from . import decode

        source = from_array(source) if is_array(source) else source
        if _is_image(source):
            return decode.from_pillow(source, max_pixels)
        allowed = [
            format for format in FORMATS if format in formats and (local or format not in LOCAL_FORMATS)
        ]
        data = _read(source, allow_private, proxy, max_bytes)
        return decode.decode(data, max_pixels=max_pixels, formats=allowed, draft=draft)
    except FetchError:
        raise  # it names the URL
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from error
    except MemoryError as error:
        raise ImageError(f"{name}: not enough memory to read it; scale it down") from error
    except Exception as error:  # Pillow's decoders raise a dozen types, and not all are documented
        raise ImageError(
            f"{name}: broken or cut short, it cannot be decoded ({reason(error)}); download or save it again"
        ) from error


def source_name(source: Any) -> str:
    """The short name of a source in messages and records: one line, passwords of URLs hidden."""
    if isinstance(source, dict) and source.get("path"):
        source = source["path"]
    source = _of_row(source)
    name = f"<{type(source).__name__}>"
    if isinstance(source, str) and is_data_url(source):
        name = f"{source.strip()[:40]}… ({len(source)} characters)"
    elif isinstance(source, str):
        name = without_password(source)
    elif isinstance(source, os.PathLike):
        name = os.fsdecode(source)
    elif isinstance(source, bytes | bytearray | memoryview):
        name = f"<bytes, {memoryview(source).nbytes} bytes>"
    elif is_array(source):
        name = array_name(source)
    elif _is_image(source):
        name = f"<PIL image {source.width}×{source.height}>"
    elif hasattr(source, "read"):
        path = getattr(source, "name", None)
        name = f"<file {path}>" if isinstance(path, str) else "<file>"
    return name if name.isprintable() else printable(name, len(name))


def _of_row(source: Any) -> Any:
    """What a row of ``datasets`` holds: its bytes, else its path."""
    if isinstance(source, dict) and (source.get("bytes") or source.get("path")):
        return source.get("bytes") or source["path"]
    return source


def _read(source: Any, allow_private: bool, proxy: str | None, max_bytes: int) -> bytes:
    """The bytes of a source that is a file in one form or another."""
    if is_url(source):
        from ..fetch import fetch

        return fetch(source, allow_private=allow_private, proxy=proxy, max_bytes=max_bytes)
    if is_data_url(source):
        return _read_data_url(source, max_bytes)
    if isinstance(source, str | os.PathLike):
        return _read_path(Path(os.fsdecode(source)), max_bytes)
    if isinstance(source, bytes | bytearray | memoryview):
        _check_length(memoryview(source).nbytes, max_bytes)
        return bytes(source)
    if hasattr(source, "read"):
        return _read_stream(source, max_bytes)
    raise ImageError("not an image; give a URL, path, bytes, open file, Pillow image, array or tensor")


def _read_path(path: Path, max_bytes: int) -> bytes:
    try:
        if path.exists() and not path.is_file():
            raise ImageError("is a folder, a device or a pipe, not a file; name a file, or give its bytes")
        # It may have been exchanged since: a pipe opened without O_NONBLOCK would wait for its writer.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        with os.fdopen(os.open(path, flags), "rb") as file:
            return _read_stream(file, max_bytes)
    except FileNotFoundError as error:
        raise ImageError(f"no such file; check the path, relative ones start at {Path.cwd()}") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"cannot be opened ({reason}); check the path and its permissions") from error


def _check_length(length: int, max_bytes: int) -> None:
    if length > max_bytes:
        raise ImageError(f"larger than the {max_bytes} bytes that are read; scale it down")


def _read_stream(file: Any, max_bytes: int) -> bytes:
    parts, length = [], 0
    while length <= max_bytes:
        part = file.read(max_bytes + 1 - length)  # a raw stream may give less than it is asked for
        if isinstance(part, str):
            raise ImageError("opened as text; open it with mode 'rb'")
        if not part:
            break
        parts.append(bytes(part))
        length += len(part)
    _check_length(length, max_bytes)
    return b"".join(parts)


def _read_data_url(url: str, max_bytes: int) -> bytes:
    _check_length(len(url) * 3 // 4 - 200, max_bytes)
    header, comma, body = url.strip().partition(",")
    if not comma:
        raise ImageError("a data: URL without a comma; it must look like data:image/png;base64,…")
    data = unquote_to_bytes(body)
    if header.lower().endswith(";base64"):
        try:
            data = base64.b64decode(b"".join(data.split()), validate=True)
        except binascii.Error as error:
            raise ImageError(f"its base64 is broken ({error}); copy the data: URL again") from error
    _check_length(len(data), max_bytes)
    return data


def _is_image(source: object) -> bool:
    pil = sys.modules.get("PIL.Image")
    return pil is not None and isinstance(source, pil.Image)
