"""The image door: every kind of source by its pixels, and everything hostile by its one line."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO, StringIO
from pathlib import Path

import numpy as np
import pytest
import sample_images
import torch
from PIL import Image, ImageFile, ImageOps
from PIL.PngImagePlugin import PngImageFile

from vit_pipeline.errors import ImageError, UnsafeURLError
from vit_pipeline.images import read_image, source_name

EXAMPLES = Path(__file__).parents[2] / "examples"
GRADIENT = sample_images.gradient()


def pixels(image: Image.Image) -> list[tuple[int, int, int]]:
    assert image.mode == "RGB"
    return [tuple(int(v) for v in pixel) for pixel in np.asarray(image).reshape(-1, 3)]


def same(one: Image.Image, other: Image.Image) -> bool:
    return one.size == other.size and one.mode == other.mode and one.tobytes() == other.tobytes()


# -- every kind of source ---------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.*g")), ids=lambda path: path.name)
def test_a_photo_has_exactly_pillows_pixels(path: Path) -> None:
    with Image.open(path) as image:
        expected = image.convert("RGB")
    assert same(read_image(path), expected)
    assert same(read_image(str(path)), expected)
    assert same(read_image(path.read_bytes()), expected)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P"])
def test_each_format_and_mode_as_pillow_converts_it(format: str, mode: str, tmp_path: Path) -> None:
    if (format, mode) in {("JPEG", "P"), ("WEBP", "1"), ("WEBP", "P")}:
        pytest.skip("the format has no such mode")
    image = GRADIENT.quantize(16) if mode == "P" else GRADIENT.convert(mode)
    path = tmp_path / "image"
    image.save(path, format, **({"lossless": True} if format == "WEBP" else {}))
    with Image.open(path) as opened:
        assert same(read_image(path), opened.convert("RGB"))


def test_the_forms_of_a_file_agree(tmp_path: Path) -> None:
    data = sample_images.encoded(GRADIENT, "PNG")
    path = tmp_path / "图 片.png"
    path.write_bytes(data)
    url = "data:image/png;base64," + base64.b64encode(data).decode()
    percent = "data:image/png," + "".join(f"%{byte:02x}" for byte in data)

    class Slow(BytesIO):  # a raw stream may return less than asked for
        def read(self, size: int | None = -1) -> bytes:
            return super().read(min(size or 0, 7))

    with path.open("rb") as opened:
        in_memory = (data, bytearray(data), memoryview(data), BytesIO(data), Slow(data), url, percent)
        for source in (str(path), path, opened, *in_memory, GRADIENT):
            assert same(read_image(source), GRADIENT), source_name(source)


def test_arrays_and_tensors() -> None:
    array = np.asarray(GRADIENT)
    gray = array[:, :, 0]
    gray_image = Image.fromarray(gray).convert("RGB")
    assert same(read_image(array), GRADIENT)
    assert same(read_image(array[:, ::-1]), GRADIENT.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    assert same(read_image(gray), gray_image)
    assert same(read_image(gray[:, :, None]), gray_image)
    for dtype in (np.float16, np.float32, np.float64):
        assert same(read_image(array.astype(dtype) / dtype(255)), GRADIENT)
    assert same(read_image(array.astype(np.uint16) * 257), GRADIENT)
    assert pixels(read_image(np.array([[True, False]]))) == [(255,) * 3, (0,) * 3]
    assert pixels(read_image(np.array([[[10, 20, 30, 255], [10, 20, 30, 0]]], np.uint8))) == [
        (10, 20, 30),
        (255, 255, 255),
    ]
    tensor = torch.tensor(array).permute(2, 0, 1)
    assert same(read_image(tensor), GRADIENT)
    assert same(read_image((tensor / 255).requires_grad_()), GRADIENT)
    assert same(read_image(tensor[:1]), gray_image)
    assert pixels(read_image(torch.full((3, 1, 1), 0.5, dtype=torch.bfloat16))) == [(128, 128, 128)]
    assert array.flags.writeable is False or np.array_equal(array, np.asarray(GRADIENT))


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (np.zeros((3, 8, 9), np.uint8), "(H, W, C)"),
        (np.zeros((1, 8, 9, 3), np.uint8), "must be (H, W)"),
        (np.zeros((0, 9, 3), np.uint8), "no pixels"),
        (np.zeros((2, 2), np.int64), "dtype int64"),
        (np.full((2, 2), 255.0), "from 255 to 255, not 0 to 1"),
        (np.full((2, 2), np.nan), "0 to 1"),
        (np.array([["a"]]), "dtype"),
        (torch.zeros(8, 9, 3), "(C, H, W)"),
        (torch.zeros(1, 3, 8, 9), "of a batch"),
    ],
)
def test_arrays_that_are_no_image(source: object, words: str) -> None:
    with pytest.raises(ImageError) as caught:
        read_image(source)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


# -- colours ----------------------------------------------------------------------------------------------


def _one(mode: str, value: object) -> Image.Image:
    return Image.new(mode, (1, 1), value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (_one("L", 77), (77, 77, 77)),
        (_one("1", 1), (255, 255, 255)),
        (_one("RGBA", (200, 100, 0, 255)), (200, 100, 0)),
        (_one("RGBA", (200, 100, 0, 0)), (255, 255, 255)),
        (_one("RGBA", (200, 100, 0, 51)), (244, 224, 204)),
        (_one("LA", (100, 51)), (224, 224, 224)),
        (_one("LA", (100, 0)), (255, 255, 255)),
        (_one("RGBA", (200, 100, 0, 51)).convert("RGBa"), (244, 224, 204)),
        (_one("LA", (100, 51)).convert("La"), (224, 224, 224)),
        (_one("CMYK", (0, 255, 255, 0)), (255, 0, 0)),
        (_one("I;16", 40000), (156, 156, 156)),
        (_one("I;16", 65535), (255, 255, 255)),
        (_one("I;16", 128), (0, 0, 0)),
        (_one("I;16", 129), (1, 1, 1)),
        (_one("I", 40000), (156, 156, 156)),
        (_one("F", 0.5), (128, 128, 128)),
        (_one("F", 1.0), (255, 255, 255)),
        (_one("F", 200.4), (200, 200, 200)),
        (_one("YCbCr", (128, 128, 128)), (128, 128, 128)),
        (_one("HSV", (0, 255, 255)), (255, 0, 0)),
    ],
    ids=lambda value: value.mode if isinstance(value, Image.Image) else str(value),
)
def test_colours_become_rgb(image: Image.Image, expected: tuple[int, int, int]) -> None:
    assert pixels(read_image(image)) == [expected]


def test_sixteen_bit_files_are_scaled_not_clipped(tmp_path: Path) -> None:
    gray = Image.new("I;16", (2, 1))
    gray.putdata([40000, 257])
    assert pixels(read_image(sample_images.encoded(gray, "PNG"))) == [(156,) * 3, (1,) * 3]
    gray.save(tmp_path / "gray.tif")
    assert pixels(read_image(tmp_path / "gray.tif")) == [(156,) * 3, (1,) * 3]
    row = b"\0" + bytes.fromhex("c000 8000 4000")
    assert pixels(read_image(sample_images.png(1, 1, row, bits=16))) == [(0xC0, 0x80, 0x40)]
    clear = sample_images.png_chunk(b"tRNS", bytes.fromhex("9c40"))  # 40000 is the transparent gray
    row = b"\0" + bytes.fromhex("9c40 0101")
    assert pixels(read_image(sample_images.png(2, 1, row, clear, bits=16, kind=0))) == [(255,) * 3, (1,) * 3]


@pytest.mark.parametrize(
    "image",
    [
        *(_one("I", 70000), _one("I", -1), _one("F", 300.0), _one("F", float("nan"))),
        Image.fromarray(np.array([[0.5, np.nan]], np.float32)),
    ],
)
def test_values_out_of_range_are_refused_not_clipped(image: Image.Image) -> None:
    with pytest.raises(ImageError, match="scale them"):
        read_image(image)


def test_every_value_of_sixteen_bits_is_rounded() -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    expected = (values.astype(int) + 128) // 257
    for source in (
        values,
        values.astype(">u2"),
        Image.fromarray(values),
        Image.fromarray(values.astype(np.int32)),
    ):
        assert np.array_equal(np.asarray(read_image(source))[:, :, 0], expected)


def test_transparency_of_palettes_and_colour_keys() -> None:
    palette = Image.new("P", (3, 1))
    palette.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    palette.putdata([0, 1, 2])
    red, green, blue, white = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
    assert pixels(read_image(sample_images.encoded(palette, "PNG"))) == [red, green, blue]
    assert pixels(read_image(sample_images.encoded(palette, "PNG", transparency=1))) == [red, white, blue]
    some = sample_images.encoded(palette, "PNG", transparency=bytes([255, 0, 51]))
    assert pixels(read_image(some)) == [red, white, (204, 204, 255)]
    assert pixels(read_image(sample_images.encoded(palette, "GIF", transparency=2))) == [red, green, white]
    key = sample_images.encoded(palette.convert("RGB"), "PNG", transparency=green)
    assert pixels(read_image(key)) == [red, white, blue]
    assert pixels(read_image(sample_images.encoded(Image.new("LA", (1, 1), (9, 0)), "PNG"))) == [white]
    assert pixels(
        read_image(sample_images.encoded(Image.new("RGBA", (1, 1), (9, 9, 9, 0)), "WEBP", lossless=True))
    ) == [white]


def test_cmyk_jpeg() -> None:
    data = sample_images.encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=100)
    assert np.abs(np.asarray(read_image(data)).astype(int) - (255, 0, 0)).max() <= 3


def turned_away(orientation: int) -> Image.Image:
    """What becomes the gradient when it is turned as this orientation asks."""
    image = GRADIENT.copy()
    image.getexif()[0x0112] = {6: 8, 8: 6}.get(orientation, orientation)
    return ImageOps.exif_transpose(image)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(format: str, orientation: int, tmp_path: Path) -> None:
    turned = turned_away(orientation)
    options = {
        "JPEG": {"quality": 100, "subsampling": 0},
        "WEBP": {"lossless": True},
        "AVIF": {"quality": 100, "subsampling": "4:4:4"},
    }.get(format, {})
    path = tmp_path / "image"
    turned.save(path, format, exif=sample_images.exif(orientation), **options)
    image = read_image(path)
    assert image.size == GRADIENT.size
    assert np.abs(np.asarray(image).astype(int) - np.asarray(GRADIENT)).max() <= (
        {"JPEG": 6, "AVIF": 12}.get(format, 0)
    )
    assert not image.getexif()
    assert same(image, read_image(image))
    with Image.open(path) as opened:
        assert same(read_image(opened), image)


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_animated_files_give_the_first_frame(format: str, tmp_path: Path) -> None:
    red, blue = Image.new("RGB", (9, 7), "red"), Image.new("RGB", (9, 7), "blue")
    path = tmp_path / "animated"
    options = {"lossless": True} if format == "WEBP" else {}
    red.save(path, format, save_all=True, append_images=[blue, red], **options)
    assert set(pixels(read_image(path))) == {(255, 0, 0)}


def test_the_result_is_a_image_of_its_own() -> None:
    source = GRADIENT.copy()
    source.info["transparency"] = (1, 2, 3)
    image = read_image(source)
    image.paste("black", (0, 0, *image.size))
    assert same(source, GRADIENT)
    assert source.info == {"transparency": (1, 2, 3)}
    assert type(image) is Image.Image
    assert image.info == {}
    source.info = {"dpi": (72, 72)}
    assert read_image(source).info == {}


def test_draft_reads_a_large_jpeg_smaller_but_not_too_small() -> None:
    data = sample_images.encoded(sample_images.gradient(800, 400), "JPEG", exif=sample_images.exif(6))
    assert read_image(data).size == (400, 800)
    assert read_image(data, draft=(100, 150)).size == (100, 200)
    assert read_image(data, draft=(300, 300)).size == (400, 800)
    assert read_image(sample_images.encoded(GRADIENT, "PNG"), draft=(1, 1)).size == GRADIENT.size


# -- refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html>", "HTML"),
        (b"\n <HTML><body>404", "HTML"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"hello, this is a text", "text"),
        ("你好，这是一段文字".encode(), "text"),
        (b"%PDF-1.7", "PDF"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b"\0\0\0\x18ftypmp42", "video"),
        (b"\0\0\0\x18ftypheic", "HEIC"),
        (b"\0\0\0\x18ftypavif", "AVIF"),
        (bytes(range(128, 256)), "no image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "not an image"),
        (sample_images.encoded(GRADIENT, "TIFF"), "local files only"),
        (sample_images.encoded(GRADIENT, "PNG")[:-30], "cut short"),
        (sample_images.encoded(GRADIENT, "JPEG")[:-30], "cut short"),
        (sample_images.png(30_000, 30_000), "900.0 megapixels"),
        (sample_images.png(100_000, 1), "cut it up"),
        (sample_images.png(0, 5), "cannot be decoded"),
        ("/no/such/file.jpg", "no such file"),
        ("a\0b.jpg", "cannot be opened"),
        ("file:///etc/passwd", "only http and https"),
        ("gopher://127.0.0.1/x", "only http and https"),
        ("http:/127.0.0.1/x.png", "no host"),
        ("data:image/png;base64,@@@", "base64"),
        ("data:image/png", "comma"),
        ("data:,hello", "text"),
        (StringIO("text"), "mode 'rb'"),
        (None, "not an image"),
        ({"path": "/no/such/x.png"}, "no such file"),
        ({}, "not an image"),
        (7, "not an image"),
    ],
    ids=lambda value: repr(value).partition(" at 0x")[0][:40],
)
def test_what_is_no_image_says_so_in_one_line(source: object, words: str) -> None:
    with pytest.raises(ImageError) as caught:
        read_image(source)
    message = str(caught.value)
    assert words in message
    assert "\n" not in message
    assert message.startswith(source_name(source)[:20])


def test_files_that_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    (tmp_path / "text.jpg").write_text("not an image, just text")
    for path, words in (
        (tmp_path, "folder"),
        (tmp_path / "pipe", "pipe"),
        (tmp_path / "link", "device"),
        (tmp_path / "text.jpg", "text"),
        (tmp_path / "text.jpg" / "x", "cannot be opened"),
    ):
        with pytest.raises(ImageError, match=words):
            read_image(path)


def test_a_pipe_that_takes_a_files_place_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr(Path, "is_file", lambda self: True)
    errors: list[str] = []

    def read() -> None:
        try:
            read_image(tmp_path / "pipe")
        except ImageError as error:
            errors.append(str(error))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(30)
    assert [error.endswith("empty (0 bytes); download or save it again") for error in errors] == [True]


def test_caps() -> None:
    data = sample_images.encoded(GRADIENT, "PNG")
    for source in (data, BytesIO(data), "data:;base64," + base64.b64encode(data).decode()):
        with pytest.raises(ImageError, match=f"{len(data) - 1} bytes that are read"):
            read_image(source, max_bytes=len(data) - 1)
    assert same(read_image(BytesIO(data), max_bytes=len(data)), GRADIENT)
    for source in (data, GRADIENT, np.asarray(GRADIENT)):
        with pytest.raises(ImageError, match="24×16"):
            read_image(source, max_pixels=24 * 16 - 1)
    with pytest.raises(ImageError, match="bytes that are read"):
        read_image("data:;base64," + "@" * 10_000, max_bytes=100)  # too long to be decoded at all
    with pytest.raises(ImageError, match="only JPEG are allowed"):
        read_image(data, formats=("JPEG",))


def test_an_endless_stream_ends_at_the_cap() -> None:
    class Endless:
        given = 0

        def read(self, size: int) -> bytes:
            self.given += min(size, 1000)
            return bytes(min(size, 1000))

    class Deaf(Endless):
        def read(self, size: int) -> bytes:
            return super().read(1000)

    for stream, given in ((Endless(), 5001), (Deaf(), 6000)):
        with pytest.raises(ImageError, match="bytes that are read"):
            read_image(stream, max_bytes=5000)
        assert stream.given == given


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("cat.jpg", "cat.jpg"),
        (Path("a/b.png"), str(Path("a/b.png"))),
        ("https://user:secret@example.com/a@b.png?x=@", "https://***@example.com/a@b.png?x=@"),
        ("http://a@b@c/x", "http://***@c/x"),
        ("http://user:se\\cret@example.com/", "http://***@example.com/"),
        ("a\nb\x1b[31m.jpg", "a b.jpg"),
        (b"1234", "<bytes, 4 bytes>"),
        (memoryview(b"1234"), "<bytes, 4 bytes>"),
        (Image.new("L", (640, 480)), "<PIL image 640×480>"),
        (np.zeros((300, 451, 3), np.uint8), "<array (300, 451, 3) uint8>"),
        (torch.zeros(3, 4, 5), "<tensor (3, 4, 5) float32>"),
        ("data:image/png;base64," + "A" * 100, "data:image/png;base64,AAAAAAAAAAAAAAAAAA… (122 characters)"),
        (BytesIO(), "<file>"),
        (None, "<NoneType>"),
    ],
)  # fmt: skip
def test_source_name(source: object, name: str) -> None:
    assert source_name(source) == name


def test_messages_name_the_input_and_hide_passwords() -> None:
    with pytest.raises(UnsafeURLError) as caught:
        read_image("http://user:secret@example.com/" + "x" * 5000)
    assert "secret" not in str(caught.value)
    assert "user name or password" in str(caught.value)


# -- hostile ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_exif_bombs_cost_nothing(tmp_path: Path) -> None:
    """Entries that all mean the same bytes: gigabytes to a reader that believes them."""
    bomb = sample_images.exif_bomb()
    png, jpeg = sample_images.encoded(GRADIENT, "PNG"), sample_images.encoded(GRADIENT, "JPEG")
    parts = [bomb[at : at + 60_000] for at in range(0, len(bomb), 60_000)]
    files = {
        "png": png[:33] + sample_images.png_chunk(b"eXIf", bomb) + png[33:],
        "raw profile": png[:33] + sample_images.raw_profile(bomb[-60_000:]) + png[33:],
        "webp": sample_images.encoded(GRADIENT, "WEBP", lossless=True, exif=bomb),
        "jpeg": jpeg[:2] + b"".join(sample_images.segment(0xE1, b"Exif\0\0" + p) for p in parts) + jpeg[2:],
    }
    for name, data in files.items():
        result, peak = read_elsewhere(data, tmp_path)
        assert result.startswith("(24, 16)"), name
        assert peak < 300_000, name


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in sample_images.FLOODS if not name.startswith("tiff")])
def test_files_of_too_many_parts_are_rejected(name: str) -> None:
    data = sample_images.FLOODS[name]()
    with pytest.raises(ImageError, match="more parts"):
        read_image(data)


@pytest.mark.slow
def test_a_tiff_of_too_many_strips_is_rejected(tmp_path: Path) -> None:
    for name in ("tiff strips", "tiff tags"):
        (tmp_path / name).write_bytes(sample_images.FLOODS[name]())
        result, peak = read_elsewhere((tmp_path / name).read_bytes(), tmp_path)
        assert result.startswith("ImageError"), name
        assert peak < 300_000, name


def test_a_size_that_changes_while_it_is_decoded_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a HEIC's may: only the size in its container was checked."""
    real = PngImageFile.load

    def load(image: PngImageFile) -> object:
        result = real(image)
        image._size = (2, 2)
        return result

    monkeypatch.setattr(PngImageFile, "load", load)
    with pytest.raises(ImageError, match="size changes from"):
        read_image(sample_images.encoded(GRADIENT, "PNG"))


