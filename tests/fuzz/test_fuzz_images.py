"""Any bytes are an image or an ImageError. VIT_PIPELINE_FUZZ_EXAMPLES=100000 for a long run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import sample_images
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from vit_pipeline.errors import ImageError
from vit_pipeline.images import read_image

EXAMPLES = int(os.environ.get("VIT_PIPELINE_FUZZ_EXAMPLES", "50"))
fuzz = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=EXAMPLES <= 1000,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

HONEST = sample_images.honest_files()
GOOD = sample_images.encoded(sample_images.gradient(), "PNG")
SIGNATURES = st.sampled_from([data[:size] for data in HONEST.values() for size in (4, 12, 40)])


@st.composite
def changed(draw: st.DrawFn) -> bytes:
    """An honest file in which some pieces are replaced, doubled or cut out."""
    data = bytearray(draw(st.sampled_from(list(HONEST.values()))))
    for _ in range(draw(st.integers(1, 5))):
        at = draw(st.integers(0, len(data)))
        end = at + draw(st.integers(0, 12))
        data[at:end] = draw(st.one_of(st.binary(max_size=12), st.just(bytes(data[at:end]) * 2)))
    return bytes(data)


def is_image_or_error(data: bytes, path: Path) -> None:
    path.write_bytes(data)
    try:
        image = read_image(path, max_pixels=4_000_000)
    except ImageError as error:
        assert "\n" not in str(error)
    else:
        assert type(image) is Image.Image
        assert image.mode == "RGB"
        assert len(image.tobytes()) == 3 * image.width * image.height
    assert read_image(GOOD).tobytes() == sample_images.gradient().tobytes()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "fuzz"


@fuzz
@given(data=changed())
def test_changed_files(data: bytes, path: Path) -> None:
    is_image_or_error(data, path)


@fuzz
@given(start=SIGNATURES, rest=st.binary(max_size=300))
def test_bytes_behind_a_signature(start: bytes, rest: bytes, path: Path) -> None:
    is_image_or_error(start + rest, path)


@fuzz
@given(
    exif=st.binary(max_size=80),
    start=st.sampled_from([b"", b"Exif\0\0", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08"]),
)
def test_exif_blocks_turn_an_image_or_do_nothing(exif: bytes, start: bytes) -> None:
    chunk = sample_images.png_chunk(b"eXIf", start + exif)
    assert sorted(read_image(GOOD[:33] + chunk + GOOD[33:]).size) == [16, 24]
