"""Small images of every kind, made in the test: honest ones, and hostile ones."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable, Iterator
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


def xmp(orientation: int) -> bytes:
    """An XMP packet with nothing but an orientation."""
    return (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="%d"/>'
        b"</rdf:RDF></x:xmpmeta>" % orientation
    )


def segment(marker: int, body: bytes) -> bytes:
    """One segment of a JPEG."""
    return bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2) + body


def raw_profile(block: bytes) -> bytes:
    """A PNG chunk as ImageMagick writes an Exif block: in hexadecimal."""
    text = f"\nexif\n{len(block):8}\n{block.hex()}\n".encode()
    return png_chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text))


def _cameras() -> dict[str, bytes]:
    """JPEGs as cameras, telephones and editors write them: much beside the pixels, some of it twice."""
    rng = random.Random(1)
    jpeg = encoded(gradient(), "JPEG", quality=90)
    maker = Image.Exif()
    maker[0x0112], maker[0x010F], maker[0x927C] = 6, "Maker", rng.randbytes(40_000)
    block = b"Exif\0\0" + maker.tobytes().removeprefix(b"Exif\0\0")
    adobe = b"http://ns.adobe.com/xap/1.0/\0"
    extended = b"http://ns.adobe.com/xmp/extension/\0" + bytes(40)
    parts = {
        "maker note": segment(0xE1, block),
        "exif twice": segment(0xE1, block) + segment(0xE1, b"Exif\0\0" + exif(3).removeprefix(b"Exif\0\0")),
        "exif in parts": segment(0xE1, block) + segment(0xE1, b"Exif\0\0" + rng.randbytes(60_000)),
        "exif cut short": segment(0xE1, block[:200]),
        "xmp only": segment(0xE1, adobe + xmp(8)),
        "exif and extended xmp": segment(0xE1, block)
        + segment(0xE1, adobe + xmp(3))
        + segment(0xE1, extended + rng.randbytes(60_000)) * 60,
        "profile": b"".join(
            segment(0xE2, b"ICC_PROFILE\0" + bytes([n, 40]) + rng.randbytes(60_000)) for n in range(1, 41)
        ),
        "mpf": segment(0xE2, b"MPF\0" + rng.randbytes(200)),
        "photoshop": segment(0xED, b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\x06abcdef") * 5,
        "comments": segment(0xFE, b"a comment") * 500,
        "fill bytes": b"\xff" * 50,
    }
    files = {f"jpeg {name}": jpeg[:2] + part + jpeg[2:] for name, part in parts.items()}
    files["jpeg and a second one"] = files["jpeg mpf"] + jpeg + rng.randbytes(50_000)
    return files


def _variants() -> dict[str, bytes]:
    """What other programs write: other colours, compressions, byte orders, parts and frames."""
    rgb, gray = gradient(), gradient().convert("L")
    other = rgb.rotate(180)
    png = encoded(rgb, "PNG")
    idat = png[png.index(b"IDAT") - 4 : -12]
    body = idat[8:-4]
    many = b"".join(png_chunk(b"IDAT", body[at : at + 2]) for at in range(0, len(body), 2))
    text = png_chunk(b"tEXt", b"Comment\0" + b"x" * 300_000) + png_chunk(b"caBX", bytes(2_000_000))
    files = {
        "png in 2-byte chunks": png.replace(idat, many),
        "png with text": png[:33] + text * 3 + png[33:-12] + text + png[-12:],
        "png raw profile": png[:33] + raw_profile(exif(6).removeprefix(b"Exif\0\0")) + png[33:],
        "png exif behind the pixels": png[:-12]
        + png_chunk(b"eXIf", exif(8).removeprefix(b"Exif\0\0"))
        + png[-12:],
        "png xmp": png[:33] + png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp(6)) + png[33:],
        "png large exif": encoded(rgb, "PNG", exif=exif(6) + bytes(500_000)),
        "apng": encoded(rgb, "PNG", save_all=True, append_images=[other] * 50),
        "gif film": encoded(
            rgb.quantize(16), "GIF", save_all=True, append_images=[other.quantize(16), rgb.quantize(9)] * 200
        ),
        "webp xmp": encoded(rgb, "WEBP", lossless=True, xmp=xmp(5)),
        "webp film": encoded(rgb, "WEBP", lossless=True, save_all=True, append_images=[other] * 20),
        "tiff pages": encoded(rgb, "TIFF", save_all=True, append_images=[other] * 20),
        "tiff big": encoded(rgb, "TIFF", big_tiff=True),
        "tiff strips": encoded(rgb, "TIFF", tiffinfo={278: 1}),
        "tiff orientation": encoded(rgb, "TIFF", tiffinfo={274: 6}),
        "tiff xmp": encoded(rgb, "TIFF", tiffinfo={700: xmp(6)}),
        "tiff large tag": encoded(rgb, "TIFF", tiffinfo={274: 6, 37724: bytes(3_000_000)}),
        "tiff fax": encoded(gray.convert("1"), "TIFF", compression="group4"),
        "avif": encoded(rgb, "AVIF", exif=exif(6)),
        "avif film": encoded(rgb, "AVIF", save_all=True, append_images=[other] * 3),
    }
    for quality in (1, 50, 100):
        for subsampling in (0, 1, 2):
            files[f"jpeg {quality} {subsampling}"] = encoded(
                rgb, "JPEG", quality=quality, subsampling=subsampling, optimize=True, restart_marker_rows=1
            )
    for compression in ("raw", "packbits", "tiff_lzw", "tiff_adobe_deflate", "jpeg", "lzma", "zstd"):
        for mode in ("RGB", "L", "CMYK"):
            files[f"tiff {compression} {mode}"] = encoded(rgb.convert(mode), "TIFF", compression=compression)
    for mode in ("1", "L", "P", "RGB"):
        files[f"bmp {mode}"] = encoded(rgb.quantize(9) if mode == "P" else rgb.convert(mode), "BMP")
        files[f"png {mode}"] = encoded(rgb.quantize(9) if mode == "P" else rgb.convert(mode), "PNG")
    return files


CAMERAS = _cameras()
VARIANTS = _variants()

_JPEG, _PNG = encoded(gradient(), "JPEG"), encoded(gradient(), "PNG")
_GIF = encoded(gradient().quantize(4), "GIF")
_GIF_START = 13 + (3 << (_GIF[10] & 7) + 1)


def _in_jpeg(part: bytes) -> bytes:
    return _JPEG[:2] + part + _JPEG[2:]


def _in_gif(part: bytes) -> bytes:
    return _GIF[:_GIF_START] + part + _GIF[_GIF_START:]


def _directory(*entries: bytes) -> bytes:
    size = [struct.pack("<HHII", tag, 4, 1, 2000) for tag in (256, 257)]
    return struct.pack("<H", len(entries) + 2) + b"".join([*size, *entries]) + bytes(4)


#: Files made of very many parts: each takes Pillow far too long, or far too much memory.
FLOODS: dict[str, Callable[[], bytes]] = {
    "png chunks": lambda: _PNG[:33] + png_chunk(b"tEXt", b"") * 4_000_000 + _PNG[33:],
    "png pixel chunks": lambda: _PNG[:33] + png_chunk(b"IDAT", b"") * 4_000_000 + _PNG[33:],
    "png chunks at the end": lambda: _PNG[:-12] + png_chunk(b"tEXt", b"") * 4_000_000 + _PNG[-12:],
    "jpeg segments": lambda: _in_jpeg(b"\xff\xfe\0\2" * 12_000_000),
    "jpeg segments at the end": lambda: _JPEG[:-2] + b"\xff\xfe\0\2" * 12_000_000 + _JPEG[-2:],
    "jpeg fill bytes": lambda: _in_jpeg(b"\xff" * 60_000_000),
    "jpeg markers": lambda: _in_jpeg(b"\xff\xd9" * 30_000_000),
    "jpeg tables": lambda: _in_jpeg(segment(0xDB, (b"\0" + b"\1" * 64) * 1000) * 900),
    "jpeg frames": lambda: _in_jpeg(segment(0xC0, b"\x08\0\1\0\1\xff" + b"\1\x11\0" * 20_000) * 1000),
    "jpeg photoshop": lambda: _in_jpeg(
        segment(0xED, b"Photoshop 3.0\0" + b"8BIM\0\0\0\0\0\0\0\0" * 5000) * 1000
    ),
    "gif blocks": lambda: _in_gif(b"!\xfe\1a\0" * 12_000_000),
    "gif comment": lambda: _in_gif(b"!\xfe" + (b"\xff" + b"a" * 255) * 240_000 + b"\0"),
    "gif comment of 3 MB": lambda: _in_gif(b"!\xfe" + (b"\xff" + b"a" * 255) * 12_000 + b"\0"),
    "tiff strips": lambda: (
        b"II*\0\x08\0\0\0"
        + _directory(
            *(
                struct.pack("<HHII", tag, 3, 1, value)
                for tag, value in ((258, 8), (262, 1), (277, 1), (278, 1))
            ),
            struct.pack("<HHII", 273, 4, 15_000_000, 200),
        )
        + bytes(60_000_200)
    ),
    "tiff tags": lambda: (
        b"II*\0"
        + struct.pack("<I", 1_000_008)
        + bytes(1_000_000)
        + _directory(*(struct.pack("<HHII", 40_000 + i, 1, 500_000, 8) for i in range(20_000)))
    ),
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
