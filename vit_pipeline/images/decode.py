"""Bytes → an image, decoded by Pillow within a bounded amount of memory and time.

The format is told by the first bytes, and the size is checked before anything is decoded. Pillow reads the
containers; ``_Parts`` stops it where a file has more parts than any honest one. Leaves out where the bytes
come from, and what is done with the image (``pixels``).
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Collection
from importlib.resources import files
from io import BytesIO
from typing import Any

import PIL
from PIL import Image
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from ..errors import ImageError
from .pixels import orientation

Size = tuple[int, int]  #: width, height
#: Width times height. A phone's 48 megapixels fit, and their memory stays bounded.
MAX_PIXELS = 50_000_000
#: Bytes for an image of ``MAX_PIXELS`` and twice its file; a higher ``max_pixels`` raises this in proportion.
MEMORY = 860_000_000
#: Pillow keeps a pointer for every row, and the usual encoders of no format go further.
MAX_SIDE = 65_535
#: Bytes of an Exif block, or of one in hexadecimal: Pillow 12 may need 300 MB for these, gigabytes for more.
MAX_EXIF = {"exif": 65_536, "Raw profile type exif": 140_000}

_DATA = tomllib.loads((files(__package__) / "formats.toml").read_text("utf-8"))
#: What is known of each format; one with ``local`` is read from paths only.
FORMATS: dict[str, Any] = _DATA["formats"]
_JPEG = FORMATS["JPEG"]
_TOO_MANY_PARTS = "it has more parts than any honest image; save it again with another program"


def _open_heic(file: BytesIO) -> Any:
    try:
        from pi_heif import HeifImageFile  # LGPL; pillow-heif's wheels hold an encoder that makes them GPL
    except ImportError as error:
        raise ImageError("it is HEIC; to read it: pip install pi-heif") from error
    return HeifImageFile(file)


#: Not Image.open(): it warns about sizes that are allowed here, and hands some JPEGs to a second plug-in.
_OPENERS: dict[str, Any] = {
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "WEBP": WebPImageFile,
    "GIF": GifImageFile,
    "BMP": BmpImageFile,
    "TIFF": TiffImageFile,
    "AVIF": AvifImageFile,
    "HEIC": _open_heic,
}


class _Parts(BytesIO):
    """A file that ends where it has more parts than any honest one.

    Pillow reads its containers part by part, in Python: what a flood of them costs is the number of reads.
    """

    def __init__(self, data: bytes, format: str) -> None:
        super().__init__(data)
        self.reads_left = FORMATS[format]["reads"]
        self.bytes_left = 4 * len(data) + 1_000_000  # tags of a TIFF that all mean the same bytes
        self.longest = 8 * MAX_SIDE if format == "TIFF" else sys.maxsize  # a list of strips, one for each row
        self._exif = False

    def read(self, size: int | None = -1, /) -> bytes:
        if size and size > self.longest:  # Pillow leaves out a tag whose bytes are missing
            return b""
        part = super().read(size)
        self.reads_left -= 1
        self.bytes_left -= len(part)
        if self.reads_left < 0 or self.bytes_left < 0:
            raise ImageError(_TOO_MANY_PARTS)
        if part.startswith(b"Exif\0\0"):  # Pillow joins all of them: blank those after the first
            part = bytes(len(part)) if self._exif else part
            self._exif = True
        return part


def decode_file(data: bytes, max_pixels: int, formats: Collection[str], draft: Size | None) -> Image.Image:
    """The file's first image, not yet turned; arguments as for ``read_image``, errors also as Pillow's."""
    format = next((f for f, known in FORMATS.items() if re.match(known["begins"].encode(), data)), "")
    if format not in formats:
        raise ImageError(_what_it_is(data, format, formats))
    known = FORMATS[format]
    if int(PIL.__version__.partition(".")[0]) < known.get("pillow", 0):
        update = f"Pillow {known['pillow']} (pip install --no-deps --upgrade pillow)"
        raise ImageError(f"it is {format}, which needs {update}; or save it as JPEG")
    if "too_many" in known and re.search(known["too_many"].encode(), data):
        raise ImageError(_TOO_MANY_PARTS)
    scans = _jpeg_scans(data) if format == "JPEG" else 1
    image: Image.Image = _OPENERS[format](_Parts(data, format))
    room = int(MEMORY * max(1, max_pixels / MAX_PIXELS)) - 2 * len(data)
    _fit(image, format, scans, max_pixels, room, draft)
    size = image.size
    image.load()
    if sorted(image.size) != sorted(size):  # not the size that was checked; a TIFF may have been turned
        raise ImageError(f"its size changes from {size} to {image.size} while it is read; save it again")
    for key in MAX_EXIF.keys() & image.info.keys():  # the orientation stands at the start
        image.info[key] = image.info[key] and image.info[key][: MAX_EXIF[key]]
    return image


def _fit(image: Any, format: str, scans: int, max_pixels: int, room: int, draft: Size | None) -> None:
    """Check the size; let a JPEG be decoded at 1/2, 1/4 or 1/8 of it, as far as that is wanted or needed."""
    (width, height), pixels = image.size, image.width * image.height
    kind, cost, kept = f"{format} file", FORMATS[format]["pixel_bytes"], 0
    if format == "BMP" and image.info.get("compression") in (1, 2):
        kind, cost = "run-length-encoded BMP", 250  # slow: it is decoded in Python
    if format == "JPEG":
        check_pixels(image.size, max(_JPEG["max_pixels"], max_pixels), " of a JPEG")
        if scans > 1 or "progressive" in image.info:
            kept = 2 * len(image.getbands()) * pixels  # all coefficients, until the last scan
        if scans > 1 and pixels * scans > _JPEG["max_work"]:
            raise ImageError(f"it is a JPEG of {scans} scans, too slow to decode; save it as a baseline JPEG")
    for scale in (1, 2, 4, 8) if format == "JPEG" else (1,):
        decoded = -(-width // scale) * -(-height // scale)
        memory = max(kept + 4 * decoded, cost * decoded)
        if decoded <= max_pixels and memory <= room:
            break
    most = min(max_pixels * pixels // decoded, room * pixels // memory)
    check_pixels(image.size, most, f" of such a {kind}")
    if scale > 1 or (draft and format == "JPEG"):
        across, down = draft or image.size
        if orientation(image) in range(5, 9):  # it lies on its side
            across, down = down, across
        image.draft(None, (max(1, min(across, width // scale)), max(1, min(down, height // scale))))


def check_pixels(size: Size, most: int, what: str = "") -> None:
    """Reject an image with more than ``most`` pixels, or with a side longer than any image's."""
    (width, height), pixels = size, size[0] * size[1]
    if max(size) > MAX_SIDE:
        raise ImageError(f"it is {width}×{height} pixels, and a side has {MAX_SIDE} at most; cut it up")
    if pixels > most:
        raise ImageError(
            f"it is {width}×{height} = {pixels / 1e6:.1f} megapixels, more than the {max(most, 0) / 1e6:.3g} "
            f"that are read{what}; scale it down, or raise max_pixels (--max-pixels)"
        )


