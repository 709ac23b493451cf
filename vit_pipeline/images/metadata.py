"""What an image file says besides its pixels: the orientation is read, everything else is left behind.

A decoder that only ever sees the parts that carry pixels cannot be hurt by the others: thumbnails, colour
profiles, comments, later frames, Exif directories whose entries all point at the same megabytes. So before
Pillow opens a file, :func:`bare` copies it without them. It leaves the pixels' own parts as they are, broken
ones too: judging those is the decoder's work (``decode.py``).

Sources: JPEG ITU-T T.81 annex B; PNG (W3C, third edition) section 5; GIF89a; the WebP container
specification; TIFF 6.0 section 2; Exif 2.32 section 4.6.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

#: More segments, chunks or blocks than this are an attack: the longest honest file has some thousands.
MAX_BLOCKS = 100_000
#: The longest honest GIF frame has one sub-block for every 255 bytes.
MAX_GIF_BLOCKS = 400_000

_SIGNATURES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
)
_JPEG_MARKER = re.compile(rb"\xff([\xc0-\xcf\xd8-\xfe])")
_JPEG_LEFT_BEHIND = {*range(0xE1, 0xEE), 0xEF, 0xFE}  # APP0 and APP14 say which colours the numbers mean
_JPEG_ARITHMETIC = {0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}  # slow to decode, also where there are no bits
_PNG_KEPT = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
_WEBP_KEPT = {b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF"}
#: size, samples and their format, compression, photometric, strips, tiles, palette, YCbCr, JPEG
_TIFF_KEPT = {
    *(256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 292, 293, 317, 320, 322, 323, 324, 325),
    *(332, 338, 339, 347, 512, 513, 514, 515, 519, 520, 521, 529, 530, 531, 532),
}
_TIFF_SIZES = {  # bytes of one value, by its type
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}
_ORIENTATION = 0x0112


class Refused(ValueError):
    """An image is not decoded, for a reason whose text already says what to do."""


class TooManyParts(Refused):
    """A file made of far more parts than any honest one."""

    def __init__(self, what: str) -> None:
        super().__init__(f"it has more {what} than any honest image; save it again with another program")


@dataclass(frozen=True)
class Bare:
    """A file with nothing in it but pixels, and the Exif orientation (1 to 8) that stood beside them.

    ``scans`` is the number of passes of a JPEG; where there are several, its decoder keeps all coefficients.
    """

    data: bytes
    orientation: int = 1
    scans: int = 1


def sniff(data: bytes) -> str | None:
    """The format's name by its first bytes: ``"JPEG"``, ``"PNG"`` …, or None."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    return next((name for signature, name in _SIGNATURES if data.startswith(signature)), None)


def bare(data: bytes, format: str) -> Bare:
    """The file without its metadata and later frames.

    Raises:
        Refused: it has more parts than any honest file, is cut short, or is an arithmetic-coded JPEG.
    """
    strip = {"JPEG": _jpeg, "PNG": _png, "GIF": _gif, "WEBP": _webp, "TIFF": _tiff}.get(format)
    return strip(data) if strip else Bare(data)


def exif_orientation(exif: bytes) -> int:
    """The orientation (1 to 8) in an Exif block, with or without its ``Exif\\0\\0``; else 1."""
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    try:
        if order is None:
            return 1
        (at,) = struct.unpack_from(order + "I", exif, 4)
        (count,) = struct.unpack_from(order + "H", exif, at)
        for entry in range(at + 2, min(at + 2 + 12 * count, len(exif) - 11), 12):
            tag, kind = struct.unpack_from(order + "HH", exif, entry)
            if tag == _ORIENTATION:
                (value,) = struct.unpack_from(order + {1: "B", 4: "I"}.get(kind, "H"), exif, entry + 8)
                return value if 1 <= value <= 8 else 1
    except struct.error:  # cut short: what cannot be read turns nothing
        pass
    return 1


def _joined(data: bytes, parts: list[bytes]) -> bytes:
    return data if sum(map(len, parts)) == len(data) else b"".join(parts)


def _jpeg(data: bytes) -> Bare:
    parts, at, scans, exif = [data[:2]], 2, 0, b""
    for _ in range(MAX_BLOCKS):
        found = _JPEG_MARKER.search(data, at)
        if not found:
            return Bare(_joined(data, parts), exif_orientation(exif), scans)
        start, marker = found.start(), data[found.start() + 1]
        if marker == 0xD9:  # what follows the end, a film or a second image, is left behind as well
            return Bare(_joined(data, [*parts, data[start : start + 2]]), exif_orientation(exif), scans)
        if marker == 0xD8:
            at = start + 2
            continue
        at = start + 2 + int.from_bytes(data[start + 2 : start + 4])
        if marker == 0xE1 and not exif and data[start + 4 : start + 10] == b"Exif\0\0":
            exif = data[start + 4 : at]
        if marker == 0xDA:  # the entropy-coded bytes reach to the next marker, or to the end of the file
            scans += 1
            following = _JPEG_MARKER.search(data, at)
            at = following.start() if following else len(data)
        if marker in _JPEG_ARITHMETIC:
            raise Refused("it is an arithmetic-coded JPEG, a rare kind; save it as a plain one")
        if marker not in _JPEG_LEFT_BEHIND:
            parts.append(data[start:at])
    raise TooManyParts("segments")


