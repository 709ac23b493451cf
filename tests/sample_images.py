"""Small images of every kind, made in the test: honest ones, and hostile ones."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from typing import Any

from PIL import Image


def gradient(width: int = 24, height: int = 16) -> Image.Image:
    """An RGB image without any symmetry."""
    image = Image.new("RGB", (width, height))
    image.putdata(
        [(10 * x % 256, 15 * y % 256, (7 * x + 3 * y) % 256) for y in range(height) for x in range(width)]
    )
    return image


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    """The image as a file."""
    out = BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def exif(orientation: int) -> bytes:
    """An Exif block with nothing but an orientation."""
    block = Image.Exif()
    block[0x0112] = orientation
    return block.tobytes()


def png_chunk(kind: bytes, body: bytes) -> bytes:
    """One chunk of a PNG, with its checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, body: bytes = b"", *extra: bytes, bits: int = 8, kind: int = 2) -> bytes:
    """A PNG of any claimed size whose pixel data are ``body``; ``extra`` chunks stand before them."""
    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    chunks = [
        png_chunk(b"IHDR", header),
        *extra,
        png_chunk(b"IDAT", zlib.compress(body)),
        png_chunk(b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def exif_bomb() -> bytes:
    """A directory of 5,000 entries that all point at the same 100 kB: half a gigabyte to read."""
    entries = b"".join(struct.pack("<HHII", 30000 + i, 1, 100_000, 8) for i in range(5000))
    return (
        b"II*\0" + struct.pack("<I", 100_008) + bytes(100_000) + struct.pack("<H", 5000) + entries + bytes(4)
    )


def rle_bmp(width: int, height: int, body: bytes) -> bytes:
    """A run-length-encoded BMP."""
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(body), 0, 0, 256, 0)
    start = 14 + len(header) + 1024
    return b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + header + bytes(1024) + body


def honest_files() -> dict[str, bytes]:
    """One small file of each format and of the kinds that differ in how they are decoded."""
    rgb = gradient()
    return {
        "jpeg": encoded(rgb, "JPEG", quality=90, exif=exif(6)),
        "progressive": encoded(rgb, "JPEG", quality=90, progressive=True),
        "cmyk": encoded(rgb.convert("CMYK"), "JPEG"),
        "png": encoded(rgb, "PNG", exif=exif(3)),
        "palette": encoded(rgb.quantize(16), "PNG", transparency=3),
        "sixteen": encoded(Image.new("I;16", (9, 7), 40000), "PNG"),
        "webp": encoded(rgb.convert("RGBA"), "WEBP", lossless=True, exif=exif(8)),
        "animated": encoded(rgb, "WEBP", save_all=True, append_images=[rgb.rotate(180)]),
        "gif": encoded(rgb.quantize(16), "GIF", save_all=True, append_images=[rgb.rotate(180).quantize(16)]),
        "bmp": encoded(rgb, "BMP"),
        "rle": rle_bmp(4, 2, b"\x04\x01\x00\x00\x04\x02\x00\x01"),
        "tiff": encoded(rgb, "TIFF"),
        "lzw": encoded(rgb, "TIFF", compression="tiff_lzw"),
    }


def broken_files(each: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """``each`` mutations of every honest file: cut short, bytes changed, pieces moved, lengths made huge."""
    rng = random.Random(seed)
    for name, honest in honest_files().items():
        for number in range(each):
            data = bytearray(honest)
            kind = number % 4
            if kind == 0:
                del data[rng.randrange(len(data)) :]
            elif kind == 1:
                for _ in range(rng.choice((1, 3, 20))):
                    data[rng.randrange(len(data))] = rng.randrange(256)
            elif kind == 2:
                at, length = rng.randrange(len(data)), rng.randrange(1, 40)
                data[at : at + length] = rng.choice((b"", bytes(data[:length]) * 3, rng.randbytes(length)))
            else:
                at = rng.randrange(min(len(data), 120))
                data[at : at + 4] = rng.choice(
                    (b"\xff\xff\xff\xff", b"\x00\x00\x00\x00", b"\x7f\xff\xff\xff")
                )
            yield f"{name} {number}", bytes(data)