def test_an_avif_of_too_many_items_is_rejected(tmp_path: Path) -> None:
    data = sample_images.encoded(GRADIENT, "AVIF")
    at = data.index(b"iloc") + 10  # version and flags, widths of the fields, then how many there are
    (tmp_path / "many.avif").write_bytes(data[:at] + (60_000).to_bytes(2) + data[at + 2 :])
    with pytest.raises(ImageError, match="parts"):
        read_image(tmp_path / "many.avif")


@pytest.mark.slow
def test_slow_decoders_are_kept_from_their_worst() -> None:
    assert read_image(sample_images.honest_files()["rle"]).size == (4, 2)
    with pytest.raises(ImageError, match="run-length"):
        read_image(sample_images.rle_bmp(60_000, 300, b"\0\2\xff\xff" * 10))
    with pytest.raises(ImageError, match="parts"):
        read_image(sample_images.rle_bmp(2000, 1500, b"\1\1" * 3_000_000))
    progressive = sample_images.encoded(Image.new("L", (3000, 3000)), "JPEG", progressive=True)
    last = progressive.rindex(b"\xff\xda")
    with pytest.raises(ImageError, match="scans"):
        read_image(progressive[:-2] + progressive[last:-2] * 140 + progressive[-2:])
    with pytest.raises(ImageError, match="scans"):  # an end of the image where none can be hides nothing
        read_image(progressive[:2] + b"\xff\xd9" + progressive[2:-2] + progressive[last:-2] * 140)
    arithmetic = progressive.replace(b"\xff\xc2", b"\xff\xca", 1)
    with pytest.raises(ImageError, match="scans"):
        read_image(arithmetic[:-2] + arithmetic[last:-2] * 50 + arithmetic[-2:])