def _png(data: bytes) -> Bare:
    parts, at, exif = [data[:8]], 8, b""
    for _ in range(MAX_BLOCKS):
        if at + 8 > len(data):
            return Bare(_joined(data, parts), exif_orientation(exif))
        kind, end = data[at + 4 : at + 8], at + 12 + int.from_bytes(data[at : at + 4])
        if kind in _PNG_KEPT:
            parts.append(data[at:end])
        elif kind == b"eXIf" and not exif:
            exif = data[at + 8 : end - 4]
        at = len(data) if kind == b"IEND" else end
    raise TooManyParts("chunks")


def _gif(data: bytes) -> Bare:
    """The canvas, its palette, the first frame and that frame's transparency."""
    at = 13 + _palette_bytes(data[10:11])
    canvas, control, left = data[:at], b"", MAX_GIF_BLOCKS
    while at < len(data) and left > 0:
        left -= 1
        start, kind = at, data[at : at + 1]
        if kind == b"!":
            at, left = _after_blocks(data, at + 2, left)
            if data[start + 1] == 0xF9 if start + 1 < len(data) else False:
                control = data[start:at]
        elif kind == b",":
            # One byte, the code length, stands between the palette and the blocks.
            at, left = _after_blocks(data, at + 11 + _palette_bytes(data[at + 9 : at + 10]), left)
            if left > 0:
                end = b";" if at <= len(data) else b""  # cut short stays cut short
                return Bare(b"".join([canvas, control, data[start:at], end]))
        elif kind == b";":
            break
        else:
            at += 1
    if left <= 0:
        raise TooManyParts("blocks")
    return Bare(canvas)  # no image on it: the decoder says so


def _palette_bytes(flags: bytes) -> int:
    return 3 << (flags[0] & 7) + 1 if flags and flags[0] & 0x80 else 0


def _after_blocks(data: bytes, at: int, left: int) -> tuple[int, int]:
    """Where the chain of sub-blocks from ``at`` ends, and how many more blocks may follow."""
    while at < len(data) and data[at] and left > 0:
        at += 1 + data[at]
        left -= 1
    return at + 1, left


def _webp(data: bytes) -> Bare:
    if int.from_bytes(data[4:8], "little") + 8 > len(data):  # the size is written anew below
        raise Refused("it is cut short; download or save it again")
    parts, at, exif, frames = [b"WEBP"], 12, b"", 0
    for _ in range(MAX_BLOCKS):
        if at + 8 > len(data):
            body = b"".join(parts)
            return Bare(b"RIFF" + struct.pack("<I", len(body)) + body, exif_orientation(exif))
        kind, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        end = at + 8 + size + (size & 1)
        if kind == b"VP8X":  # of its flags, alpha and animation stay: the chunks of the others go
            parts.append(
                data[at : at + 8] + bytes(b & 0x12 for b in data[at + 8 : at + 9]) + data[at + 9 : end]
            )
        elif kind in _WEBP_KEPT and not (kind == b"ANMF" and frames):
            parts.append(data[at:end] + b"\0" * (end == len(data) + 1 and size & 1))
        elif kind == b"EXIF" and not exif:
            exif = data[at + 8 : at + 8 + size]
        frames += kind == b"ANMF"
        at = end
    raise TooManyParts("chunks")


def _tiff(data: bytes) -> Bare:
    """The first directory, written anew at the end with only the entries that describe pixels."""
    order, big = "<" if data[:1] == b"I" else ">", data[2:4] in (b"+\0", b"\0+")
    at = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)[0]
    count, first, step = (
        (struct.unpack_from(order + "Q", data, at)[0], at + 8, 20)
        if big
        else (struct.unpack_from(order + "H", data, at)[0], at + 2, 12)
    )
    if count > 4096:
        raise TooManyParts("directory entries")
    kept: dict[int, bytes] = {}
    orientation, outside = 1, 0
    for entry in range(first, first + step * count, step):
        tag, kind, number = struct.unpack_from(order + ("HHQ" if big else "HHI"), data, entry)
        if tag == _ORIENTATION:
            value = struct.unpack_from(order + "H", data, entry + (12 if big else 8))[0]
            orientation = value if 1 <= value <= 8 else 1
        if tag not in _TIFF_KEPT or tag in kept:
            continue
        size = _TIFF_SIZES.get(kind, 1) * number
        outside += size if size > (8 if big else 4) else 0
        if outside > len(data) or (number > 2 * MAX_BLOCKS and tag != 347):
            raise TooManyParts("directory values")
        kept[tag] = data[entry : entry + step]
    end = len(data) + (len(data) & 1)
    if big:
        head = data[:8] + struct.pack(order + "Q", end) + data[16:]
        directory = struct.pack(order + "Q", len(kept)) + b"".join(kept.values()) + bytes(8)
    else:
        head = data[:4] + struct.pack(order + "I", end) + data[8:]
        directory = struct.pack(order + "H", len(kept)) + b"".join(kept.values()) + bytes(4)
    return Bare(b"".join([head, bytes(len(data) & 1), directory]), orientation)
