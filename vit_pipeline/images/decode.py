"""Bytes → one upright RGB image, with Pillow, within a bounded amount of memory and time.

The format is judged by the first bytes, and the size before anything is decoded: how much memory a decoder
needs for a pixel was measured. Pillow reads the containers; ``_Parts`` ends that where a file has more parts
than any honest one. Where the bytes come from is not known here.
"""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Collection
from io import BytesIO
from typing import Any

import PIL
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    ImageOps,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from ..errors import ImageError
from . import LOCAL_FORMATS, MAX_PIXELS

#: Bytes for an image of ``MAX_PIXELS`` and twice its file; who raises ``max_pixels`` raises this as well.
MEMORY = 860_000_000
#: Pillow keeps a pointer for every row, and none of the formats' usual encoders goes further.
MAX_SIDE = 65_535
#: JPEGs are read at 1/8 of their size up to here, in 0.7 s; the largest cameras have 200 megapixels.
MAX_JPEG_PIXELS = 500_000_000
#: Pixels × scans of a JPEG: 1.2 s, and as much again for the bits of a file of 30 MB.
MAX_JPEG_WORK = 1_200_000_000
#: Bytes of a JPEG's tables and Photoshop blocks, and strips of a TIFF: Pillow goes through them in Python.
MAX_JPEG_TABLES, MAX_TIFF_STRIPS = 4_000_000, 300_000
#: A read takes a microsecond: 400,000 are 100,000 PNG chunks or JPEG segments. Run-length-encoded BMPs are
#: decoded by reads; a GIF needs few up to its first frame, and Pillow 12 joins comments in quadratic time.
MAX_READS = {"BMP": 1_200_000, "GIF": 16_000}
MAX_READS_OF_OTHERS = 400_000
#: Bytes of an Exif block, or of one in hexadecimal: Pillow 12 may need 300 MB for these, gigabytes for more.
MAX_EXIF = {"exif": 65_536, "Raw profile type exif": 140_000}
_ORIENTATION = 0x0112
_BAND_PIXELS = 2_000_000
_TOO_MANY_PARTS = "it has more parts than any honest image; save it again with another program"
#: Pillow 12 reads their Exif blocks, of any size, while it opens them.
_OLD_PILLOW = "it is {}, which needs Pillow 13 (pip install --no-deps --upgrade pillow); or save it as JPEG"


def _open_avif(file: BytesIO) -> ImageFile.ImageFile:
    if int(PIL.__version__.partition(".")[0]) < 13 or not AvifImagePlugin.SUPPORTED:
        raise ImageError(_OLD_PILLOW.format("AVIF"))
    # 4096 items or more: its decoder compares each with each.
    if re.search(rb"(?s)iloc([\x00\x01].{5}[\x10-\xff]|\x02.{5}(..[\x10-\xff]|.?[^\x00]))", file.getbuffer()):
        raise ImageError(_TOO_MANY_PARTS)
    return AvifImagePlugin.AvifImageFile(file)


def _open_heic(file: BytesIO) -> Any:
    if int(PIL.__version__.partition(".")[0]) < 13:
        raise ImageError(_OLD_PILLOW.format("HEIC"))
    try:
        from pi_heif import HeifImageFile  # LGPL; pillow-heif's wheels hold an encoder that makes them GPL
    except ImportError as error:
        raise ImageError("it is HEIC; to read it: pip install pi-heif") from error
    return HeifImageFile(file)


#: How each begins, what opens it, and its peak bytes a pixel, measured: decoder's buffers, image, RGB copy.
#: Not Image.open(): it warns about sizes that are allowed here, and hands some JPEGs to a second plug-in.
_FORMATS: dict[str, tuple[bytes, Any, int]] = {
    "JPEG": (rb"\xff\xd8\xff", JpegImagePlugin.JpegImageFile, 8),
    "PNG": (rb"\x89PNG\r\n\x1a\n", PngImagePlugin.PngImageFile, 10),
    "WEBP": (rb"(?s)RIFF....WEBP", WebPImagePlugin.WebPImageFile, 17),
    "GIF": (rb"GIF8[79]a", GifImagePlugin.GifImageFile, 10),
    "BMP": (rb"BM", BmpImagePlugin.BmpImageFile, 10),
    "TIFF": (rb"II[*+]\0|MM\0[*+]", TiffImagePlugin.TiffImageFile, 14),
    "AVIF": (rb"(?s)....ftyp(....){0,12}avi[fs]", _open_avif, 17),
    "HEIC": (rb"(?s)....ftyp(....){0,12}(he[iv][cmsx]|m[is]f1)", _open_heic, 17),
}


class _Parts(BytesIO):
    """A file that ends where it has more parts than any honest one.

    Pillow reads its containers part by part, in Python: what a flood of them costs is the number of reads.
    """

    def __init__(self, data: bytes, format: str) -> None:
        super().__init__(data)
        self.reads_left = MAX_READS.get(format, MAX_READS_OF_OTHERS)
        self.bytes_left = 4 * len(data) + 1_000_000  # tags of a TIFF that all mean the same bytes
        self.longest = ImageFile.SAFEBLOCK if format == "TIFF" else sys.maxsize
        self._exif = False

    def read(self, size: int | None = -1, /) -> bytes:
        if size and size >= self.longest:  # a tag whose bytes are missing is left out, and no list is so long
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