# -- what cameras and other programs write ----------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(sample_images.CAMERAS | sample_images.VARIANTS))
def test_honest_files_are_read_as_pillow_reads_them(name: str, tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes((sample_images.CAMERAS | sample_images.VARIANTS)[name])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(path) as image:
            expected = ImageOps.exif_transpose(image).convert("RGB")
    assert same(read_image(path), expected)


@pytest.mark.parametrize(
    ("name", "orientation"),
    [("jpeg xmp only", 8), ("png xmp", 6), ("png raw profile", 6), ("webp xmp", 5), ("tiff xmp", 6),
     ("jpeg maker note", 6), ("jpeg exif twice", 6), ("jpeg exif and extended xmp", 6), ("png large exif", 6),
     ("png exif behind the pixels", 8), ("tiff orientation", 6), ("tiff large tag", 6)],
)  # fmt: skip
def test_the_orientation_wherever_it_stands(name: str, orientation: int, tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes((sample_images.CAMERAS | sample_images.VARIANTS)[name])
    turned = GRADIENT.copy()
    turned.getexif()[0x0112] = orientation
    expected = ImageOps.exif_transpose(turned)
    image = read_image(path)
    assert image.size == expected.size
    assert np.abs(np.asarray(image).astype(int) - np.asarray(expected)).max() <= (
        60 if name.startswith("jpeg") else 0
    )


def test_big_endian_sixteen_bits(tmp_path: Path) -> None:
    wide = Image.frombytes("I;16B", (2, 1), (40000).to_bytes(2) + (257).to_bytes(2))
    wide.save(tmp_path / "wide.tif")
    assert pixels(read_image(tmp_path / "wide.tif")) == [(156,) * 3, (1,) * 3]
    assert pixels(read_image(wide)) == [(156,) * 3, (1,) * 3]


def test_rows_of_datasets(tmp_path: Path) -> None:
    data = sample_images.encoded(GRADIENT, "PNG")
    (tmp_path / "a.png").write_bytes(data)
    assert same(read_image({"bytes": data, "path": "train/a.png"}), GRADIENT)
    assert same(read_image({"bytes": None, "path": str(tmp_path / "a.png")}), GRADIENT)
    assert source_name({"bytes": data, "path": "train/a.png"}) == "train/a.png"
    assert source_name({"bytes": data, "path": None}) == f"<bytes, {len(data)} bytes>"
    with pytest.raises(ImageError, match="not an image"):
        read_image({"bytes": None, "path": None})


def test_corrupt_exif_warns_nobody(tmp_path: Path) -> None:
    exif = sample_images.CAMERAS["jpeg exif cut short"]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        read_image(exif)
    assert not caught


HEIC = Path(__file__).parents[1] / "data" / "orientation.heic"


def test_heic_with_its_extra(tmp_path: Path) -> None:
    pytest.importorskip("pi_heif")
    assert read_image(HEIC).size == (16, 24)
    with pytest.raises(ImageError, match="local files only"):
        read_image(HEIC.read_bytes())


def test_heic_without_its_extra_says_what_to_type(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    with pytest.raises(ImageError, match="pip install pi-heif"):
        read_image(HEIC)


# -- larger than the caps ---------------------------------------------------------------------------------


def test_a_jpeg_above_the_cap_is_read_smaller() -> None:
    whole = sample_images.gradient(800, 400)
    for options in ({}, {"progressive": True}):
        data = sample_images.encoded(whole, "JPEG", quality=95, exif=sample_images.exif(6), **options)
        assert read_image(data, max_pixels=320_000).size == (400, 800)
        assert read_image(data, max_pixels=319_999).size == (200, 400)
        assert read_image(data, max_pixels=5000).size == (50, 100)
        with pytest.raises(ImageError, match="scale it down, or raise max_pixels"):
            read_image(data, max_pixels=4999)


def test_a_progressive_jpeg_that_needs_too_much_memory_is_rejected() -> None:
    data = sample_images.encoded(GRADIENT, "JPEG", progressive=True)
    size = data.index(b"\xff\xc2") + 5
    first, second, *rest = data.split(b"\xff\xda")
    huge = b"\xff\xda".join([first, second, rest[0]])  # of two scans
    huge = huge[:size] + (20_000).to_bytes(2) * 2 + huge[size + 4 :]
    with pytest.raises(ImageError, match=r"more than the 142 that are read of such a JPEG"):
        read_image(huge)


def test_raising_max_pixels_is_true_advice() -> None:
    data = sample_images.png(7100, 7100, bytes(7101) * 7100, kind=0)
    with pytest.raises(ImageError, match="raise max_pixels"):
        read_image(data)
    assert read_image(data, max_pixels=7100 * 7100).size == (7100, 7100)


def test_broken_files_are_images_or_image_errors_and_leave_no_trace(tmp_path: Path) -> None:
    good = (EXAMPLES / "cat.png").read_bytes()
    before = read_image(good).tobytes()
    state = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters))
    refused = 0
    path = tmp_path / "broken"
    for number, (name, data) in enumerate(sample_images.broken_files(40)):
        path.write_bytes(data)
        try:
            assert read_image(path).mode == "RGB", name
        except ImageError as error:
            refused += str(error).startswith(str(path))
        if number % 40 == 0:
            assert read_image(good).tobytes() == before, name
    assert refused > 150  # the corpus is hostile
    assert state == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters))


