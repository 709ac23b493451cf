"""Bytes → one upright RGB image, with Pillow, within a fixed amount of memory.

Everything is judged before it is decoded: the format by its first bytes, the size in pixels, the memory that
the decoder will need. Only the decoder of that one format is asked, and only with the parts of the file that
carry pixels (``metadata.py``). Colours become RGB in bands of rows, so that no step holds a copy of the
image in yet another mode. Where the bytes come from is not known here: ``images.py``.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection
from io import BytesIO
from threading import Lock

from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
from PIL.ImageFile import ImageFile

from .metadata import Bare, Refused, bare, sniff

#: What one image may cost, in bytes: its file twice (as given, and bare), and the pixels' part below.
MEMORY = 530_000_000
#: Passes over a JPEG's blocks, in pixels × scans: an honest progressive file of 50 megapixels has about 10.
MAX_JPEG_WORK = 600_000_000
#: Pillow decodes run-length-encoded BMPs in Python, a pixel at a time.
MAX_RLE_PIXELS, MAX_RLE_WIDTH, MAX_RLE_BYTES = 2_000_000, 8192, 2_000_000
#: Pillow keeps a pointer for every row, and none of the formats' usual encoders goes further.
MAX_SIDE = 65_535
_BAND_PIXELS = 2_000_000
#: Peak bytes a pixel, measured: the decoder's buffers, the image, the RGB copy or turn of it.
_BYTES_A_PIXEL = {"JPEG": 8, "PNG": 8, "WEBP": 18, "GIF": 9, "BMP": 8, "TIFF": 14}

# Not Image.open(): it warns about sizes that are allowed here, and hands some JPEGs to a second plug-in.
_DECODERS: dict[str, type[ImageFile]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
}
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_tiff_warnings = Lock()


def decode(
    data: bytes, *, max_pixels: int, formats: Collection[str], draft: tuple[int, int] | None = None
) -> Image.Image:
    """The file's first image, upright, mode RGB.

    Args:
        data: the whole file.
        max_pixels: width times height that is decoded at most.
        formats: the allowed ones, as Pillow spells them.
        draft: (width, height) in pixels; a JPEG is decoded at 1/2, 1/4 or 1/8 of its size, not below this.

    Raises:
        Refused: it is no such image, or too large.
        Exception: whatever Pillow raises at a broken file.
    """
    format = sniff(data)
    if format is None or format not in formats:
        raise Refused(_what_it_is(data, format, formats))
    stripped = bare(data, format)
    del data  # the caller's copy may go now, before the pixels come
    if format != "TIFF":
        return _decode(stripped, format, max_pixels, draft)
    # Pillow warns of odd TIFF directories through a filter list that all threads share: one at a time.
    with _tiff_warnings, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _decode(stripped, format, max_pixels, draft)


def _decode(file: Bare, format: str, max_pixels: int, draft: tuple[int, int] | None) -> Image.Image:
    if format == "BMP":
        _check_run_lengths(file.data)
    image: Image.Image = _DECODERS[format](BytesIO(file.data))
    size, cost = image.size, _BYTES_A_PIXEL[format]
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        cost = _jpeg_cost(image, file)
    check_pixels(size, max_pixels)
    room = MEMORY - 2 * len(file.data)
    if size[0] * size[1] * cost > room:
        raise Refused(
            f"it is {size[0]}×{size[1]} pixels, and this kind of {format} file is read up to "
            f"{max(room // cost, 0) / 1e6:.0f} megapixels; scale it down, or save it as a plain JPEG"
        )
    if draft and isinstance(image, JpegImagePlugin.JpegImageFile):
        image.draft(None, draft if file.orientation < 5 else (draft[1], draft[0]))
        size = image.size
    image.load()
    if (
        image.size != size
    ):  # a decoder that finds another size while decoding was not checked against the caps
        raise Refused(f"its size changes from {size} to {image.size} while it is read; save it again")
    image = upright(image, file.orientation)  # the first copy goes before the RGB one comes
    if image.mode == "RGB" and not image.has_transparency_data:
        plain = image._new(image.im)  # without the file, and without a copy: 200 MB at 50 megapixels
        plain.info.clear()
        return plain
    return to_rgb(image)


def check_pixels(size: tuple[int, int], max_pixels: int) -> None:
    """Refuse what is larger than ``max_pixels``, or longer than any image."""
    if size[0] * size[1] > max_pixels:
        raise Refused(
            f"it is {size[0]}×{size[1]} = {size[0] * size[1] / 1e6:.1f} megapixels, more than the "
            f"{max_pixels / 1e6:g} that are read; scale it down, or raise max_pixels"
        )
    if max(size) > MAX_SIDE:
        raise Refused(f"it is {size[0]}×{size[1]} pixels, and a side has {MAX_SIDE} at most; cut it up")


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """The image turned and mirrored as its Exif orientation (1 to 8) asks."""
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image


def to_rgb(image: Image.Image) -> Image.Image:
    """A new RGB image of the same pixels.

    What is transparent is laid on white. Modes of 16 bits (``I;16`` and ``I``) are scaled from 0…65535, not
    clipped. ``F`` is taken as 0…1 where all its values are, else as 0…255.
    """
    if image.mode == "RGB" and not image.has_transparency_data:
        copy = image.copy()
        copy.info.clear()
        return copy
    clear = image.info.get("transparency")
    if image.mode == "I" or image.mode.startswith("I;16"):
        _check_range(image, 65535)
        grays = [(value + 128) // 257 for value in range(65536)]
        if isinstance(clear, int) and 0 <= clear < 65536:
            grays[clear] = 255
    scale = 1.0
    if image.mode == "F":
        scale = 255.0 if _check_range(image, 255) <= 1 else 1.0
    width, height = image.size
    rgb = Image.new("RGB", image.size, "white")
    rows = max(1, _BAND_PIXELS // width)
    for top in range(0, height, rows):
        band = image.crop((0, top, width, min(top + rows, height)))
        if image.mode == "I" or image.mode.startswith("I;16"):
            band = band.convert("I").point(grays, "L")
        elif image.mode == "F":
            band = band.point(lambda value: value * scale + 0.5).convert("L")
        elif image.has_transparency_data:
            band = (band.convert("LA") if band.mode == "La" else band).convert("RGBA")
            rgb.paste(band, (0, top), band)
            continue
        rgb.paste(band.convert("RGB"), (0, top))
    return rgb


def _check_range(image: Image.Image, most: int) -> float:
    low, high = image.getextrema()
    if not (low >= 0 and high <= most):  # type: ignore[operator]  # also where one of them is NaN
        raise Refused(f"its values reach from {low} to {high}, not 0 to {most}; scale them first")
    return float(high)  # type: ignore[arg-type]


def _jpeg_cost(image: JpegImagePlugin.JpegImageFile, file: Bare) -> int:
    """Bytes a pixel; a file of several scans has all its coefficients (16 bits each) in memory meanwhile."""
    if file.scans < 2 and "progressive" not in image.info:
        return _BYTES_A_PIXEL["JPEG"]
    if image.size[0] * image.size[1] * file.scans > MAX_JPEG_WORK:
        raise Refused(
            f"it is a JPEG of {file.scans} scans, too many for its size; save it again as a plain JPEG"
        )
    layers = [(h, v) for _, h, v, _ in image.layer]
    most = max(h for h, _ in layers) * max(v for _, v in layers)
    return max(_BYTES_A_PIXEL["JPEG"], -(-2 * sum(h * v for h, v in layers) // max(most, 1)) + 4)


def _check_run_lengths(data: bytes) -> None:
    header, compression = int.from_bytes(data[14:18], "little"), int.from_bytes(data[30:34], "little")
    if header < 40 or compression not in (1, 2):
        return
    width, height = (abs(int.from_bytes(data[at : at + 4], "little", signed=True)) for at in (18, 22))
    if width > MAX_RLE_WIDTH or width * height > MAX_RLE_PIXELS or len(data) > MAX_RLE_BYTES:
        raise Refused("it is a run-length-encoded BMP, read up to 2 megapixels only; save it as PNG")


_SIGNS = (
    ("%PDF", 0, "a PDF"),
    ("8BPS", 0, "a Photoshop file"),
    ("ftypavif", 4, "an AVIF image"),
    ("ftyphei", 4, "a HEIC image"),
    ("ftypmif1", 4, "a HEIC image"),
    ("ftyp", 4, "a film"),
    ("jP  ", 4, "a JPEG 2000 image"),
    ("PK", 0, "a zip archive"),
    ("\x1f\x8b", 0, "a gzip archive"),
)


def _what_it_is(data: bytes, format: str | None, formats: Collection[str]) -> str:
    """Why these bytes are not read, and what to do."""
    wanted = ", ".join(name for name in formats if name != "TIFF")
    if not data:
        return "it is empty (0 bytes); download or save it again"
    if format == "TIFF":
        return f"it is a TIFF, which is read from local files only; save it as one of {wanted}"
    if format is not None:
        return f"it is a {format} image, and only {wanted} are allowed; save it as one of them"
    start = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<body", b"<script")):
        return "it is an HTML page, not an image; give the address of the image itself"
    if start.startswith((b"<svg", b"<?xml")):
        return f"it is SVG or XML, not an image of pixels; save it as one of {wanted}"
    for sign, at, what in _SIGNS:
        if data[at : at + len(sign)] == sign.encode("latin-1"):
            return f"it is {what}; save it as one of {wanted}"
    text = data[:512].decode("utf-8", "ignore")
    if len(text.encode()) > len(data[:512]) - 4 and all(c.isprintable() or c.isspace() for c in text):
        return f"it is text, not an image; images are {wanted}"
    return f"it is no image that can be read; images are {wanted}"