_FILTER = ("ignore", None, UserWarning, re.compile(r"PIL\."), 0)


def _quiet() -> None:
    """Pillow's warnings of odd Exif blocks and TIFFs are ignored from now on.

    To catch them for a while is not safe with threads; with a lock, one file that hangs stops all others.
    """
    if _FILTER not in warnings.filters:
        warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


def decode(
    data: bytes, *, max_pixels: int, formats: Collection[str], draft: tuple[int, int] | None = None
) -> Image.Image:
    """The file's first image, upright, mode RGB; the arguments as for ``read_image``.

    Raises:
        ImageError: it is no such image, or too large; the message does not name it.
        Exception: whatever Pillow raises at a broken file.
    """
    format = next((name for name, (start, *_) in _FORMATS.items() if re.match(start, data)), None)
    if format is None or format not in formats:
        raise ImageError(_what_it_is(data, format, formats))
    _quiet()
    scans = _jpeg_scans(data) if format == "JPEG" else 1
    file, (_, opener, cost) = _Parts(data, format), _FORMATS[format]
    image: Image.Image = opener(file)
    file.longest = sys.maxsize
    room = int(MEMORY * max(1, max_pixels / MAX_PIXELS)) - 2 * len(data)
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        _draft(image, scans, max_pixels, room, draft)
    elif format == "BMP" and image.info.get("compression") in (
        1,
        2,
    ):  # run lengths: slow, for they are Python
        check_pixels(image.size, min(max_pixels, room // 250), " of a run-length-encoded BMP")
    else:
        check_pixels(image.size, min(max_pixels, room // cost), f" of such a {format} file")
    if format == "TIFF" and len(getattr(image, "tile", ())) > MAX_TIFF_STRIPS:
        raise ImageError(_TOO_MANY_PARTS)
    size = image.size
    image.load()
    if sorted(image.size) != sorted(size):  # not the size that was checked; a TIFF may have been turned
        raise ImageError(f"its size changes from {size} to {image.size} while it is read; save it again")
    for key, most in MAX_EXIF.items():
        if len(image.info.get(key) or "") > most:  # the orientation stands at the start
            image.info[key] = image.info[key][:most]
    turn = orientation(image)
    image = to_rgb(image)  # the first copy goes before the next one comes
    return upright(image, turn)


def from_pillow(source: Image.Image, max_pixels: int) -> Image.Image:
    """A Pillow image as a new one, upright, mode RGB."""
    check_pixels(source.size, max_pixels)
    source.load()  # a TIFF is turned upright here, and its size changes
    return upright(to_rgb(source), orientation(source))


def check_pixels(size: tuple[int, int], most: int, what: str = "") -> None:
    """Reject what has more than ``most`` pixels, or a side longer than any image."""
    (width, height), pixels = size, size[0] * size[1]
    if max(size) > MAX_SIDE:
        raise ImageError(f"it is {width}×{height} pixels, and a side has {MAX_SIDE} at most; cut it up")
    if pixels > most:
        raise ImageError(
            f"it is {width}×{height} = {pixels / 1e6:.1f} megapixels, more than the {max(most, 0) / 1e6:.3g} "
            f"that are read{what}; scale it down, or raise max_pixels (--max-pixels)"
        )


_JPEG_MARKER = re.compile(rb"\xff([\xc0-\xc7\xc9-\xcf\xd8-\xef\xfe])")
_ARITHMETIC = (0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF)


def _jpeg_scans(data: bytes) -> int:
    """How often a JPEG passes over its pixels: a baseline one once, a progressive one about ten times."""
    at, scans, cost, tables = 0, 0, 1, 0
    for _ in range(MAX_READS_OF_OTHERS):
        found = _JPEG_MARKER.search(data, at)
        if not found or (found[1] == b"\xd9" and scans):
            return scans
        marker, at = found[1][0], found.end()
        if marker in (0xD8, 0xD9):  # no length follows
            continue
        length = int.from_bytes(data[at : at + 2])
        at += length
        cost = 3 if marker in _ARITHMETIC else cost  # slow, also where there are no bits
        scans += cost if marker == 0xDA else 0
        tables += length if marker < 0xE0 or marker == 0xED else 0
        if tables > MAX_JPEG_TABLES:
            break
    raise ImageError(_TOO_MANY_PARTS)


def _draft(image: Any, scans: int, max_pixels: int, room: int, wanted: tuple[int, int] | None) -> None:
    """Let a JPEG be decoded at 1/2, 1/4 or 1/8 of its size, as far as that is wanted or needed."""
    (width, height), pixels, needed = image.size, image.width * image.height, 0
    check_pixels(image.size, max(MAX_JPEG_PIXELS, max_pixels), " of a JPEG")
    if scans > 1 or "progressive" in image.info:
        if pixels * scans > MAX_JPEG_WORK:
            raise ImageError(f"it is a JPEG of {scans} scans, too slow to decode; save it as a baseline JPEG")
        needed = 2 * len(image.getbands()) * pixels  # all coefficients stay in memory until the last scan
    for scale in (1, 2, 4, 8):
        decoded = -(-width // scale) * -(-height // scale)
        if decoded <= max_pixels and max(needed + 4 * decoded, 8 * decoded) <= room:
            break
    else:
        most = min(64 * max_pixels, room * pixels // max(needed, 1))
        check_pixels(image.size, min(most, pixels - 1), " of a progressive JPEG" if needed else " of a JPEG")
    if scale > 1 or wanted:
        across, down = wanted or image.size
        if orientation(image) >= 5:
            across, down = down, across
        image.draft(None, (max(1, min(across, width // scale)), max(1, min(down, height // scale))))


def orientation(image: Image.Image) -> int:
    """The Exif orientation, also where it stands only in XMP or in ImageMagick's raw profile."""
    _quiet()
    try:
        value = image.getexif().get(_ORIENTATION)
    except Exception:  # Exif blocks are broken in many ways: what cannot be read turns nothing
        value = 1
    return value if isinstance(value, int) and 2 <= value <= 8 else 1


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """An image without metadata, turned and mirrored in place."""
    if orientation > 1:
        image.getexif()[_ORIENTATION] = orientation
        ImageOps.exif_transpose(image, in_place=True)
    return image


def to_rgb(image: Image.Image) -> Image.Image:
    """A new RGB image of the same pixels, in bands of rows, so that no step holds it in yet another mode.

    What is transparent is laid on white. Modes of 16 bits (``I;16`` and ``I``) are scaled from 0…65535, not
    clipped. ``F`` is taken as 0…1 where all its values are, else as 0…255.
    """
    if image.mode == "RGB" and not image.has_transparency_data:
        copy = image.copy()
        copy.info.clear()
        return copy
    wide, scale = image.mode == "I" or image.mode.startswith("I;16"), 1.0
    if image.mode in ("I", "F"):
        most = 65535 if image.mode == "I" else 255
        low, high = (float(value) for value in image.getextrema())  # type: ignore[arg-type]
        if not (low >= 0 and high <= most):  # also where one of them is NaN
            raise ImageError(f"its values reach from {low:g} to {high:g}, not 0 to {most}; scale them first")
        scale = 255.0 if high <= 1 else 1.0
    grays = [(value + 128) // 257 for value in range(65536)] if wide else []
    clear = image.info.get("transparency")
    if wide and isinstance(clear, int) and 0 <= clear < 65536:
        grays[clear] = 255
    rgb = Image.new("RGB", image.size, "white")
    rows = max(1, _BAND_PIXELS // image.width)
    for top in range(0, image.height, rows):
        band = image.crop((0, top, image.width, min(top + rows, image.height)))
        if wide:
            band = band.convert("I").point(grays, "L")
        elif image.mode == "F":
            band = band.point(lambda value: value * scale + 0.5).convert("L")
        elif image.has_transparency_data:
            band = (band.convert("LA") if band.mode == "La" else band).convert("RGBA")
            rgb.paste(band, (0, top), band)
            continue
        rgb.paste(band.convert("RGB"), (0, top))
    return rgb


_OTHERS = (
    (rb"(?i)\s*<(!doctype html|html|head|body|script)", "an HTML page; give the address of the image itself"),
    (rb"(?i)\s*<(svg|\?xml)", "SVG or XML; save it as an image of pixels"),
    (rb"%PDF", "a PDF; save its pages as images"),
    (rb"8BPS", "a Photoshop file; save it as PNG"),
    (rb"(?s)....ftyp", "a film; save a frame of it as JPEG"),
    (rb"(?s)....jP  ", "a JPEG 2000 image; save it as PNG"),
    (rb"PK|\x1f\x8b", "an archive; unpack it"),
)


def _what_it_is(data: bytes, format: str | None, formats: Collection[str]) -> str:
    """Why these bytes are not read, and what to do."""
    wanted = ", ".join(name for name in formats if name not in LOCAL_FORMATS)
    if not data:
        return "it is empty (0 bytes); download or save it again"
    if format in LOCAL_FORMATS:
        return f"it is {format}, which is read from local files only; save it as one of {wanted}"
    if format is not None:
        return f"it is a {format} image, and only {wanted} are allowed; save it as one of them"
    for start, what in _OTHERS:
        if re.match(start, data.removeprefix(b"\xef\xbb\xbf")):
            return f"it is {what}"
    text = data[:512].decode("utf-8", "ignore")
    if len(text.encode()) > len(data[:512]) - 4 and all(c.isprintable() or c.isspace() for c in text):
        return f"it is text, not an image; images are {wanted}"
    return f"it is no image that can be read; images are {wanted}"