_JPEG_MARKER = re.compile(rb"\xff([\xc0-\xc7\xc9-\xcf\xd8-\xef\xfe])")


def _jpeg_scans(data: bytes) -> int:
    """How often a JPEG passes over its pixels: a baseline one once, a progressive one about ten times."""
    at, scans, cost, tables = 0, 0, 1, 0
    for _ in range(_JPEG["reads"]):
        found = _JPEG_MARKER.search(data, at)
        if not found or (found[1] == b"\xd9" and scans):
            return scans
        marker, at = found[1][0], found.end()
        if marker in (0xD8, 0xD9):  # no length follows
            continue
        length = int.from_bytes(data[at : at + 2])
        at += length
        if 0xC9 <= marker <= 0xCF:  # arithmetic coding is slow, also where there are no bits
            cost = 3
        elif marker == 0xDA:
            scans += cost
        if marker < 0xE0 or marker == 0xED:
            tables += length
        if tables > _JPEG["max_tables"]:
            break
    raise ImageError(_TOO_MANY_PARTS)


def _what_it_is(data: bytes, format: str, formats: Collection[str]) -> str:
    """Why these bytes are not read, and what to do."""
    wanted = ", ".join(name for name in formats if "local" not in FORMATS[name])
    if "local" in FORMATS.get(format, {}):
        return f"it is {format}, which is read from local files only; save it as one of {wanted}"
    if format:
        return f"it is a {format} image, and only {wanted} are allowed; save it as one of them"
    start = data[:1024].removeprefix(b"\xef\xbb\xbf")
    message = next(other["message"] for other in _DATA["others"] if re.match(other["begins"].encode(), start))
    return str(message.format(wanted=wanted))
