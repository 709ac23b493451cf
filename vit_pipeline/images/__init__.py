"""Anything that holds an image → one upright RGB image: the only door for images in this package.

A hostile file, too, ends in an ``ImageError`` of one line. ``decode`` turns bytes into an image, in bounds;
``pixels`` handles arrays, colours and orientation. Resizing and normalization are left to the processor.
"""

from __future__ import annotations

import base64
import os
import re
import warnings
from collections.abc import Collection
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

from PIL import Image

from ..errors import FetchError, ImageError, printable, reason
from ..fetch import MAX_BYTES as MAX_BYTES
from ..fetch import fetch
from ..fetch.urls import is_data_url, is_url, shortened, without_password
from .decode import FORMATS, MAX_PIXELS, check_pixels, decode_file
from .pixels import from_array, orientation, to_rgb, upright

#: Pillow warns of odd Exif blocks and TIFFs, in words that help nobody.
_NO_WARNINGS = ("ignore", None, UserWarning, re.compile(r"PIL\."), 0)


def read_image(
    source: Any,
    *,
    allow_private: bool = False,
    proxy: str | None = None,
    max_pixels: int = MAX_PIXELS,
    max_bytes: int = MAX_BYTES,
    formats: Collection[str] = tuple(FORMATS),
    draft: tuple[int, int] | None = None,
) -> Image.Image:
    """One upright image, mode RGB, that shares nothing with the source and keeps nothing open.

    The orientation is applied, transparency laid on white, and 16 bits are scaled to 8; of several frames the
    first is taken. A plain RGB or gray file gives exactly ``Image.open(path).convert("RGB")``.

    Args:
        source: URL (http, https), ``data:`` URL, path, ``Path``, bytes, binary file object, Pillow image,
            numpy array ((H, W), (H, W, 1), (H, W, 3) or (H, W, 4); uint8, bool, uint16, or float 0…1), torch
            tensor ((C, H, W), same dtypes), ``{"bytes": …, "path": …}``, or a row of ``datasets`` with one of
            these as its ``image`` or ``img``.
        allow_private: also fetch URLs of private addresses (your own network).
        proxy: ``"http://host:port"`` for URLs, or ``"env"`` for the environment's.
        max_pixels: width times height; more is rejected before it is decoded, and a JPEG decoded at 1/2, 1/4
            or 1/8 of its size. A higher limit also allows for more memory.
        max_bytes: bytes of a file; more is rejected.
        formats: those allowed of ``FORMATS``; TIFF, AVIF and HEIC are read from paths only.
        draft: (width, height) in pixels: a large JPEG may be decoded at 1/2, 1/4 or 1/8 of its size, but not
            smaller than this. Quicker, and with slightly different pixels.

    Raises:
        ImageError: it cannot be read; for a URL ``FetchError``, and ``UnsafeURLError`` where it must not be.
    """
    name, source = shortened(source_name(source)), _in_row(source, "bytes", "path")
    form, _ = _recognize(source)
    try:
        if _NO_WARNINGS not in warnings.filters:  # to catch them for a while is not safe with threads
            warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
        if form == "url":
            source = fetch(source, allow_private=allow_private, proxy=proxy, max_bytes=max_bytes)
        if form == "array":
            image = from_array(source)
        elif form == "image":
            image = source
        else:
            allowed = [f for f in FORMATS if f in formats and (form == "path" or "local" not in FORMATS[f])]
            image = decode_file(_read(form, source, max_bytes), max_pixels, allowed, draft)
        check_pixels(image.size, max_pixels)
        image.load()  # a TIFF is turned upright here, and its size changes
        turn = orientation(image)
        image = to_rgb(image)  # the first copy goes before the next one comes
        return upright(image, turn)
    except FetchError:
        raise  # it names the URL
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from error
    except MemoryError as error:
        raise ImageError(f"{name}: not enough memory to read it; scale it down") from error
    except Exception as error:  # Pillow's decoders raise a dozen types, and not all are documented
        wrong = f"broken or cut short, it cannot be decoded ({reason(error)})"
        raise ImageError(f"{name}: {wrong}; download or save it again") from error


