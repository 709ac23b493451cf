"""Anything that holds an image → one upright RGB image: the only door for images in this package.

``read_image`` takes a URL, a path, bytes, an open file, a ``data:`` URL, a Pillow image, a numpy array or a
torch tensor. What may go wrong, a hostile file included, ends in an ``ImageError`` of one line. Resizing and
normalization are left to the checkpoint's own processor.
"""

from __future__ import annotations

import base64
import binascii
import os
import stat
import sys
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from ..errors import ImageError, printable
from ..fetch.urls import is_data_url, is_url, shortened, without_password
from .arrays import array_name, from_array, from_tensor, is_array, is_tensor
from .metadata import Refused

if TYPE_CHECKING:
    from PIL import Image

#: Width times height. A telephone's 48 megapixels fit, and their memory stays bounded (``decode.py``).
MAX_PIXELS = 50_000_000
#: Bytes of one file, URL or ``data:`` URL.
MAX_BYTES = 64 * 1024 * 1024
#: TIFF, whose decoder is the most complex of them, is read from local files only.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")


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

    The Exif orientation is applied, transparency laid on white, 16 bits scaled to 8, and of a file of several
    frames the first is taken. A plain RGB or gray file gives exactly ``Image.open(path).convert("RGB")``.

    Args:
        source: URL (http, https), ``data:`` URL, path, ``Path``, bytes, binary file object, Pillow image,
            numpy array ((H, W), (H, W, 1), (H, W, 3) or (H, W, 4); uint8, bool, uint16, or float 0…1), torch
            tensor ((C, H, W), same dtypes).
        allow_private: also fetch URLs of private addresses (your own network).
        max_pixels: width times height; more is refused before it is decoded.
        max_bytes: bytes of a file; more is refused before it is read.
        formats: of ``FORMATS``, those that are allowed; TIFF is for paths only, also when named here.
        draft: (width, height) in pixels: a large JPEG may be decoded at 1/2, 1/4 or 1/8 of its size, but not
            smaller than this. Quicker, and with slightly different pixels.

    Raises:
        ImageError: it cannot be read; for a URL ``FetchError``, and ``UnsafeURLError`` where it must not be.
    """
    name = shortened(source_name(source))
    local = isinstance(source, os.PathLike) or (
        isinstance(source, str) and not (is_url(source) or is_data_url(source))
    )
    allowed = [format for format in formats if format in FORMATS and (local or format != "TIFF")]
    try:
        from . import decode

        if is_array(source) or is_tensor(source):
            return decode.to_rgb((from_array if is_array(source) else from_tensor)(source, max_pixels))
        if _is_image(source):
            decode.check_pixels(source.size, max_pixels)
            source.load()  # some formats are turned upright here, and change their size
            return decode.upright(decode.to_rgb(source), source.getexif().get(0x0112, 1))
        return decode.decode(
            _read(source, name, allow_private, max_bytes), max_pixels=max_pixels, formats=allowed, draft=draft
        )
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError(f"{name}: not enough memory to read it; scale it down") from error
    except Exception as error:  # Pillow's decoders raise a dozen types, and not all are documented
        reason = f"{error}" if isinstance(error, Refused) else _broken(error)
        raise ImageError(f"{name}: {reason}") from error


def source_name(source: Any) -> str:
    """The short name of a source in messages and records: one line, passwords of URLs hidden."""
    if isinstance(source, str):
        if is_data_url(source):
            return printable(source.strip()[:40]) + f"… ({len(source)} characters)"
        return without_password(source)
    if isinstance(source, os.PathLike):
        return printable(os.fsdecode(source), limit=sys.maxsize)
    if isinstance(source, bytes | bytearray | memoryview):
        return f"<bytes, {memoryview(source).nbytes} bytes>"
    if is_array(source) or is_tensor(source):
        return array_name(source)
    if _is_image(source):
        return f"<PIL image {source.width}×{source.height}>"
    if hasattr(source, "read"):
        name = getattr(source, "name", None)
        return f"<file {printable(name)}>" if isinstance(name, str) else "<file>"
    return f"<{type(source).__name__}>"


def _read(source: Any, name: str, allow_private: bool, max_bytes: int) -> bytes:
    """The bytes of a source that is a file in one form or another."""
    if is_url(source):
        from ..fetch import fetch

        return fetch(source, allow_private=allow_private, max_bytes=max_bytes)
    if is_data_url(source):
        return _read_data_url(source, name, max_bytes)
    if isinstance(source, str | os.PathLike):
        return _read_path(Path(os.fsdecode(source)), name, max_bytes)
    if isinstance(source, bytes | bytearray | memoryview):
        _check_length(memoryview(source).nbytes, name, max_bytes)
        return bytes(source)
    if hasattr(source, "read"):
        return _read_stream(source, name, max_bytes)
    raise ImageError(
        f"{name}: not an image; give a URL, path, bytes, open file, Pillow image, array or tensor"
    )


def _read_path(path: Path, name: str, max_bytes: int) -> bytes:
    try:
        _check_regular(Path(path).stat().st_mode, name)
        # The file may have been exchanged since: a pipe opened without O_NONBLOCK would wait for its writer.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            _check_regular(status.st_mode, name)
            _check_length(status.st_size, name, max_bytes)
            data = file.read(max_bytes + 1)
    except FileNotFoundError as error:
        raise ImageError(
            f"{name}: no such file; check the path, relative ones start at {Path.cwd()}"
        ) from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or error
        raise ImageError(
            f"{name}: cannot be opened ({reason}); check the path and its permissions"
        ) from error
    _check_length(len(data), name, max_bytes)
    return data


def _check_regular(mode: int, name: str) -> None:
    if stat.S_ISDIR(mode):
        raise ImageError(f"{name}: is a folder, not an image; name the files in it")
    if not stat.S_ISREG(mode):
        raise ImageError(f"{name}: is a device or a pipe, not a file; read it yourself and give the bytes")


def _check_length(length: int, name: str, max_bytes: int) -> None:
    if length > max_bytes:
        raise ImageError(
            f"{name}: larger than the {max_bytes} bytes that are read; scale it down, or raise max_bytes"
        )


def _read_stream(file: Any, name: str, max_bytes: int) -> bytes:
    parts, length = [], 0
    while length <= max_bytes:
        part = file.read(max_bytes + 1 - length)  # a raw stream may give less than it is asked for
        if isinstance(part, str):
            raise ImageError(f"{name}: opened as text; open it with mode 'rb'")
        if not part:
            break
        parts.append(bytes(part))
        length += len(part)
    _check_length(length, name, max_bytes)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _read_data_url(url: str, name: str, max_bytes: int) -> bytes:
    _check_length(len(url) * 3 // 4 - 200, name, max_bytes)
    header, comma, body = url.strip().partition(",")
    if not comma:
        raise ImageError(f"{name}: a data: URL without a comma; it must look like data:image/png;base64,…")
    data = unquote_to_bytes(body)
    if header.lower().endswith(";base64"):
        try:
            data = base64.b64decode(b"".join(data.split()), validate=True)
        except binascii.Error as error:
            raise ImageError(f"{name}: its base64 is broken ({error}); copy the data: URL again") from error
    _check_length(len(data), name, max_bytes)
    return data


def _is_image(source: object) -> bool:
    pil = sys.modules.get("PIL.Image")
    return pil is not None and isinstance(source, pil.Image)


def _broken(error: Exception) -> str:
    detail = str(error) or type(error).__name__
    return f"broken or cut short, it cannot be decoded ({detail}); download or save it again"