@pytest.mark.parametrize("name", ["jpeg", "png", "webp", "gif", "bmp", "lzw"])
def test_an_image_cut_anywhere_in_its_pixels_raises(name: str, tmp_path: Path) -> None:
    data = sample_images.honest_files()[name]
    path = tmp_path / "cut"
    path.write_bytes(data)
    whole = read_image(path)
    for length in range(0, len(data), 7):
        path.write_bytes(data[:length])
        try:
            image = read_image(path)
        except ImageError:
            continue
        assert same(image, whole), length  # only what stands behind the last pixel may be missing


def test_threads_read_what_one_thread_reads(tmp_path: Path) -> None:
    files = [data for name, data in sample_images.broken_files(12) if not name.startswith("rle")]
    paths = [tmp_path / str(number) for number in range(len(files))]
    for path, data in zip(paths, files, strict=True):
        path.write_bytes(data)

    def result(path: Path) -> bytes | str:
        try:
            return read_image(path).tobytes()
        except ImageError as error:
            return str(error).split(" at 0x")[0]

    alone = [result(path) for path in paths]
    filters = list(warnings.filters)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(result, paths)) == alone
    assert warnings.filters == filters
    assert threading.active_count() < 20


_PEAK = """
import sys
import numpy
from pathlib import Path
from vit_pipeline.images import read_image
try:
    print(read_image(Path(sys.argv[1])).size)
except Exception as error:
    print(type(error).__name__, error)
# Not getrusage(): its maximum is inherited from the process that started this one.
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def read_elsewhere(data: bytes, folder: Path) -> tuple[str, int]:
    """What a process of its own answers, and its peak memory in kB."""
    if not Path("/proc/self/status").exists():
        pytest.skip("the peak is read from Linux's /proc")
    (folder / "image").write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-c", _PEAK, str(folder / "image")], capture_output=True, timeout=600, check=True
    )
    result, peak = done.stdout.decode().splitlines()
    return result, int(peak)


def large_jpeg(width: int, height: int, **options: object) -> bytes:
    """A JPEG of any size: a small one's rows, repeated."""
    return sample_images.encoded(Image.new("RGB", (width, height), (90, 30, 9)), "JPEG", **options)