def to_data_url(image: Image.Image, format: str = "PNG", **options: Any) -> str:
    """An image as text that stands in a page itself, ``data:image/png;base64,…``; Pillow's ``options``."""
    file = BytesIO()
    image.save(file, format, **options)
    return f"data:image/{format.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"


def source_name(source: Any) -> str:
    """The short name of a source in messages and records: one line, passwords of URLs hidden."""
    _, name = _recognize(_in_row(source, "path", "bytes"))
    return name if name.isprintable() else printable(name, len(name))


def _recognize(source: Any) -> tuple[str, str]:
    """The form of a source, and its name."""
    if is_data_url(source):
        return "data", f"{source.strip()[:40]}… ({len(source)} characters)"
    if is_url(source):
        return "url", without_password(source)
    if isinstance(source, str | os.PathLike):
        return "path", os.fsdecode(source)
    if isinstance(source, bytes | bytearray | memoryview):
        return "bytes", f"<bytes, {memoryview(source).nbytes} bytes>"
    if isinstance(source, Image.Image):
        return "image", f"<PIL image {source.width}×{source.height}>"
    if hasattr(source, "dtype") and hasattr(source, "shape"):
        kind = "tensor" if hasattr(source, "permute") else "array"
        return "array", f"<{kind} {tuple(source.shape)} {str(source.dtype).removeprefix('torch.')}>"
    if hasattr(source, "read"):
        path = getattr(source, "name", None)
        return "file", f"<file {path}>" if isinstance(path, str) else "<file>"
    return "unknown", f"<{type(source).__name__}>"


def _in_row(source: Any, *keys: str) -> Any:
    """What a row of ``datasets`` holds: its image, or of that the first of these keys that has a value."""
    row = source if isinstance(source, dict) else {}
    for key in (*keys, "image", "img"):
        if key in row and not (row[key] is None or (isinstance(row[key], str | bytes) and not row[key])):
            return _in_row(row[key], *keys)
    return source


def _read(form: str, source: Any, max_bytes: int) -> bytes:
    if form == "unknown":
        raise ImageError("not an image; give a URL, path, bytes, open file, Pillow image, array or tensor")
    if form == "path":
        return _read_path(Path(os.fsdecode(source)), max_bytes)
    if form == "data":
        source = decode_data_url(source, max_bytes)
    return _read_stream(source if form == "file" else BytesIO(bytes(source)), max_bytes)


def _read_path(path: Path, max_bytes: int) -> bytes:
    try:
        if path.is_dir():
            raise ImageError("is a folder; name an image in it, or give the folder to classify")
        if path.exists() and not path.is_file():
            raise ImageError("is a device or a pipe, not a file; name a file, or give its bytes")
        # It may have been exchanged since: a pipe opened without O_NONBLOCK would wait for its writer.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        with os.fdopen(os.open(path, flags), "rb") as file:
            return _read_stream(file, max_bytes)
    except FileNotFoundError as error:
        raise ImageError(f"no such file; check the path, relative ones start at {Path.cwd()}") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise ImageError(f"cannot be opened ({reason(error)}); check the path and its permissions") from error


def _check_length(length: int, max_bytes: int) -> None:
    if length > max_bytes:
        raise ImageError(f"larger than the {max_bytes} bytes that are read; scale it down")


def _read_stream(file: Any, max_bytes: int) -> bytes:
    data = bytearray()
    while len(data) <= max_bytes and (part := file.read(max_bytes + 1 - len(data))):  # it may give less
        if isinstance(part, str):
            raise ImageError("opened as text; open it with mode 'rb'")
        data += part
    _check_length(len(data), max_bytes)
    return bytes(data)


def decode_data_url(url: str, max_bytes: int = MAX_BYTES) -> bytes:
    """The bytes in a ``data:`` URL. Raises ImageError."""
    _check_length(len(url) * 3 // 4 - 200, max_bytes)
    header, comma, body = url.strip().partition(",")
    if not comma:
        raise ImageError("a data: URL without a comma; it must look like data:image/png;base64,…")
    data = unquote_to_bytes(body)
    if not header.lower().endswith(";base64"):
        return data
    try:
        return base64.b64decode(b"".join(data.split()), validate=True)
    except ValueError as error:
        raise ImageError(f"its base64 is broken ({error}); copy the data: URL again") from error