_LARGEST: dict[str, tuple[Callable[[], bytes], str, int]] = {
    "rgba": (lambda: sample_images.png(8000, 6000, bytes(32_001) * 6000, kind=6), "(8000, 6000)", 600),
    "sixteen": (
        lambda: sample_images.png(7000, 7000, bytes(14_001) * 7000, kind=0, bits=16), "(7000, 7000)", 600,
    ),
    "48 megapixels": (lambda: large_jpeg(8064, 6048, exif=sample_images.exif(6)), "(6048, 8064)", 600),
    "progressive": (lambda: large_jpeg(8064, 6048, progressive=True, subsampling=0), "(8064, 6048)", 600),
    "108 megapixels": (lambda: large_jpeg(12_000, 9000), "(6000, 4500)", 600),
    "108 megapixels, progressive": (
        lambda: large_jpeg(12_000, 9000, progressive=True, subsampling=0), "(6000, 4500)", 1200,
    ),
    "cmyk": (
        lambda: sample_images.encoded(Image.new("CMYK", (7000, 7000)), "JPEG", progressive=True),
        "(7000, 7000)", 1000,
    ),
    "webp": (
        lambda: sample_images.encoded(Image.new("RGBA", (7000, 7000)), "WEBP", lossless=True, method=0),
        "(7000, 7000)", 1000,
    ),
    "large webp": (
        lambda: sample_images.encoded(Image.new("RGBA", (7050, 7050)), "WEBP", lossless=True, method=0),
        "(7050, 7050)", 1000,
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", _LARGEST)
def test_memory_of_the_largest_images_is_bounded(name: str, tmp_path: Path) -> None:
    make, answer, most = _LARGEST[name]
    result, peak = read_elsewhere(make(), tmp_path)
    assert result.startswith(answer)
    assert 20_000 < peak < most * 1000
